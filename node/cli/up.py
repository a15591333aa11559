"""`tidegate up`: a local cluster in one terminal."""

import asyncio
import contextlib
import itertools
import math
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, TextIO
from urllib.parse import quote, urlsplit

from broker.address import Address, AmqpAddress, MemoryAddress, SqliteAddress
from node.auth.configured import check_supported
from node.cli import haproxy, monitor, probe, run_record
from node.cli.dev_secret import make_dev_secret
from node.cli.flags import Command, Takes
from node.cli.screen import complain, counted
from node.cli.supervisor import Plan, Supervisor
from node.config import ConfigurationError, Settings, load
from node.config_values import port, whole
from node.edge.listener import bind

_VENDOR = Path(__file__).parents[1] / "edge" / "web" / "vendor"
_COLOURS = (36, 33, 35, 32, 34, 91)  # of the terminal, for the nodes in turn
_KEYS = ("jwt_public_key_file", "jwks_url", "oidc_issuer")


class _Refused(Exception):
    """The cluster cannot start; the message is one line."""


def up(
    settings: Settings,
    nodes: Annotated[int, Takes(meaning="how many nodes, 1 to 16", shown="N", kind=whole(1, 16))] = 3,
    haproxy: Annotated[bool, Takes(meaning="put HAProxy in front of the nodes, on the port before theirs")] = False,
    haproxy_port: Annotated[int | None, Takes(meaning="the same, on this port; 0 picks a free one", shown="N", kind=port)] = None,
    monitor: Annotated[bool, Takes(meaning="watch the nodes with Prometheus, on a free port")] = False,
    monitor_port: Annotated[int | None, Takes(meaning="the same, on this port; 0 picks a free one", shown="N", kind=port)] = None,
) -> int:
    """Run a local cluster in this terminal: Ctrl-C drains it, a second Ctrl-C ends it at once.

    The nodes listen on the given port and those behind it (0 picks free ones), keep their read models in the data folder and, where
    --log names no other, their log in log.db there, and are started again when they die. With --haproxy they have one address for all.
    --monitor starts Prometheus with the rules in monitoring/, so it wants a clone of the repository, installed with pip install --editable.
    Other settings come from TIDEGATE_* variables.
    """
    front = haproxy_port if haproxy_port is not None else max(settings.port - 1, 0) if haproxy else None
    watching = monitor_port if monitor_port is not None else 0 if monitor else None
    _judge(settings, nodes, front, watching)
    try:
        with _only_one(settings.data) as held, _door(settings.host, front) as door:
            ports = _ports(settings.host, settings.port, nodes)
            plans = _plans(settings, ports, door)
            _record(held, settings, plans)
            beside = [_proxy(settings, plans, door)] if door else []
            beside += [_monitor(settings, plans, watching)] if watching is not None else []
            return asyncio.run(_run(settings, plans, beside))
    except _Refused as refusal:
        complain(str(refusal))
        return 1


def _judge(settings: Settings, nodes: int, front: int | None, watching: int | None) -> None:
    problems = []
    if isinstance(settings.log, MemoryAddress) and nodes > 1:
        problems.append(f"--log: takes a log that {nodes} nodes can share (or --nodes 1), got 'memory:'")
    if settings.port and settings.port + nodes - 1 > 65_535:
        problems.append(f"--port: takes a port with {nodes - 1} more behind it up to 65535, got '{settings.port}'")
    if settings.port and front in range(settings.port, settings.port + nodes):
        problems.append(f"--haproxy-port: takes a port that is no node's, got '{front}'")
    if settings.port and watching and watching in (front, *range(settings.port, settings.port + nodes)):
        problems.append(f"--monitor-port: takes a port that is no other's, got '{watching}'")
    problems += _metrics_problems(settings, nodes, front, watching)
    if problems:
        raise ConfigurationError(problems)


