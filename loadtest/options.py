"""The flags of a storm, and what they come to: the scenario with its changes, the nodes, where tokens come from, what is written where.

Each flag has a variable too: `--cliff-at` is `TIDEGATE_STORM_CLIFF_AT`, and Locust's own are `LOCUST_USERS` and so on.
"""

import os
import re
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn
from urllib.parse import urlsplit

import msgspec

from loadtest import objectives, tokens
from loadtest.recorded import Recorded, Unreadable, read_sessions
from loadtest.scenarios import KINDS, SCENARIOS, STEADY, Scenario
from loadtest.shapes import Shape
from loadtest.tokens import Mint

if TYPE_CHECKING:  # Locust makes the whole process gevent's
    from locust.argument_parser import LocustArgumentParser

MOST_ROOMS = 10_000
MOST_RATE = 1_000
MOST_NODES = 16
LONGEST_S = 1e9
_NUMBERS = {"ttl": float, "cliff_at": float, "renewing": float, "rate": float, "share": float, "rooms": int}
_PREFIX = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_REPLAY_RATE = 100  # people a second, away until the log has them: more at a time, and Locust warns
_REPLAY_REST_S, _REPLAY_OVER_S = 1.0, 5.0  # from the last arrival to the log, and behind it
_SHORTEST_SECRET = 32  # bytes: what nodes refuse below
Clients = Literal["ours", "stock"]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What the flags ask for."""

    scenario: Scenario
    hosts: tuple[str, ...]
    mint: Mint
    seed: str
    prefix: str
    settle_s: float
    tolerance_ms: int
    clients: Clients = "ours"
    local: int = 0  # nodes of a cluster that the storm starts itself
    hook: str | None = None
    report: Path | None = None  # without its suffix
    title: str = ""
    limits: dict[str, float] = {}  # of its objectives
    watched: tuple[int, ...] = ()  # processes
    recorded: Recorded | None = None
    sessions: str = ""  # the name of the file that it is of
    speed: float = 1.0  # of the replay

    @property
    def stock(self) -> bool:
        """Whether people have stock clients."""
        return self.clients == "stock"

    def told(self) -> dict[str, Any]:
        """What of it stands in the report, which is what there is to say to have the storm again; nothing that it does not use, and
        nothing secret.
        """
        scenario, replays = self.scenario, self.recorded is not None
        found = {
            "scenario": scenario.name,
            "users": scenario.users,
            "nodes": len(self.hosts),
            "hosts": f"{self.local} of its own" if self.local else ", ".join(_public(host) for host in self.hosts),
            "clients": self.clients,
            "arriving within (s)": round(scenario.arrive_s, 3),
            "running for (s)": round(scenario.run_s, 3),
            "it happens at (s)": None if scenario.strike == "nothing" else round(scenario.strike_s, 3),
            "by a hook": True if self.hook is not None and scenario.strike in ("drain", "kill", "broker") else None,
            "share": scenario.share if scenario.strike in ("waking", "revocation") else None,
            "sessions": self.sessions if replays else None,
            "speed": self.speed if replays else None,
            "ttl (s)": None if replays else scenario.ttl_s,
            "renewing": None if replays or self.stock else scenario.renewing,
            "rooms": scenario.rooms,
            "rooms of each": None if replays else scenario.rooms_each,
            "messages a second of a talker": scenario.rate,
            "people": None if replays else ", ".join(f"{kind} {weight}" for kind, weight in scenario.people.items()),
            "seed": self.seed,
            "prefix": self.prefix,
            "settle (s)": self.settle_s,
            "tolerance (ms)": self.tolerance_ms,
            "version": _version(),
        }
        return {name: value for name, value in found.items() if value is not None}


def _public(host: str) -> str:
    """Of a URL, which is one of http://, the host and port; without what stands before an @, which may be a password."""
    return urlsplit(host).netloc.rpartition("@")[2]


def _version() -> str | None:
    """Of this load test; None where it runs from its source alone."""
    try:
        return metadata.version("tidegate")
    except metadata.PackageNotFoundError:
        return None


