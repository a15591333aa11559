"""`tidegate up`: a local cluster in one terminal."""

import asyncio
import contextlib
import fcntl
import itertools
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, TextIO
from urllib.parse import quote, urlsplit

from broker.address import Address, AmqpAddress, MemoryAddress, SqliteAddress
from node.app import check_supported
from node.cli import probe
from node.cli.dev_secret import make_dev_secret
from node.cli.flags import Command, Takes
from node.cli.screen import complain, counted
from node.cli.supervisor import Plan, Supervisor
from node.config import ConfigurationError, Settings, load
from node.config_values import whole

_VENDOR = Path(__file__).parents[1] / "edge" / "web" / "vendor"
_COLOURS = (36, 33, 35, 32, 34, 91)  # of the terminal, for the nodes in turn
_KEYS = ("jwt_public_key_file", "jwks_url", "oidc_issuer")


class _Refused(Exception):
    """The cluster cannot start; the message is one line."""


def up(
    settings: Settings,
    nodes: Annotated[int, Takes(meaning="how many nodes, 1 to 16", shown="N", kind=whole(1, 16))] = 3,
) -> int:
    """Run a local cluster in this terminal: Ctrl-C drains it, a second Ctrl-C ends it at once.

    The nodes listen on the given port and those behind it (0 picks free ones), keep their read models in the data folder and
    their log in log.db there, and are started again when they die. Other settings come from TIDEGATE_* variables.
    """
    _judge(settings, nodes)
    try:
        with _only_one(settings.data):
            ports = _ports(settings.host, settings.port, nodes)
            return asyncio.run(_run(settings, _plans(settings, ports)))
    except _Refused as refusal:
        complain(str(refusal))
        return 1


def _judge(settings: Settings, nodes: int) -> None:
    problems = []
    if isinstance(settings.log, MemoryAddress) and nodes > 1:
        problems.append(f"--log: takes a log that {nodes} nodes can share (or --nodes 1), got 'memory:'")
    if settings.port and settings.port + nodes - 1 > 65_535:
        problems.append(f"--port: takes a port with {nodes - 1} more behind it up to 65535, got '{settings.port}'")
    if problems:
        raise ConfigurationError(problems)


@contextlib.contextmanager
def _only_one(data: Path) -> Iterator[None]:
    """Hold the data folder for this cluster. Raises `_Refused` where it cannot be written or another cluster holds it."""
    try:
        data.mkdir(parents=True, exist_ok=True)
        held = (data / "up.lock").open("w")
    except OSError as error:
        raise _Refused(f"the data folder {data} cannot be used: {error.strerror}; nothing was started") from None
    with held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _Refused(
                f"another `tidegate up` runs in {data}; nothing was started. A second one: --data DIR --port N"
            ) from None
        yield


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


def _plans(settings: Settings, ports: list[int]) -> list[Plan]:
    """What each node gets; judged as the nodes will judge it, so that no node is started in vain."""
    common = dict(os.environ) | {
        "TIDEGATE_DATA": str(settings.data),
        "TIDEGATE_HOST": settings.host,
        "PYTHONUNBUFFERED": "1",
    }
    common.setdefault("TIDEGATE_LOG_FORMAT", "text")
    urls = ",".join(probe.url(settings.host, port) for port in ports)
    common.setdefault("TIDEGATE_PEERS", urls)
    _give_log(common, settings.log)
    _give_key(common, settings)
    plans = [
        Plan(
            id=f"n{n}",
            host=settings.host,
            port=port,
            environment=common | {"TIDEGATE_NODE_ID": f"n{n}", "TIDEGATE_PORT": str(port)},
        )
        for n, port in enumerate(ports, 1)
    ]
    check_supported(load({}, plans[0].environment, serving=True))
    return plans


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


async def _run(settings: Settings, plans: list[Plan]) -> int:
    screen = _Screen([plan.id for plan in plans], sys.stdout)
    loop = asyncio.get_running_loop()
    supervisor = Supervisor(
        plans, drain_s=settings.drain_seconds, say=screen.say, ready=lambda: _welcome(settings, plans, screen)
    )

    def stop() -> None:
        if supervisor.stop():
            screen.say("", "stopping: the nodes take their leave; again to end them at once")

    screen.gone = supervisor.drain
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop)
    screen.say("", f"starting {counted(len(plans), 'node')} on {settings.log}")
    code = await supervisor.run()
    screen.say("", "stopped")
    return code


def _welcome(settings: Settings, plans: list[Plan], screen: "_Screen") -> None:
    page = any(_VENDOR.glob("**/*.js"))
    lines = ["", "Tidegate is up. Open the page on any node:" if page else "Tidegate is up, without its page:", ""]
    lines += [f"    {plan.id}  {plan.url}/" for plan in plans]
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