def _metrics_problems(settings: Settings, nodes: int, front: int | None, watching: int | None) -> list[str]:
    """What is wrong with the ports that the nodes are to have for their metrics, where they are."""
    first = settings.metrics_port
    if first == 0 and watching is not None:
        return ["TIDEGATE_METRICS_PORT: takes a port of which Prometheus can be told, got '0'"]
    if not first:
        return []
    behind = f"with {nodes - 1} more behind it"
    if first + nodes - 1 > 65_535:
        return [f"TIDEGATE_METRICS_PORT: takes a port {behind} up to 65535, got '{first}'"]
    others = {front, watching, *(range(settings.port, settings.port + nodes) if settings.port else ())}
    if others.intersection(range(first, first + nodes)):
        return [f"TIDEGATE_METRICS_PORT: takes a port {behind}, none of them another's, got '{first}'"]
    return []


@contextlib.contextmanager
def _only_one(data: Path) -> Iterator[run_record.Held]:
    """Hold the data folder for this cluster. Raises `_Refused` where it cannot be written or another cluster holds it."""
    with contextlib.ExitStack() as stack:
        try:
            held = stack.enter_context(run_record.held(data))
        except BlockingIOError:
            raise _Refused(
                f"another `tidegate up` runs in {data}; nothing was started. A second one: --data DIR --port N"
            ) from None
        except OSError as error:
            raise _Refused(f"the data folder {data} cannot be used: {error.strerror}; nothing was started") from None
        yield held


def _record(held: run_record.Held, settings: Settings, plans: list[Plan]) -> None:
    """Tell the other commands of the cluster. Raises `_Refused` where that cannot be written."""
    nodes = {plan.id: plan.port for plan in plans}
    try:
        held.write(run_record.Cluster(pid=os.getpid(), log=run_record.log_of(settings.log), host=settings.host, nodes=nodes))
    except OSError as error:
        raise _Refused(f"the data folder {settings.data} cannot be used: {error.strerror}; nothing was started") from None


def _ports(host: str, first: int, nodes: int) -> list[int]:
    """The port of each node, all free at this moment. Raises `_Refused` naming those that are not."""
    with contextlib.ExitStack() as opened:
        ports, taken = [], []
        for port in range(first, first + nodes) if first else [0] * nodes:
            try:
                ports.append(opened.enter_context(probe.bound(host, port)).getsockname()[1])
            except OSError as error:
                taken.append(f"port {port} on {host} cannot be had ({error.strerror})")
    if taken:
        raise _Refused(f"{', '.join(taken)}; nothing was started. Other ports: --port N; free ones: --port 0")
    return ports


@contextlib.contextmanager
def _door(host: str, wanted: int | None) -> Iterator[socket.socket | None]:
    """The proxy's port, listening and ours to the end, so that who comes while the proxy is started again waits; None for no proxy.

    Raises `_Refused` where the port or HAProxy cannot be had.
    """
    if wanted is None:
        yield None
        return
    try:
        haproxy.program()
        door = bind(host, wanted)
    except FileNotFoundError as missing:
        raise _Refused(f"{missing}; nothing was started. On Debian and Ubuntu: apt-get install haproxy") from None
    except OSError as error:
        which = f"port {wanted} on {host} cannot be had for HAProxy ({error.strerror})"
        raise _Refused(f"{which}; nothing was started. Another one: --haproxy-port N") from None
    with door:
        yield door


def _plans(settings: Settings, ports: list[int], door: socket.socket | None) -> list[Plan]:
    """What each node gets; judged as the nodes will judge it, so that no node is started in vain."""
    common = dict(os.environ) | {
        "TIDEGATE_DATA": str(settings.data),
        "TIDEGATE_HOST": settings.host,
        "PYTHONUNBUFFERED": "1",
    }
    common.setdefault("TIDEGATE_LOG_FORMAT", "text")
    urls = [probe.url(settings.host, port) for port in ports]
    if door is None:
        common.setdefault("TIDEGATE_PEERS", ",".join(urls))
    else:
        _give_door(common, settings, urls, probe.url(settings.host, door.getsockname()[1]))
    _give_log(common, settings.log)
    _give_key(common, settings)
    plans = [
        Plan(
            id=f"n{n}",
            host=settings.host,
            port=port,
            environment=common | {"TIDEGATE_NODE_ID": f"n{n}", "TIDEGATE_PORT": str(port)} | _metrics_port(settings, n),
        )
        for n, port in enumerate(ports, 1)
    ]
    check_supported(load({}, plans[0].environment, serving=True))
    return plans


