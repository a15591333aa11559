"""Follow the log, fold it into the read model, and have the effects carried out: one task a partition."""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Protocol

import structlog

from broker.batch import UNREADABLE
from broker.log import Log, LogDiverged, LogUnavailable, Position, Record
from node.core.apply import apply, idempotency_key
from node.core.effects import Applied, Effect, Lost
from node.core.events import Event, MessageDeleted, MessageEdited, ReactionSet, decode
from node.flow.lag import Lag
from node.flow.store import Store

SLICE = 250  # records applied before the loop may do something else
RETRY_S = 0.5
LOOK_EVERY_S = 0.5
_log = structlog.get_logger()


class Hearers(Protocol):
    """Who learns of what has been applied. Nothing here may await or raise."""

    def settle(self, outcome: Applied | Lost) -> None:
        """The answer for whoever waits for this event, if anyone does here."""
        ...

    def perform(self, event: Event, effects: Sequence[Effect]) -> None:
        """Carry out the effects of an event."""
        ...

    def count(self, event: Event) -> None:
        """One event has been applied live."""
        ...


class Projector:
    """Brings the read model level with the log as it stands at the start, then keeps it so.

    Records that stood in the log at the start have no effects: whoever missed them asks. `run` ends only by a fault or a cancel.
    """

    def __init__(self, log: Log, store: Store, hearers: Hearers, *, clock: Callable[[], int]) -> None:
        self._log, self._store, self._hearers, self._clock = log, store, hearers, clock
        self._ends: dict[int, Position] = {}
        self._catching_up = set(range(log.partitions))
        self.lag = Lag(log.partitions)
        self._applied_at = dict.fromkeys(range(log.partitions), clock())  # while it catches up: when that was accepted
        self._moved = [asyncio.Event() for _ in range(log.partitions)]
        self._rounds: dict[int, asyncio.Task[None]] = {}
        self._looked_at: dict[int, float] = {}
        self._tasks = asyncio.TaskGroup()
        self.diverged: str | None = None
        self.applied = 0
        self.ready = asyncio.Event()  # level with the log as it stood at the start
        self.has_diverged = asyncio.Event()

    async def run(self) -> None:
        """Follow all partitions until cancelled."""
        async with self._tasks:
            for partition in range(self._log.partitions):
                self._tasks.create_task(self._follow(partition), name=f"projector-{partition}")

    async def look(self, partition: int) -> None:
        """Look where the log ends and return once the read model is there; a log that is away is waited for.

        Who calls while another one looks shares his look, which may have missed what was appended between its beginning and the call.
        A look may cost the log a record, so looks of one partition begin `LOOK_EVERY_S` apart.
        """
        looking = self._rounds.get(partition)
        if looking is None:
            looking = self._rounds[partition] = self._tasks.create_task(self._look(partition), name=f"look-{partition}")
            looking.add_done_callback(lambda _: self._rounds.pop(partition))
        await asyncio.shield(looking)

    async def _look(self, partition: int) -> None:
        loop, moved = asyncio.get_running_loop(), self._moved[partition]
        await asyncio.sleep(self._looked_at.get(partition, -math.inf) + LOOK_EVERY_S - loop.time())
        self._looked_at[partition] = loop.time()
        end = await self._end(partition)
        while self._store.position(partition).offset < end.offset:
            moved.clear()
            await moved.wait()

    def progress(self) -> tuple[int, int]:
        """How much of what stood in the log at the start has been applied, and how much there is, in the log's own units."""
        count = self._log.ordinal
        total = sum(count(end.offset) for end in self._ends.values())
        return sum(min(count(self._store.position(p).offset), count(end.offset)) for p, end in self._ends.items()), total

    def lag_seconds(self, partition: int) -> float:
        """How far the read model is behind what is known of the log: 0 when level. While it catches up, as old as its last record."""
        if partition in self._catching_up:
            return max(0, self._clock() - self._applied_at[partition]) / 1000
        return self.lag.seconds(partition, asyncio.get_running_loop().time(), position=self._store.position(partition).offset)

    def claimed(self, positions: Mapping[int, int]) -> None:
        """Another node has applied so much of these partitions."""
        now = asyncio.get_running_loop().time()
        for partition, offset in positions.items():
            if partition < self._log.partitions:
                self.lag.claimed(partition, offset, now, position=self._store.position(partition).offset)

    async def _follow(self, partition: int) -> None:
        end = self._ends[partition] = await self._end(partition)
        if self._store.position(partition).offset >= end.offset:
            self._level(partition)
        try:
            async with aclosing(self._log.follow(partition, self._store.position(partition))) as batches:
                async for batch in batches:
                    await self._apply(partition, batch, end)
        except LogDiverged as error:
            self.diverged = str(error)
            self.has_diverged.set()
            _log.error("diverged", partition=partition, reason=str(error))

    async def _end(self, partition: int) -> Position:
        while True:
            try:
                return await self._log.end(partition)
            except LogUnavailable:
                await asyncio.sleep(RETRY_S)

    def _level(self, partition: int) -> None:
        self._catching_up.discard(partition)
        if not self._catching_up:
            self._store.room_order.level()
            self.ready.set()

    async def _apply(self, partition: int, batch: Sequence[Record], end: Position) -> None:
        for start in range(0, len(batch), SLICE):
            some = batch[start : start + SLICE]
            events = [self._decode(record) for record in some]
            known = [event for event in events if event is not None]
            self._store.expect(
                [key for event in known for key in {idempotency_key(event), event.id}],
                [(event.room, event.of) for event in known if isinstance(event, MessageEdited | MessageDeleted | ReactionSet)],
            )
            for record, event in zip(some, events, strict=True):
                self._apply_one(record, event, live=partition not in self._catching_up)
                if partition in self._catching_up and record.position.offset >= end.offset:
                    self._level(partition)
            self._store.expect(())
            self._moved[partition].set()
            await self._store.make_room()
            if len(batch) > SLICE:
                await asyncio.sleep(0)

    @staticmethod
    def _decode(record: Record) -> Event | None:
        try:
            return decode(record.data)
        except UNREADABLE as error:
            _log.error("record skipped: not an event", partition=record.partition, offset=record.position.offset, why=str(error))
            return None

    def _apply_one(self, record: Record, event: Event | None, *, live: bool) -> None:
        effects = apply(self._store, event) if event is not None else []
        self._store.advance(record.partition, record.position)
        if event is None:
            return
        self.applied += 1
        if not live:
            self._applied_at[record.partition] = event.at
            return
        self._hearers.perform(event, effects)
        for effect in effects:
            if isinstance(effect, Applied | Lost):
                self._hearers.settle(effect)
        self._hearers.count(event)
