"""`tidegate storm`: runs a load scenario with Locust, as a process of its own that knows nothing of a node."""

import importlib.util
import os
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from node.cli.dev_secret import dev_secret_file
from node.cli.flags import Command, Takes
from node.cli.screen import complain
from node.config import ConfigurationError, Settings
from node.config_values import Taken, number, one_of, seconds, text, whole

SCENARIOS = ("steady", "cliff", "rolling", "node-loss", "broker-restart", "morning", "revocation", "cross-check", "replay")
LOOPBACK = "127.0.0.1"
REPORTS = "storms"  # the folder of reports
_FILE = Taken("the path of a file", str)
_COMMAND = Taken("a command of the shell's", str)
_MANY = 1_000_000


_Scenario = Annotated[
    str | None, Takes(meaning=f"one of {', '.join(SCENARIOS)}", shown="SCENARIO", kind=one_of(*SCENARIOS), word=True)
]
_Host = Annotated[str | None, Takes(meaning="the nodes' URLs, by commas, or a load balancer's", shown="URLS", kind=text)]
_Local = Annotated[bool, Takes(meaning="start a local cluster for it, and end that behind it")]
_Nodes = Annotated[int, Takes(meaning="how many nodes that has, 1 to 16", shown="N", kind=whole(1, 16))]
_Users = Annotated[int | None, Takes(meaning="people", shown="N", kind=whole(1, _MANY))]
_SpawnRate = Annotated[float | None, Takes(meaning="of whom so many come a second", shown="N", kind=number(0.001))]
_RunTime = Annotated[int | None, Takes(meaning="seconds that it runs", shown="SECONDS", kind=whole(1, 86_400 * 7))]
_Ttl = Annotated[float | None, Takes(meaning="life of a token", shown="SECONDS", kind=seconds(1))]
_CliffAt = Annotated[
    float | None,
    Takes(meaning="when it happens, after the start: the cliff, the first fault, the waking", shown="SECONDS", kind=seconds(0)),
]
_Renewing = Annotated[
    float | None, Takes(meaning="share of people who renew in place", shown="SHARE", kind=number(0, 1, "a share, a number"))
]
_Rooms = Annotated[int | None, Takes(meaning="rooms of all people together", shown="N", kind=whole(1, 10_000))]
_Rate = Annotated[float | None, Takes(meaning="messages a second of one talker", shown="N", kind=number(0, 1_000))]
_Share = Annotated[
    float | None,
    Takes(
        meaning="share of people who sleep, or whose tokens are withdrawn",
        shown="SHARE",
        kind=number(0, 1, "a share, a number"),
    ),
]
_People = Annotated[
    str | None,
    Takes(meaning="weights of the kinds of people: talker=3,listener=4,lurker=2,hopper=1", shown="WEIGHTS", kind=text),
]
_Clients = Annotated[
    str | None,
    Takes(meaning="whose ways they have: ours, or socket.io-client's own", shown="WHOSE", kind=one_of("ours", "stock")),
]
_Seed = Annotated[str | None, Takes(meaning="the same people do the same at the same seed", shown="TEXT", kind=text)]
_Prefix = Annotated[
    str | None, Takes(meaning="what names of people and rooms begin with (default: load)", shown="TEXT", kind=text)
]
_Settle = Annotated[float | None, Takes(meaning="that everybody has at the end to be back", shown="SECONDS", kind=seconds(0))]
_Tolerance = Annotated[
    int | None,
    Takes(meaning="ms past or before a session's end that count for the way and the clocks", shown="MS", kind=whole(0, 60_000)),
]
_Hook = Annotated[
    str | None,
    Takes(
        meaning="a command that does a fault to a node or the broker",
        shown="COMMAND",
        kind=_COMMAND,
    ),
]
_Sessions = Annotated[str | None, Takes(meaning="replay: what `tidegate sessions --json` printed", shown="FILE", kind=_FILE)]
_Speed = Annotated[float | None, Takes(meaning="replay: how many times as fast", shown="N", kind=number(0.001))]
_Watch = Annotated[str | None, Takes(meaning="ids of processes, by commas, to report on", shown="IDS", kind=text)]
_IssuerUrl = Annotated[
    str | None, Takes(meaning="where tokens are fetched from, instead of minting them", shown="URL", kind=text)
]
_Objectives = Annotated[str | None, Takes(meaning="limits, as TOML; exit 1 when one is missed", shown="FILE", kind=_FILE)]
_Report = Annotated[
    str | None,
    Takes(meaning=f"where the report goes, with .html and .json (default: in {REPORTS}/)", shown="PATH", kind=_FILE),
]
_Title = Annotated[str | None, Takes(meaning="what the report is called", shown="TEXT", kind=text)]
_Compare = Annotated[
    tuple[str, ...], Takes(meaning="instead of a storm: put reports side by side", shown="FILE.json", kind=_FILE, many=True)
]
_Processes = Annotated[int | None, Takes(meaning="workers to share the people among", shown="N", kind=whole(1, 256))]
_Master = Annotated[bool, Takes(meaning="run it with workers of other machines")]
_ExpectWorkers = Annotated[int | None, Takes(meaning="how many of them", shown="N", kind=whole(1, 1_000))]
_Worker = Annotated[bool, Takes(meaning="be one of these workers: the flags are the master's")]
_MasterHost = Annotated[str | None, Takes(meaning="where the master is", shown="HOST", kind=text)]
_MasterBindHost = Annotated[
    str | None,
    Takes(
        meaning=f"where the master listens for them (default: {LOOPBACK}), and tells whoever comes the key",
        shown="HOST",
        kind=text,
    ),
]
_WebPort = Annotated[int | None, Takes(meaning="with Locust's page on this port", shown="N", kind=whole(1, 65_535))]
_WebHost = Annotated[
    str | None,
    Takes(meaning=f"where the page is, for whoever comes to start storms (default: {LOOPBACK})", shown="HOST", kind=text),
]
_PrometheusPort = Annotated[
    int | None, Takes(meaning="serve the figures for Prometheus on this port of loopback", shown="N", kind=whole(1, 65_535))
]


