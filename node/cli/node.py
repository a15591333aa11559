"""`tidegate node`: one node, configured by flags or variables."""

import asyncio
import contextlib
import gc
import sys
from collections.abc import Iterator

from broker.log import LogDiverged, LogUnavailable
from node.cli.flags import Command
from node.cli.screen import complain, say
from node.config import SETTINGS, Settings
from node.edge.listener import PortUnavailable

_TOLD = (LogUnavailable, LogDiverged, OSError)  # faults of what is around the node, not of the node


def node(settings: Settings) -> int:
    """Run one node until SIGTERM or SIGINT has drained it; the process that containers run."""
    with _fast_imports("aiohttp", "requests", "websocket", "aio_pika", "rich"):
        import uvloop  # noqa: PLC0415  a bad flag is told without them

        from node.app import serve  # noqa: PLC0415
        from node.cli.journal import open_journal  # noqa: PLC0415

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
def _fast_imports(*left_out: str) -> Iterator[None]:
    """Within it these modules cannot be imported (None in the place of one, says Python, is an ImportError), afterwards they can.

    python-socketio and python-engineio come with clients and managers, and take for them whatever of these is installed; structlog takes
    rich, for tracebacks in colours. A node uses none of it: without them it starts in two thirds of the processor time. Nor does it look
    for garbage meanwhile: a module makes none.
    """
    kept = {name: sys.modules[name] for name in left_out if name in sys.modules}
    for name in left_out:
        sys.modules[name] = None  # type: ignore[assignment]
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        for name in left_out:
            del sys.modules[name]
        sys.modules.update(kept)


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _refuse(settings: Settings, faults: list[BaseException]) -> int:
    import structlog  # noqa: PLC0415  see `node`

    sys.stdout.flush()
    for fault in faults:
        structlog.get_logger().debug("ended by a fault", exc_info=fault)
        complain(f"node {settings.node_id} cannot run: {_reason(fault)}")
    return 1


def _reason(fault: BaseException) -> str:
    if isinstance(fault, PortUnavailable):
        return f"port {fault.port} on {fault.host} cannot be had: {fault.strerror}"
    from node.cli.journal import without_secrets  # noqa: PLC0415  see `node`

    advice = "; rebuild or restore the read model (`tidegate restore`)" if isinstance(fault, LogDiverged) else ""
    return without_secrets(" ".join(str(fault).split()) or type(fault).__name__) + advice


COMMAND = Command(run=node, settings=tuple(SETTINGS), serving=True)