def _metrics_port(settings: Settings, number: int) -> dict[str, str]:
    """Where they are to have ports of their own, the first node's is the one that is set, and the others' are those behind it."""
    first = settings.metrics_port
    return {"TIDEGATE_METRICS_PORT": str(first + number - 1)} if first else {}


def _give_door(environment: dict[str, str], settings: Settings, urls: list[str], front: str) -> None:
    """Pages are told the proxy's address alone, so that they come back through it; those that a node has served itself may too."""
    environment.setdefault("TIDEGATE_PEERS", front)
    if settings.origins != "*":
        environment["TIDEGATE_ORIGINS"] = ",".join([*(settings.origins or ()), front, *urls])


def _proxy(settings: Settings, plans: list[Plan], door: socket.socket) -> Plan:
    """What HAProxy gets: its configuration in the data folder. Raises `_Refused` where that cannot be written."""
    silence_s = math.ceil(settings.ping_interval_seconds + settings.ping_timeout_seconds) + 15
    nodes = {plan.id: plan.url.removeprefix("http://") for plan in plans}
    file = settings.data / "haproxy.cfg"
    try:
        file.write_text(haproxy.configuration(bind=f"fd@{door.fileno()}", nodes=nodes, denied=["/metrics"], silence_s=silence_s))
    except OSError as error:
        raise _Refused(f"{file} cannot be written: {error.strerror}; nothing was started") from None
    return Plan(
        id="haproxy",
        host=settings.host,
        port=door.getsockname()[1],
        environment=_of_others(),
        program=(haproxy.program(), "-db", "-f", str(file)),
        inherits=(door.fileno(),),
    )


def _monitor(settings: Settings, plans: list[Plan], wanted: int) -> Plan:
    """What Prometheus gets: its configuration and its data in the data folder. Raises `_Refused` where one is missing."""
    try:
        program = monitor.program()
        with probe.bound(settings.host, wanted) as free:
            port = free.getsockname()[1]
    except monitor.Missing as missing:
        raise _Refused(str(missing)) from None
    except OSError as error:
        which = f"port {wanted} on {settings.host} cannot be had for Prometheus ({error.strerror})"
        raise _Refused(f"{which}; nothing was started. Another one: --monitor-port N") from None
    asked = {plan.id: int(plan.environment.get("TIDEGATE_METRICS_PORT", "") or plan.port) for plan in plans}
    nodes = {name: probe.url(settings.host, at).removeprefix("http://") for name, at in asked.items()}
    file = settings.data / "prometheus.yml"
    try:
        file.write_text(monitor.configuration(nodes))
    except OSError as error:
        raise _Refused(f"{file} cannot be written: {error.strerror}; nothing was started") from None
    address = probe.url(settings.host, port).removeprefix("http://")
    return Plan(
        id="monitor",
        host=settings.host,
        port=port,
        environment=_of_others(),
        program=(program, *monitor.arguments(file, settings.data / "prometheus", address)),
        ready_path=monitor.READY_PATH,
    )


def _of_others() -> dict[str, str]:
    """The environment of a program that is no node: nothing of ours."""
    return {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")}


def _give_log(environment: dict[str, str], log: Address) -> None:
    """The log as it was read here, from whichever of a flag, a variable and a file; one in memory is each node's own."""
    environment.pop("TIDEGATE_LOG_FILE", None)
    match log:
        case SqliteAddress(path):
            environment["TIDEGATE_LOG"] = f"sqlite:///{quote(str(path))}"
        case MemoryAddress():
            environment["TIDEGATE_LOG"] = "memory:"
        case AmqpAddress(urls):
            parts = [urlsplit(url) for url in urls]
            login, at, _ = parts[0].netloc.rpartition("@")
            hosts = ",".join(part.netloc.rpartition("@")[2] for part in parts)
            environment["TIDEGATE_LOG"] = parts[0]._replace(netloc=f"{login}{at}{hosts}").geturl()


def _give_key(environment: dict[str, str], settings: Settings) -> None:
    """The dev issuer signs with the configured secret, or with one of this folder; where only verifying keys are configured it is off."""
    if settings.jwt_secret:
        environment["TIDEGATE_DEV_ISSUER"] = "1"
    elif not any(getattr(settings, name) for name in _KEYS):
        try:
            file = make_dev_secret(settings.data)
        except OSError as error:
            raise _Refused(f"the secret in {settings.data} cannot be written: {error.strerror}; nothing was started") from None
        environment["TIDEGATE_JWT_SECRET_FILE"] = str(file)
        environment["TIDEGATE_DEV_ISSUER"] = "1"


async def _run(settings: Settings, plans: list[Plan], beside: list[Plan]) -> int:
    screen = _Screen([plan.id for plan in (*plans, *beside)], sys.stdout)
    loop = asyncio.get_running_loop()
    supervisor = Supervisor(
        plans,
        beside=beside,
        drain_s=settings.drain_seconds,
        say=screen.say,
        log_away=lambda: _log_away(settings.log),
        ready=lambda: _welcome(settings, plans, beside, screen),
    )

    def stop() -> None:
        if supervisor.stop():
            screen.say("", "stopping: the nodes take their leave; again to end them at once")

    screen.gone = supervisor.drain
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop)
    behind = " behind HAProxy" if any(plan.id == "haproxy" for plan in beside) else ""
    screen.say("", f"starting {counted(len(plans), 'node')}{behind} on {settings.log}")
    if away := await _log_away(settings.log):
        screen.say("", f"{away} yet: the nodes wait half a minute for it, and then give up")
    code = await supervisor.run()
    screen.say("", "stopped")
    return code


