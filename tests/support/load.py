"""Workers that append to a log for as long as a test lets them, and what became of each record."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from broker.log import Log, LogUnavailable
from tests.support.wait import wait_until

PATIENCE_S = 30.0


class Load:
    """Each worker appends `name:number`, one after the other, to the partition of its number; a refused one is not repeated."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.acked: list[list[str]] = [[] for _ in range(log.partitions)]  # by partition, in the order of the acks
        self.refused: list[str] = []  # why
        self.slowest_s = 0.0  # of all answers since `forget_times`
        self.last_ack = 0.0  # by the monotonic clock

    @property
    def all_acked(self) -> int:
        return sum(map(len, self.acked))

    def forget_times(self) -> None:
        self.slowest_s = 0.0

    async def more(self, count: int = 1) -> None:
        """Wait until so many more are acked."""
        wanted = self.all_acked + count
        await wait_until(lambda: self.all_acked >= wanted, PATIENCE_S, f"{count} more records are acked")

    async def work(self, name: str, partition: int, pause_s: float) -> None:
        """One worker."""
        number = 0
        while True:
            began, text = time.monotonic(), f"{name}:{number}"
            try:
                await self._log.append(partition, text.encode())
                self.acked[partition].append(text)
                self.last_ack = time.monotonic()
            except LogUnavailable as error:
                self.refused.append(str(error))
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)
            number += 1
            await asyncio.sleep(pause_s)

    def check(self, partition: int, found: list[str]) -> None:
        """Everything acked is in `found`, each worker's in its order by first appearance."""
        first = {text: place for place, text in reversed(list(enumerate(found)))}
        assert set(self.acked[partition]) - set(first) == set()
        by_worker: dict[str, list[int]] = {}
        for text in self.acked[partition]:
            by_worker.setdefault(text.partition(":")[0], []).append(first[text])
        for name, places in by_worker.items():
            assert places == sorted(places), name


@asynccontextmanager
async def load(log: Log, *, workers: int = 4, pause_s: float = 0.002) -> AsyncIterator[Load]:
    """So many workers on each partition for as long as the block runs; it is entered once each has been acked something."""
    load = Load(log)
    tasks = [
        asyncio.create_task(load.work(f"{partition}.{worker}", partition, pause_s))
        for partition in range(log.partitions)
        for worker in range(workers)
    ]
    try:
        await load.more(workers * log.partitions)
        yield load
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert all(task.cancelled() for task in tasks), tasks