class Unfit(Exception):
    """What is wrong with the flags: one line for each problem, without any secret."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))


def add_options(parser: "LocustArgumentParser") -> None:
    """Beside Locust's own `--host` (several by commas), `--users`, `--spawn-rate`, `--run-time`, `--processes`."""

    def add(flag: str, *, shown: bool = True, **rest: Any) -> None:
        variable = rest.pop("env_var", f"TIDEGATE_STORM_{flag.replace('-', '_').upper()}")
        parser.add_argument(f"--{flag}", env_var=variable, include_in_web_ui=shown, **rest)

    names = ", ".join(f"{scenario.name}: {scenario.meaning}" for scenario in SCENARIOS.values())
    add("scenario", default=STEADY.name, choices=list(SCENARIOS), help=f"{names} (default {STEADY.name})")
    add("ttl", type=float, help="life of a token in seconds")
    add("cliff-at", type=float, help="when it happens, in seconds after the start: the cliff, the first fault, the waking")
    add("renewing", type=float, help="share of people who renew in place")
    add("rooms", type=int, help="rooms of all people together")
    add("rate", type=float, help="messages a second of one talker")
    add("share", type=float, help="share of people who sleep (morning), or whose tokens are withdrawn (revocation)")
    add("people", help="weights of the kinds: talker=3,listener=4,lurker=2,hopper=1")
    add("clients", default="ours", choices=["ours", "stock"], help="ours, or those that do what socket.io-client does by itself")
    add("seed", default="tidegate", help="the same people do the same at the same seed")
    add(
        "prefix",
        default="load",
        help="what the names of people and rooms begin with: another one for a second storm at the same time",
    )
    add("settle", type=float, default=20.0, help="seconds that everybody has at the end to be back (default 20)")
    add(
        "tolerance",
        type=int,
        default=250,
        help="ms past or before a session's end that count for the way and the clocks (default 250)",
    )
    add("sessions", help="replay: a file of sessions, as `tidegate sessions --json` prints them", shown=False)
    add("speed", type=float, default=1.0, help="replay: how many times as fast as it was (default 1)", shown=False)
    add("local", type=int, default=0, help="start a local cluster of so many nodes, and storm that", shown=False)
    add("hook", help="a command that does to a node what the scenario asks for; see docs/storms.md", shown=False)
    add("watch", help="ids of processes, by commas, whose processor time is reported beside", shown=False)
    add("objectives", help="a TOML file of limits; exit 1 when one is missed", shown=False)
    add("report", help="where to write the report: this path, with .html and .json", shown=False)
    add("title", default="", help="what the report is called", shown=False)
    add("brief", action="store_true", help="a line of progress now and then, and no tables of Locust's", shown=False)
    add(
        "prometheus-port",
        type=int,
        help="serve the figures for Prometheus on this port of loopback, without Locust's page",
        shown=False,
    )
    add("jwt-secret", env_var="TIDEGATE_JWT_SECRET", help="the cluster's HMAC key", shown=False)
    add("jwt-secret-file", env_var="TIDEGATE_JWT_SECRET_FILE", help="a file with it", shown=False)
    add("jwt-issuer", env_var="TIDEGATE_JWT_ISSUER", help="the claim iss", shown=False)
    add("jwt-audience", env_var="TIDEGATE_JWT_AUDIENCE", help="the claim aud", shown=False)
    add("issuer-url", help='instead: a URL that answers POST {"user", "ttl"} with {"token"}', shown=False)


def plan_of(options: Namespace, host: str | None, *, form: bool = False) -> Plan:
    """What the flags ask for. Raises `Unfit` with every problem at once. `form`: of a storm that begins, maybe by a form of Locust's page,
    which may have another scenario than that of the command line, whose flags then mean nothing to it.
    """
    problems: list[str] = []
    options = _typed(options, problems)
    recorded = _recorded(options, problems)
    scenario = _scenario(options, recorded, problems)
    judge = _Judge(problems)
    settle_s = judge("settle", "seconds, 0 or more", lambda s: 0 <= s <= LONGEST_S, options.settle, 0)
    tolerance_ms = judge("tolerance", "ms, 0 or more", lambda ms: ms >= 0, options.tolerance, 0)
    local = int(judge("local", f"a number of nodes up to {MOST_NODES}", lambda n: 0 <= n <= MOST_NODES, options.local, 0))
    hosts = () if local and not host else _hosts(host, problems)
    if not _PREFIX.fullmatch(options.prefix or ""):
        problems.append(f"--prefix: takes 1 to 32 of a-z, 0-9 and -, got {options.prefix!r}")
    mint = _mint(options, problems)
    limits, watched = _limits(options, problems), _watched(options, problems)
    problems += _unmet(scenario, local=bool(local), hook=options.hook) + Shape(scenario=scenario).problems()
    if not form:
        problems += _meaningless(options, scenario) + _gone(watched)
    if problems or mint is None:
        raise Unfit(problems)
    return Plan(
        scenario=scenario,
        hosts=hosts,
        mint=mint,
        seed=options.seed or "",
        prefix=options.prefix,
        settle_s=settle_s,
        tolerance_ms=int(tolerance_ms),
        clients=options.clients,
        local=local,
        hook=options.hook,
        report=Path(options.report) if options.report else None,
        title=options.title or "",
        limits=limits,
        watched=watched,
        recorded=recorded,
        sessions=Path(options.sessions).name if recorded is not None else "",
        speed=options.speed,
    )