async def _log_away(log: Address) -> str:
    """Which broker is not there, where no host of the log's address takes connections; else empty."""
    if not isinstance(log, AmqpAddress):
        return ""
    if any(await asyncio.gather(*(probe.listens(host, port) for host, port in log.hosts))):
        return ""
    return f"no broker takes connections at {' or '.join(f'{host}:{port}' for host, port in log.hosts)}"


def _welcome(settings: Settings, plans: list[Plan], beside: list[Plan], screen: "_Screen") -> None:
    page = any(_VENDOR.glob("**/*.js"))
    proxy, watching = [[plan for plan in beside if plan.id == name] for name in ("haproxy", "monitor")]
    where = "through HAProxy, or on any node" if proxy else "on any node"
    lines = ["", f"Tidegate is up. Open the page {where}:" if page else "Tidegate is up, without its page:", ""]
    width = max(len(plan.id) for plan in (*plans, *beside))
    lines += [f"    {plan.id:<{width}}  {plan.url}/" for plan in (*proxy, *plans)]
    if page:
        lines += ["", f"Its nodes, sessions and what lies ahead of them: {(proxy or plans)[0].url}/ops"]
    for plan in watching:
        lines += ["", "Prometheus, with alerts and graphs:", "", f"    {plan.id:<{width}}  {plan.url}/"]
    if not page:
        lines += ["", "The page needs Node.js (18 or later) with npm: install it, say `make page`, and reload."]
    if settings.host not in ("127.0.0.1", "localhost", "::1") and plans[0].environment.get("TIDEGATE_DEV_ISSUER") == "1":
        lines += ["", f"Whoever reaches {settings.host} can sign in under any name: the dev issuer is on."]
    for line in [*lines, "", "Ctrl-C stops it.", ""]:
        screen.say("", line)


class _Screen:
    """One line at a time, with the node's name in front, coloured on a terminal. `gone` is called when nobody reads any more."""

    def __init__(self, ids: list[str], stream: TextIO) -> None:
        self._stream = stream
        self._width = max(len(name) for name in ids)
        self._colours = dict(zip(ids, itertools.cycle(_COLOURS), strict=False))
        self._coloured = stream.isatty() and not os.environ.get("NO_COLOR")
        self.gone: Callable[[], object] = lambda: None

    def say(self, who: str, line: str) -> None:
        """Print `who | line`; a line of the supervisor's own stands alone."""
        name = f"{who:<{self._width}} | " if who else ""
        if self._coloured and who:
            name = f"\x1b[{self._colours[who]}m{name}\x1b[0m"
        elif self._coloured and line:
            line = f"\x1b[1m{line}\x1b[0m"
        try:
            self._stream.write(f"{name}{line}\n")
            self._stream.flush()
        except OSError:  # the pipe's reader or the terminal is gone
            self._lose()

    def _lose(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())  # what the stream still holds goes there too, when Python flushes it at the end
        os.close(nowhere)
        self.gone()


COMMAND = Command(run=up, settings=("port", "log", "data"))