def storm(
    settings: Settings,
    scenario: _Scenario = None,
    host: _Host = None,
    local: _Local = False,
    nodes: _Nodes = 3,
    users: _Users = None,
    spawn_rate: _SpawnRate = None,
    run_time: _RunTime = None,
    ttl: _Ttl = None,
    cliff_at: _CliffAt = None,
    renewing: _Renewing = None,
    rooms: _Rooms = None,
    rate: _Rate = None,
    share: _Share = None,
    people: _People = None,
    clients: _Clients = None,
    seed: _Seed = None,
    prefix: _Prefix = None,
    settle: _Settle = None,
    tolerance: _Tolerance = None,
    hook: _Hook = None,
    sessions: _Sessions = None,
    speed: _Speed = None,
    watch: _Watch = None,
    issuer_url: _IssuerUrl = None,
    objectives: _Objectives = None,
    report: _Report = None,
    title: _Title = None,
    compare: _Compare = (),
    processes: _Processes = None,
    master: _Master = False,
    expect_workers: _ExpectWorkers = None,
    worker: _Worker = False,
    master_host: _MasterHost = None,
    master_bind_host: _MasterBindHost = None,
    web_port: _WebPort = None,
    web_host: _WebHost = None,
    prometheus_port: _PrometheusPort = None,
) -> int:
    """Run a load scenario against a cluster, and print the verdict over every message.

    Exit 1 when the verdict or an objective fails. What is not said is as the scenario has it; a local cluster is that of `tidegate up`,
    with settings from TIDEGATE_* variables. Tokens are signed with the configured key, or with the one of the cluster in --data.
    """
    flags = {name: value for name, value in locals().items() if name not in ("settings", "scenario", "compare", *_OWN)}
    for module in ("loadtest", "locust"):
        if importlib.util.find_spec(module) is None:
            complain(
                f"a storm needs the load test, and {module} is not installed: pip install -r requirements/load.txt (make storm does it)"
            )
            return 1
    if compare:
        return _run(["-m", "loadtest.compare", *compare, *(["--report", report] if report else [])], {})
    problems = _unfit(scenario, host=host, local=local, worker=worker, master=master, processes=processes)
    if master_bind_host is not None and not master:
        problems.append("--master-bind-host: takes an address beside --master, got no --master")
    if web_host is not None and web_port is None:
        problems.append("--web-host: takes an address beside --web-port, got no --web-port")
    if problems:
        raise ConfigurationError(problems)
    if local:
        flags["local"] = nodes
    if not worker:
        flags |= {"scenario": scenario, "report": report or f"{REPORTS}/{scenario}-{time.strftime('%Y%m%d-%H%M%S')}"}
    if processes and not (master or worker):
        flags |= _own_master()
    if web_port is None:
        flags["headless"] = not worker
    return _run(
        ["-m", "locust", "-f", _locustfile(), "--brief", "--loglevel", "WARNING", *_as_flags(flags)], _key(settings, local=local)
    )