def _typed(options: Namespace, problems: list[str]) -> Namespace:
    """The flags with numbers for what are numbers: a form on Locust's page gives texts, and empty ones for nothing."""
    given: dict[str, Any] = {name: value or None if isinstance(value, str) else value for name, value in vars(options).items()}
    for name, kind in _NUMBERS.items():
        if isinstance(given[name], str):
            try:
                given[name] = kind(given[name])
            except ValueError:
                problems.append(f"--{name.replace('_', '-')}: takes a number, got {given[name]!r}")
                given[name] = None
    return Namespace(**given)


class _Judge:
    """Collects what does not fit."""

    def __init__(self, problems: list[str]) -> None:
        self._problems = problems

    def __call__(self, flag: str, takes: str, fits: Callable[[float], bool], value: float | None, default: float) -> float:
        if value is not None and not fits(value):
            self._problems.append(f"--{flag}: takes {takes}, got {value:g}")
        return default if value is None else value


def _scenario(options: Namespace, recorded: Recorded | None, problems: list[str]) -> Scenario:
    """The scenario with its changes. Who changes how long it runs, and nothing else, has the same storm in another time."""
    judge, scenario = _Judge(problems), SCENARIOS[options.scenario]
    users = len(recorded.people) if recorded is not None else scenario.users
    users = int(judge("users", "a number of people, 1 or more", lambda n: n >= 1, options.num_users, users))
    if recorded is not None:
        arrive_s = users / (options.spawn_rate or _REPLAY_RATE)
        ahead_s = arrive_s + _REPLAY_REST_S
        run_s = ahead_s + recorded.lasted_s + _REPLAY_OVER_S
        scenario = msgspec.structs.replace(scenario, arrive_s=arrive_s, ahead_s=ahead_s, run_s=run_s)
    run_s = judge("run-time", "a time, over 0", lambda s: s > 0, options.run_time, scenario.run_s)
    scale = min(1.0, run_s / scenario.run_s) if recorded is None else 1.0
    arrive_s = users / options.spawn_rate if options.spawn_rate else scenario.arrive_s * scale
    shares: Callable[[float], bool] = lambda share: 0 <= share <= 1  # noqa: E731 - asked twice
    return msgspec.structs.replace(
        scenario,
        users=users,
        run_s=run_s,
        arrive_s=arrive_s,
        strike_s=judge("cliff-at", "seconds, over 0", lambda s: s > 0, options.cliff_at, scenario.strike_s * scale),
        ttl_s=judge("ttl", "seconds, 1 or more", lambda s: 1 <= s <= LONGEST_S, options.ttl, scenario.ttl_s),
        renewing=judge("renewing", "a share from 0 to 1", shares, options.renewing, scenario.renewing),
        share=judge("share", "a share from 0 to 1", shares, options.share, scenario.share),
        rooms=int(judge("rooms", f"1 to {MOST_ROOMS}", lambda n: 1 <= n <= MOST_ROOMS, options.rooms, scenario.rooms)),
        rate=judge(
            "rate", f"messages a second, over 0 and up to {MOST_RATE}", lambda r: 0 < r <= MOST_RATE, options.rate, scenario.rate
        ),
        people=scenario.people if options.people is None else _people(options.people, problems),
    )


def _people(text: str, problems: list[str]) -> dict[str, int]:
    weights = {}
    for part in text.split(","):
        kind, _, weight = (word.strip() for word in part.partition("="))
        if kind.capitalize() not in KINDS or not weight.isdecimal():
            problems.append(f"--people: takes weights as talker=3,listener=4,lurker=2,hopper=1, got {text!r}")
            return {}
        weights[kind.capitalize()] = int(weight)
    if not any(weights.values()):
        problems.append(f"--people: takes a weight over 0, got {text!r}")
    return weights


