"""The logs that the contract suite is run against: a place is where one log is, and can be opened several times."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

from broker.log import Broker
from broker.memory import MemoryBroker
from broker.sqlite import open_sqlite

PARTITIONS = 3


class Place(Protocol):
    """One log, that stays between two openings. `open` takes the opener's name among those that share the log."""

    def open(self, name: str) -> AbstractAsyncContextManager[Broker]: ...


class MemoryPlace:
    """The log in memory: whoever opens it gets the same one."""

    def __init__(self, folder: Path) -> None:
        self._broker = MemoryBroker(PARTITIONS)

    @asynccontextmanager
    async def open(self, name: str) -> AsyncIterator[Broker]:
        yield self._broker


class SqlitePlace:
    """The embedded log."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "log.db"

    @asynccontextmanager
    async def open(self, name: str) -> AsyncIterator[Broker]:
        async with open_sqlite(self.path, partitions=PARTITIONS, name=name) as broker:
            yield broker


PlaceFactory = Callable[[Path], Place]
LOGS: dict[str, PlaceFactory] = {"memory": MemoryPlace, "sqlite": SqlitePlace}
DURABLE_LOGS: dict[str, PlaceFactory] = {"sqlite": SqlitePlace}
SIGNALS: dict[str, PlaceFactory] = {"sqlite": SqlitePlace}
