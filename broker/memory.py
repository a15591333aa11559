"""The log of one process that keeps nothing: for a single node on trial, and the reference of the contract suite."""

import asyncio
import secrets
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from broker.log import MOST_IN_BATCH, START, LogDiverged, Position, Record, check_partition


class MemoryLog:
    """See `broker.log.Log`. Durable only as long as the process lives."""

    def __init__(self, partitions: int) -> None:
        if partitions < 1:
            raise ValueError(f"a log has at least 1 partition, not {partitions}")
        self._records: list[list[Record]] = [[] for _ in range(partitions)]
        self._grown = [asyncio.Event() for _ in range(partitions)]
        self._epoch = secrets.token_hex(8)

    @property
    def partitions(self) -> int:
        return len(self._records)

    @property
    def epoch(self) -> str:
        return self._epoch

    @property
    def up(self) -> bool:
        return True

    async def append(self, partition: int, data: bytes) -> None:
        check_partition(partition, self.partitions)
        records = self._records[partition]
        records.append(Record(partition, Position(len(records) + 1, zlib.crc32(data)), data))
        self._grown[partition].set()

    async def append_all(self, partition: int, data: Sequence[bytes]) -> None:
        check_partition(partition, self.partitions)
        for one in data:
            await self.append(partition, one)  # nothing comes between them: `append` never waits

    def follow(self, partition: int, after: Position) -> AsyncGenerator[Sequence[Record], None]:
        check_partition(partition, self.partitions)
        return self._follow(partition, after)

    async def _follow(self, partition: int, after: Position) -> AsyncGenerator[Sequence[Record], None]:
        records, at = self._records[partition], after.offset
        if at and (at > len(records) or records[at - 1].position != after):
            raise LogDiverged("the log does not hold the record that this position was taken from")
        while True:
            self._grown[partition].clear()
            while batch := records[at : at + MOST_IN_BATCH]:
                at += len(batch)
                yield batch
                await asyncio.sleep(0)  # a follower that never waits must not starve the others
            if len(records) == at:
                await self._grown[partition].wait()

    @property
    def unit(self) -> str:
        return "event"

    def ordinal(self, offset: int) -> int:
        return offset

    async def holds(self, partition: int, position: Position) -> bool:
        check_partition(partition, self.partitions)
        records = self._records[partition][: position.offset]
        return position == (records[-1].position if records else START)

    async def rebase(self, partition: int, position: Position, *, anew: bool) -> Position:
        raise LogDiverged("a log in memory has nothing to go on from")

    async def end(self, partition: int) -> Position:
        check_partition(partition, self.partitions)
        records = self._records[partition]
        return records[-1].position if records else START


class NoPeers:
    """The signals of a node that has no other."""

    def publish(self, data: bytes) -> None:
        """Nobody is there."""

    def subscribe(self, receive: Callable[[bytes], None]) -> None:
        """Nobody will call."""


class MemoryBroker:
    """The broker of one process."""

    deaf = None

    def __init__(self, partitions: int) -> None:
        self.log, self.signals = MemoryLog(partitions), NoPeers()


@asynccontextmanager
async def open_memory(*, partitions: int) -> AsyncIterator[MemoryBroker]:
    """A new, empty log of `partitions` partitions."""
    yield MemoryBroker(partitions)
