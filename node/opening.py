"""What a node opens before it is put together: the lock of its read model, its log, and, where that is asked for, its tracer."""

import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import structlog

from broker.address import AmqpAddress, MemoryAddress, SqliteAddress
from broker.log import Broker, LogUnavailable
from broker.memory import open_memory
from broker.sqlite import open_sqlite
from node.config import ConfigurationError, Settings
from node.metrics import Metrics
from node.spans import Spans

_log = structlog.get_logger()


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """The lock that says: a node uses the read model beside this file. Raises `LogUnavailable` where another one has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise LogUnavailable(f"another process uses the read model {path.name.removesuffix('.lock')}") from None
    finally:
        os.close(lock)


class _BrokerSeen:
    """Counts and logs what becomes of the connections to the broker."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def lost(self, why: str) -> None:
        self._metrics.broker_reconnects.inc()
        _log.warning("a connection to the broker was lost", why=why)

    def canary(self, seconds: float) -> None:
        self._metrics.canary_seconds.observe(seconds)
        self._metrics.last_canary_s = round(seconds, 4)


@asynccontextmanager
async def open_broker(settings: Settings, metrics: Metrics) -> AsyncIterator[Broker]:
    """The log and the signals of the cluster, as configured. Raises `ConfigurationError`, `LogUnavailable`, `LogDiverged`."""
    partitions, name = settings.partitions + 1, settings.node_id  # and the control partition
    async with AsyncExitStack() as stack:
        broker: Broker
        try:
            match settings.log:
                case SqliteAddress(path):
                    broker = await stack.enter_async_context(open_sqlite(path, partitions=partitions, name=name))
                case MemoryAddress():
                    broker = await stack.enter_async_context(open_memory(partitions=partitions))
                case AmqpAddress(urls):
                    from broker.rabbitmq import open_rabbitmq  # noqa: PLC0415  aio-pika, for who has a broker

                    opening = open_rabbitmq(urls, partitions=partitions, name=name, observe=_BrokerSeen(metrics))
                    broker = await stack.enter_async_context(opening)
        except ValueError as error:
            raise ConfigurationError([f"TIDEGATE_PARTITIONS: {error}"]) from None
        yield broker


@contextlib.contextmanager
def tracing(settings: Settings, version: str) -> Iterator[Spans | None]:
    """A tracer, where there is a collector to send to. Raises `ConfigurationError` where OpenTelemetry is not installed."""
    if settings.trace_url is None:
        yield None
        return
    try:
        from node.tracing import traced  # noqa: PLC0415  a dozen packages, for who asks for them
    except ImportError:
        raise ConfigurationError(
            ["TIDEGATE_TRACE_URL: takes OpenTelemetry (pip install 'tidegate[tracing]'), got none"]
        ) from None
    with traced(settings.trace_url, share=settings.trace_share, node=settings.node_id, version=version) as tracer:
        yield tracer