def _unfit(
    scenario: str | None, *, host: str | None, local: bool, worker: bool, master: bool, processes: int | None
) -> list[str]:
    """What of the flags does not fit together: Locust would say it in other words, and end with 1."""
    found = []
    if scenario is None and not worker:
        found.append(f"SCENARIO: takes {one_of(*SCENARIOS).takes}, got nothing")
    if not worker and bool(host) == local:
        found.append(f"--host or --local: takes one of them, got {'both' if local else 'none'}")
    if master and worker:
        found.append("--master or --worker: takes one of them, got both")
    if master and processes:
        found.append(
            "--master or --processes: takes one of them, got both: workers of this machine find their master by themselves"
        )
    return found


_OWN = ("local", "nodes", "report")  # that are put into other words


def _own_master() -> dict[str, Any]:
    """Where the workers of this machine find their master: on loopback, since it tells whoever comes the key, and on a port of its own, or
    the workers of two storms at a time would be anybody's.
    """
    with socket.socket() as bound:
        bound.bind((LOOPBACK, 0))
        port = bound.getsockname()[1]
    return {"master_bind_host": LOOPBACK, "master_bind_port": port, "master_host": LOOPBACK, "master_port": port}


def _as_flags(values: Mapping[str, Any]) -> list[str]:
    """The command line of these values; what is None or False is left out, and one that begins with a dash stays a value."""
    given = {f"--{name.replace('_', '-')}": value for name, value in values.items() if value is not None and value is not False}
    return [flag if value is True else f"{flag}={value}" for flag, value in given.items()]


def _key(settings: Settings, *, local: bool) -> dict[str, str]:
    """The variables by which the storm learns the key; never on a command line, which everybody on the machine can read."""
    told = {"TIDEGATE_JWT_ISSUER": settings.jwt_issuer, "TIDEGATE_JWT_AUDIENCE": settings.jwt_audience}
    found = {name: value for name, value in told.items() if value}
    if settings.jwt_secret:
        kid, secret = next(iter(settings.jwt_secret.items()))
        found["TIDEGATE_JWT_SECRET"] = f"{kid}:{secret}" if kid else secret
    elif not local and dev_secret_file(settings.data).exists():
        found["TIDEGATE_JWT_SECRET_FILE"] = str(dev_secret_file(settings.data))
    return found


def _locustfile() -> str:
    spec = importlib.util.find_spec("loadtest")
    assert spec is not None and spec.origin is not None
    return str(Path(spec.origin).with_name("locustfile.py"))


def _run(arguments: list[str], variables: Mapping[str, str]) -> int:
    """Become this command of Python's: its signals, its terminal and its exit code are then the storm's own."""
    os.execve(sys.executable, [sys.executable, *arguments], {**os.environ, **variables})  # noqa: S606 - of a list, by no shell


COMMAND = Command(run=storm, settings=("data", "jwt_secret", "jwt_issuer", "jwt_audience"))
