"""The logs that the contract suite is run against: a place is where one log is, and can be opened several times."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

from broker.log import Broker
from broker.memory import MemoryBroker
from broker.rabbitmq import open_rabbitmq
from broker.sqlite import open_sqlite
from tests.support.rabbit import Rabbit

PARTITIONS = 3


class Place(Protocol):
    """One log, that stays between two openings. `open` takes the opener's name among those that share the log."""

    def open(self, name: str) -> AbstractAsyncContextManager[Broker]: ...


class SharedPlace(Place, Protocol):
    """One log that other processes can open, too: `where` says where it is, as `tests.support.log_process` takes it."""

    @property
    def where(self) -> Path | str: ...


class MemoryPlace:
    """The log in memory: whoever opens it gets the same one."""

    def __init__(self) -> None:
        self._broker = MemoryBroker(PARTITIONS)

    @asynccontextmanager
    async def open(self, name: str) -> AsyncIterator[Broker]:
        yield self._broker


class SqlitePlace:
    """The embedded log."""

    def __init__(self, folder: Path) -> None:
        self.where = folder / "log.db"

    @asynccontextmanager
    async def open(self, name: str) -> AsyncIterator[Broker]:
        async with open_sqlite(self.where, partitions=PARTITIONS, name=name) as broker:
            yield broker


class RabbitPlace:
    """The log on RabbitMQ, in a vhost of its own, which goes with `drop`."""

    def __init__(self, rabbit: Rabbit) -> None:
        self._rabbit, self._vhost = rabbit, rabbit.fresh_vhost()
        self.where = rabbit.url_for(self._vhost)

    def drop(self) -> None:
        """A broker spends 0.1% of a core on each stream that it has."""
        self._rabbit.drop_vhost(self._vhost)

    @asynccontextmanager
    async def open(self, name: str) -> AsyncIterator[Broker]:
        async with open_rabbitmq([self.where], partitions=PARTITIONS, name=name) as broker:
            yield broker
