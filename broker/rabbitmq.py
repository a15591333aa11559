"""The log on RabbitMQ streams: a stream for each partition, and one that says which log this is.

Durability: a record whose append returned is on a majority of the replicas. Streams never fsync: it survives the `kill -9` of brokers, and
the power failure of fewer than half of them; with a single broker not always its power failure.

Positions: `offset` is the offset of a message in its stream, shifted, and the record's place in that message (`broker/batch.py`).
"""

import asyncio
import contextlib
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Protocol

from broker.batch import Batch, Head, decode_body, of_position, to_position
from broker.log import MOST_IN_BATCH, START, LogDiverged, LogUnavailable, Position, Record, check_partition
from broker.rabbitmq_appender import Appender
from broker.rabbitmq_channel import Delivery, LinkLost, NoReplica
from broker.rabbitmq_ends import mark_end
from broker.rabbitmq_follower import Anchor, Follower, Start
from broker.rabbitmq_genesis import Genesis, found
from broker.rabbitmq_hearing import Hearing
from broker.rabbitmq_link import Link, LinkClosed
from broker.rabbitmq_rebase import holds, rebase
from broker.rabbitmq_signals import RabbitSignals
from broker.topology import stream_of

APPEND_LIMIT_S = 2.2  # the contract says 3 s, and what waits behind the first in a session is refused behind it
END_LIMIT_S = 2.5
LOOK_LIMIT_S = 12.0  # a stream that is not there is looked for over 6 s
AGAIN_S = 0.1
OPEN_LIMIT_S, READ_LIMIT_S = 30.0, 5.0  # for brokers that start together with the nodes; for who only looks
OPEN_POLL_S = 0.2
REFUSED_LIMIT_S = 3.0  # for a user or a vhost that a starting broker may not have yet
BEGIN_LIMIT_S = 5.0
FLUSH_LIMIT_S = 2.0
LOOK_BACK, LOOK_BACK_MORE = 8, 16  # messages before the end, which may all be marks, and how many times as many the next time
LOOK_EVERY_S = 0.5


class Observer(Protocol):
    """Who counts. Nothing here may raise."""

    def lost(self, why: str) -> None:
        """A connection to the broker was lost, or given up since nothing came over it; another one is made."""
        ...

    def canary(self, seconds: float) -> None:
        """A signal to ourselves took so long through the broker."""
        ...


class Uncounted:
    """Nobody counts."""

    def lost(self, why: str) -> None: ...

    def canary(self, seconds: float) -> None: ...


