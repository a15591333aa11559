"""The event log as the commands open it: to read or to append to it, never to make it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from broker.address import AmqpAddress, MemoryAddress, SqliteAddress
from broker.log import Log, LogMissing
from broker.sqlite import open_sqlite
from node.config import Settings


@asynccontextmanager
async def open_log(settings: Settings) -> AsyncIterator[Log]:
    """The configured log. Raises `LogMissing` where there is none yet, `LogUnavailable`."""
    match settings.log:
        case SqliteAddress(path):
            async with open_sqlite(path, partitions=None, name="cli", create=False) as broker:
                yield broker.log
        case MemoryAddress():
            raise LogMissing("a log in memory can be read by its own node alone")
        case AmqpAddress(urls):
            from broker.rabbitmq import open_rabbitmq  # noqa: PLC0415  aio-pika, for who has a broker

            async with open_rabbitmq(urls, partitions=None, name="cli", create=False) as remote:
                yield remote.log


def room_partitions(log: Log) -> int:
    """How many of the log's partitions are for rooms; the one behind them is for the life of sessions."""
    return log.partitions - 1