def _unmet(scenario: Scenario, *, local: bool, hook: str | None) -> list[str]:
    """What the scenario needs and has not got."""
    if scenario.strike == "broker" and hook is None:
        return ["--hook: takes a command that restarts the broker, for broker-restart, got nothing"]
    if scenario.strike in ("drain", "kill") and hook is None and not local:
        return [f"--local or --hook: takes one of them, for {scenario.name}, got none"]
    return []


def _meaningless(options: Namespace, scenario: Scenario) -> list[str]:
    """What is said of a replay where none is asked for: whoever says it means another scenario.

    A hook and a moment are let pass where nothing happens: a script gives all scenarios the same.
    """
    replay = scenario.name == "replay"
    given = {"sessions": options.sessions is not None and not replay, "speed": options.speed != 1 and not replay}
    return [f"--{flag}: means nothing in {scenario.name}" for flag, meant in given.items() if meant]


def _gone(pids: Sequence[int]) -> list[str]:
    """Which of these processes are not there."""
    return [f"--watch: takes ids of processes that run here, got {pid}" for pid in pids if not _runs(pid)]


def _runs(pid: int) -> bool:
    if pid == 0:  # to the kernel, all of our own
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:  # somebody else's
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def _recorded(options: Namespace, problems: list[str]) -> Recorded | None:
    if options.scenario != "replay":
        return None
    if options.sessions is None:
        problems.append("--sessions: takes a file of sessions, for replay, got nothing")
        return None
    if not 0 < options.speed <= LONGEST_S:
        problems.append(f"--speed: takes a number over 0, got {options.speed:g}")
        return None
    try:
        return read_sessions(Path(options.sessions), speed=options.speed)
    except Unreadable as error:
        problems.append(f"--sessions: takes {error}")
        return None


def _limits(options: Namespace, problems: list[str]) -> dict[str, float]:
    if options.objectives is None:
        return {}
    try:
        return objectives.read(Path(options.objectives), options.scenario)
    except objectives.Unreadable as error:
        problems.append(f"--objectives: takes {error}")
        return {}


def _watched(options: Namespace, problems: list[str]) -> tuple[int, ...]:
    parts = [part.strip() for part in (options.watch or "").split(",") if part.strip()]
    if not all(part.isdecimal() for part in parts):
        problems.append(f"--watch: takes ids of processes, by commas, got {options.watch!r}")
        return ()
    return tuple(map(int, parts))


def _hosts(host: str | None, problems: list[str]) -> tuple[str, ...]:
    hosts = tuple(part.strip().rstrip("/") for part in (host or "").split(",") if part.strip())
    for one in hosts:
        if not _is_host(one):
            problems.append(f"--host: takes http://host:port, several by commas, got {one!r}")
    if not hosts:
        problems.append("--host: takes http://host:port, several by commas, got nothing")
    return hosts


def _is_host(url: str, schemes: Sequence[str] = ("http",)) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:  # of a port that is no number, or of brackets that do not close
        return False


def _mint(options: Namespace, problems: list[str]) -> Mint | None:
    if options.issuer_url is not None:
        if not _is_host(options.issuer_url, schemes=("http", "https")):
            problems.append(f"--issuer-url: takes http://host/path or https://host/path, got {options.issuer_url!r}")
            return None
        return tokens.fetched(options.issuer_url)
    secret = options.jwt_secret
    if secret is None and options.jwt_secret_file is not None:
        try:
            secret = Path(options.jwt_secret_file).read_text().rstrip("\r\n")
        except (OSError, UnicodeDecodeError):
            problems.append(f"--jwt-secret-file: takes a file that can be read, got {options.jwt_secret_file!r}")
            return None
    if secret is None:
        problems.append("--jwt-secret, --jwt-secret-file or --issuer-url: takes one of them, got none")
        return None
    if len(secret.encode()) < _SHORTEST_SECRET:
        problems.append(f"--jwt-secret: takes {_SHORTEST_SECRET} bytes or more, got {len(secret.encode())}")
        return None
    return tokens.minted(secret, issuer=options.jwt_issuer, audience=options.jwt_audience)


def refuse(unfit: Unfit) -> NoReturn:
    """Tell what is wrong with the flags, and end with 2."""
    print(unfit, file=sys.stderr)  # noqa: T201 - for whoever gave the command
    sys.exit(2)