class RabbitLog:
    """See `broker.log.Log`."""

    def __init__(self, genesis: Genesis, appending: Link, following: Link) -> None:
        self._genesis, self._appending, self._following = genesis, appending, following
        self._hearings = [Hearing() for _ in range(genesis.partitions)]
        self._appenders = [
            Appender(appending, stream_of(partition), confirmed=self._expect(partition), limit_s=APPEND_LIMIT_S)
            for partition in range(genesis.partitions)
        ]
        self._closed = False
        self.deaf: str | None = None  # why what stands in the log does not come; None while it does

    @property
    def partitions(self) -> int:
        return self._genesis.partitions

    @property
    def epoch(self) -> str:
        return self._genesis.epoch

    @property
    def up(self) -> bool:
        links = self._appending.up and self._following.up
        return links and not self._closed and not any(appender.failing for appender in self._appenders)

    async def append(self, partition: int, data: bytes) -> None:
        await self._put(partition, (data,))

    async def append_all(self, partition: int, data: Sequence[bytes]) -> None:
        await self._put(partition, data)

    def _put(self, partition: int, data: Sequence[bytes]) -> "asyncio.Future[None]":
        check_partition(partition, self.partitions)
        if self._closed:
            raise LogUnavailable("the log is closed")
        return self._appenders[partition].put(data)

    def follow(self, partition: int, after: Position) -> AsyncGenerator[Sequence[Record], None]:
        check_partition(partition, self.partitions)
        return self._follow(partition, after)

    async def _follow(self, partition: int, after: Position) -> AsyncGenerator[Sequence[Record], None]:
        message, index = of_position(after.offset)
        follower = Follower(self._following, stream_of(partition), self._start(after), lambda: self._mark(partition))
        hearing, number_of = self._hearings[partition], self._appenders[partition].number_of
        hearing.begin(follower)
        records: list[Record] = []
        try:
            async with aclosing(follower.deliveries()) as deliveries:
                async for some in deliveries:
                    for delivery in some:
                        if number := number_of(delivery.id):
                            hearing.came(number)
                        if delivery.offset == 0 and after == START:
                            self._check_head(partition, delivery)
                        more = _records(partition, delivery, behind=index if delivery.offset == message else 0)
                        if len(records) + len(more) > MOST_IN_BATCH:
                            yield records
                            records = []
                        records += more
                    if records:
                        yield records
                        records = []
        except LinkClosed:
            raise LogUnavailable("the log is closed") from None
        finally:
            hearing.end(follower)

    @property
    def unit(self) -> str:
        return "block"

    def ordinal(self, offset: int) -> int:
        return of_position(offset)[0] if offset else 0

    async def end(self, partition: int) -> Position:
        check_partition(partition, self.partitions)
        loop = asyncio.get_running_loop()
        began, why = loop.time(), "the log did not answer in time"
        while loop.time() - began < END_LIMIT_S:
            try:
                async with asyncio.timeout(END_LIMIT_S):
                    before = await self._mark(partition)
                return await self._end(partition, before)  # as long as messages come
            except (LinkLost, TimeoutError) as error:  # the next moment may do, or the next broker
                why = str(error) or why
                if isinstance(error, NoReplica) and self._following.has_others:
                    self._following.drop(why)
                await asyncio.sleep(AGAIN_S)
        raise LogUnavailable(why)

    async def holds(self, partition: int, position: Position) -> bool:
        check_partition(partition, self.partitions)
        with _unavailable():
            async with asyncio.timeout(LOOK_LIMIT_S):
                return await holds(self._following, self._appending, stream_of(partition), self._start(position), self.epoch)

    async def rebase(self, partition: int, position: Position, *, anew: bool) -> Position:
        check_partition(partition, self.partitions)

        async def is_empty() -> bool:
            return await self.end(partition) == START

        with _unavailable():
            async with asyncio.timeout(2 * LOOK_LIMIT_S):
                links = self._following, self._appending
                return await rebase(*links, stream_of(partition), self.epoch, position, is_empty if anew else None)

    async def aclose(self) -> None:
        """Append what waits, then refuse. Idempotent."""
        self._closed = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_LIMIT_S):
                for appender in self._appenders:
                    await appender.appended()

    async def began(self) -> None:
        """Return when each partition has had a channel to append on."""
        for appender in self._appenders:
            await appender.began.wait()

    async def run(self) -> None:
        """Append, and look whether what is in the streams comes to us, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for appender in self._appenders:
                tasks.create_task(appender.run())
            tasks.create_task(self._listen())

    # What other nodes say, and what we say to them

    def offsets(self) -> dict[int, int]:
        """The last message that was read of each partition that is followed."""
        return {p: hearing.reader.offset for p, hearing in enumerate(self._hearings) if hearing.reader is not None}

    def heard(self, offsets: Mapping[int, int]) -> None:
        """Another node has read so far: what it has read will come to us too."""
        now = asyncio.get_running_loop().time()
        for partition, offset in offsets.items():
            if 0 <= partition < self.partitions:
                self._hearings[partition].claimed(offset, now)

    async def _listen(self) -> None:
        """Where something is missing that stands in a stream, the connection is deaf, whatever it answers: take another."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            now = loop.time()
            for hearing in self._hearings:
                hearing.look(now)
            deaf = [partition for partition, hearing in enumerate(self._hearings) if hearing.deaf]
            why = f"nothing comes of partition {deaf[0]} of the log although there is more" if deaf else None
            self.deaf = why or self._kept_out(now)
            if why is not None and any(hearing.silent for hearing in self._hearings):
                self._following.drop(why)

    def _kept_out(self, now: float) -> str | None:
        """The words of a partition that cannot be read. Another connection would hardly help; the reader takes one where it may."""
        each = [(partition, hearing.kept_out(now)) for partition, hearing in enumerate(self._hearings)]
        return next((f"partition {partition} of the log cannot be read: {why}" for partition, why in each if why), None)

    def _expect(self, partition: int) -> Callable[[str], None]:
        return lambda id: self._hearings[partition].confirmed(self._appenders[partition].number_of(id))

    # Positions

    def _start(self, after: Position) -> Start:
        if after == START:
            return "first"
        message, index = of_position(after.offset)

        def fits(delivery: Delivery) -> bool:
            if index == 0:
                return isinstance(decode_body(delivery.body), Head) and zlib.crc32(delivery.body) == after.checksum
            body = decode_body(delivery.body)
            return (
                isinstance(body, Batch) and len(body.records) >= index and zlib.crc32(body.records[index - 1]) == after.checksum
            )

        return Anchor(message, fits)

    def _check_head(self, partition: int, delivery: Delivery) -> None:
        head = decode_body(delivery.body)
        if not isinstance(head, Head) or head.epoch != self.epoch:
            raise LogDiverged(f"{stream_of(partition)} is not of this log: it was removed and made anew")
        if head.based:
            raise LogDiverged(f"{stream_of(partition)} was made anew, and what stood before is in a snapshot only")

    async def _mark(self, partition: int) -> int:
        """The offset of a new mark at the end of the stream. Raises `LinkLost`."""
        return (await mark_end(stream_of(partition), reading=self._following, writing=self._appending)).offset

    async def _end(self, partition: int, before: int) -> Position:
        """The last record of the messages before this offset: usually of the one just before."""
        many = LOOK_BACK
        while True:
            first, last = max(0, before - many), START
            async with self._following.channel() as channel:
                inbox = await channel.consume(stream_of(partition), offset=first or "first", prefetch=100)
                offset = -1
                while offset < before:  # the mark itself comes, whatever stands before it
                    async with asyncio.timeout(END_LIMIT_S):
                        some = await inbox.take(100)
                    for delivery in some:
                        await channel.acknowledge(delivery.tag)
                        offset = delivery.offset
                        if offset < before and (records := _records(partition, delivery, behind=0)):
                            last = records[-1].position
            if last != START or first == 0:
                return last
            many *= LOOK_BACK_MORE


