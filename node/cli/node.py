"""`tidegate node`: one node, configured by flags or variables."""

import asyncio
import contextlib
import sys
from collections.abc import Iterator

import structlog

from broker.log import LogDiverged, LogUnavailable
from node.cli.flags import Command
from node.cli.journal import open_journal, without_secrets
from node.cli.screen import complain, say
from node.config import SETTINGS, Settings
from node.edge.listener import PortUnavailable

_TOLD = (LogUnavailable, LogDiverged, OSError)  # faults of what is around the node, not of the node


def node(settings: Settings) -> int:
    """Run one node until SIGTERM or SIGINT has drained it; the process that containers run."""
    import uvloop  # noqa: PLC0415  a bad flag is told without it

    with _not_there("aiohttp", "requests", "websocket", "aio_pika"):
        from node.app import serve  # noqa: PLC0415

    open_journal(settings)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings, announce=say))
    except BaseExceptionGroup as group:
        faults = list(_leaves(group))
        if not all(isinstance(fault, _TOLD) for fault in faults):
            raise
        return _refuse(settings, faults)
    except _TOLD as fault:
        return _refuse(settings, [fault])
    return 0


@contextlib.contextmanager
def _not_there(*names: str) -> Iterator[None]:
    """Within it these modules cannot be imported (None in the place of one, says Python, is an ImportError), afterwards they can.

    python-socketio and python-engineio come with clients and managers, and take for them whatever of these is installed. A node uses none
    of those: without them it starts in 0.8 s of CPU instead of 1.2.
    """
    kept = {name: sys.modules[name] for name in names if name in sys.modules}
    for name in names:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]
        sys.modules.update(kept)


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _refuse(settings: Settings, faults: list[BaseException]) -> int:
    sys.stdout.flush()
    for fault in faults:
        structlog.get_logger().debug("ended by a fault", exc_info=fault)
        complain(f"node {settings.node_id} cannot run: {_reason(fault)}")
    return 1


def _reason(fault: BaseException) -> str:
    if isinstance(fault, PortUnavailable):
        return f"port {fault.port} on {fault.host} cannot be had: {fault.strerror}"
    advice = "; rebuild or restore the read model (`tidegate restore`)" if isinstance(fault, LogDiverged) else ""
    return without_secrets(" ".join(str(fault).split()) or type(fault).__name__) + advice


COMMAND = Command(run=node, settings=tuple(SETTINGS), serving=True)
