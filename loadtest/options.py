"""The flags of a storm, and what they come to: the scenario with its changes, the nodes, where tokens come from."""

import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

import msgspec

from loadtest import tokens
from loadtest.scenarios import SCENARIOS, STEADY, Scenario
from loadtest.tokens import Mint

if TYPE_CHECKING:  # Locust makes the whole process gevent's
    from locust.argument_parser import LocustArgumentParser

MOST_ROOMS = 10_000
MOST_RATE = 1_000
LONGEST_S = 1e9
_SHORTEST_SECRET = 32  # bytes: what nodes refuse below


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What the flags ask for."""

    scenario: Scenario
    hosts: tuple[str, ...]
    mint: Mint
    seed: str
    settle_s: float
    tolerance_ms: int


class Unfit(Exception):
    """What is wrong with the flags: one line for each problem, without any secret."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))


def add_options(parser: "LocustArgumentParser") -> None:
    """Beside Locust's own `--host` (several by commas), `--users`, `--spawn-rate`, `--run-time`, `--processes`."""
    add, secret = parser.add_argument, {"include_in_web_ui": False}
    names = ", ".join(f"{scenario.name}: {scenario.meaning}" for scenario in SCENARIOS.values())
    add("--scenario", default=STEADY.name, choices=list(SCENARIOS), help=f"{names} (default {STEADY.name})")
    add("--ttl", type=float, help=f"life of a token in seconds (default {STEADY.ttl_s:g})")
    add("--renewing", type=float, help=f"share of people who renew in place (default {STEADY.renewing:g})")
    add("--rooms", type=int, help=f"rooms of all people together (default {STEADY.rooms})")
    add("--rate", type=float, help=f"messages a second of one talker (default {STEADY.rate:g})")
    add("--seed", default="tidegate", help="the same people do the same at the same seed")
    add("--settle", type=float, default=20.0, help="seconds that everybody has at the end to be back (default 20)")
    add("--tolerance", type=int, default=250, help="ms past a session's end that count for the way and the clocks (default 250)")
    add("--jwt-secret", env_var="TIDEGATE_JWT_SECRET", help="the cluster's HMAC key", **secret)
    add("--jwt-secret-file", env_var="TIDEGATE_JWT_SECRET_FILE", help="a file with it", **secret)
    add("--jwt-issuer", env_var="TIDEGATE_JWT_ISSUER", help="the claim iss", **secret)
    add("--jwt-audience", env_var="TIDEGATE_JWT_AUDIENCE", help="the claim aud", **secret)
    add("--issuer-url", help='instead: a URL that answers POST {"user", "ttl"} with {"token"}', **secret)


def plan_of(options: Namespace, host: str | None) -> Plan:
    """What the flags ask for. Raises `Unfit` with every problem at once."""
    problems: list[str] = []

    def judge(flag: str, takes: str, fits: Callable[[float], bool], value: float | None, default: float) -> float:
        if value is not None and not fits(value):
            problems.append(f"--{flag}: takes {takes}, got {value:g}")
        return default if value is None else value

    scenario = SCENARIOS[options.scenario]
    changed = msgspec.structs.replace(
        scenario,
        ttl_s=judge("ttl", "seconds, 1 or more", lambda s: 1 <= s <= LONGEST_S, options.ttl, scenario.ttl_s),
        renewing=judge("renewing", "a share from 0 to 1", lambda share: 0 <= share <= 1, options.renewing, scenario.renewing),
        rooms=int(judge("rooms", f"1 to {MOST_ROOMS}", lambda n: 1 <= n <= MOST_ROOMS, options.rooms, scenario.rooms)),
        rate=judge(
            "rate", f"messages a second, over 0 and up to {MOST_RATE}", lambda r: 0 < r <= MOST_RATE, options.rate, scenario.rate
        ),
    )
    settle_s = judge("settle", "seconds, 0 or more", lambda s: 0 <= s <= LONGEST_S, options.settle, 0)
    tolerance_ms = judge("tolerance", "ms, 0 or more", lambda ms: ms >= 0, options.tolerance, 0)
    hosts = _hosts(host, problems)
    mint = _mint(options, changed.ttl_s, problems)
    if problems or mint is None:
        raise Unfit(problems)
    return Plan(
        scenario=changed,
        hosts=hosts,
        mint=mint,
        seed=options.seed,
        settle_s=settle_s,
        tolerance_ms=int(tolerance_ms),
    )


def _hosts(host: str | None, problems: list[str]) -> tuple[str, ...]:
    hosts = tuple(part.strip().rstrip("/") for part in (host or "").split(",") if part.strip())
    for one in hosts:
        if urlsplit(one).scheme != "http" or not urlsplit(one).hostname:
            problems.append(f"--host: takes http://host:port, several by commas, got {one!r}")
    if not hosts:
        problems.append("--host: takes http://host:port, several by commas, got nothing")
    return hosts


def _mint(options: Namespace, ttl_s: float, problems: list[str]) -> Mint | None:
    if options.issuer_url is not None:
        return tokens.fetched(options.issuer_url, ttl_s=ttl_s)
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
    return tokens.minted(secret, ttl_s=ttl_s, issuer=options.jwt_issuer, audience=options.jwt_audience)


def refuse(unfit: Unfit) -> NoReturn:
    """Tell what is wrong with the flags, and end with 2."""
    print(unfit, file=sys.stderr)  # noqa: T201 - for whoever gave the command
    sys.exit(2)