@contextlib.contextmanager
def _unavailable() -> Iterator[None]:
    try:
        yield
    except (LinkLost, TimeoutError) as error:
        raise LogUnavailable(str(error) or "the log did not answer in time") from None


def _records(partition: int, delivery: Delivery, *, behind: int) -> list[Record]:
    """The records of one message from the index `behind` on."""
    body = decode_body(delivery.body)
    if not isinstance(body, Batch):
        return []
    records = body.records[behind:] if behind else body.records
    return [
        Record(partition, Position(offset, zlib.crc32(data)), data)
        for offset, data in enumerate(records, to_position(delivery.offset, behind + 1))
    ]


class RabbitBroker:
    """The log and the signals of a cluster on RabbitMQ."""

    def __init__(self, log: RabbitLog, signals: RabbitSignals) -> None:
        self.log, self.signals = log, signals

    @property
    def deaf(self) -> str | None:
        return self.log.deaf or self.signals.deaf


@asynccontextmanager
async def open_rabbitmq(
    urls: Sequence[str], *, partitions: int | None, name: str, create: bool = True, observe: Observer | None = None
) -> AsyncIterator[RabbitBroker]:
    """Open the log on the brokers at `urls` (hosts of one cluster), made with `partitions` partitions where `create` says so.

    `name` is this process's among those that share the log. Raises `LogUnavailable` when no broker answers within 30 s (5 s
    without `create`) or lets us in,
    or there is no log; `LogDiverged` when a stream of it is gone; `ValueError` when it has another number of partitions (None takes
    what it has).
    """
    counting = observe or Uncounted()
    links = [Link(urls, f"tidegate {name} {use}", lost=counting.lost) for use in ("append", "follow", "signal")]
    appending, following, signalling = links
    async with _running(link.run() for link in links):
        await _reached(appending, OPEN_LIMIT_S if create else READ_LIMIT_S)
        genesis = await found(appending, partitions, create=create)
        log = RabbitLog(genesis, appending, following)
        signals = RabbitSignals(signalling, name, offsets=log.offsets, heard=log.heard, canary=counting.canary)
        async with _running((log.run(), signals.run())):
            with contextlib.suppress(TimeoutError):  # the broker went away meanwhile: it is waited for like later on
                async with asyncio.timeout(BEGIN_LIMIT_S):
                    await log.began()
                    await signals.bound.wait()
            try:
                yield RabbitBroker(log, signals)
            finally:
                await signals.last_words()
                await log.aclose()


async def _reached(link: Link, limit_s: float) -> None:
    """Return once a broker answers. Raises `LogUnavailable` when none does for so long, or when they refuse us for a while."""
    loop = asyncio.get_running_loop()
    began, refused_at = loop.time(), None
    while not link.up:
        now = loop.time()
        refused_at = (refused_at or now) if link.refused else None
        if now - began > limit_s or (refused_at is not None and now - refused_at > REFUSED_LIMIT_S):
            raise LogUnavailable(f"no broker of the log lets us in: {link.why}")
        await link.changed(OPEN_POLL_S)


@asynccontextmanager
async def _running(work: Iterable[Coroutine[None, None, None]]) -> AsyncIterator[None]:
    """Tasks for as long as the block runs; the failure of one ends it. What the block raises leaves as it is, in no group."""
    raised: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
            try:
                yield
            except Exception as error:
                raised = error
                raise
            finally:
                for task in tasks:
                    task.cancel()
    except BaseExceptionGroup:
        if raised is not None:
            raise raised from raised.__cause__
        raise
