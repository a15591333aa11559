"""Streams of the log that were deleted, made anew, cut short, or written to by strangers: nobody reads on as if nothing had happened."""

import asyncio
import itertools
import secrets
from contextlib import aclosing
from typing import Self

import pytest

from broker.batch import Head, encode_batch, encode_head, encode_mark
from broker.log import START, Log, LogDiverged, LogUnavailable, Position
from broker.rabbitmq import open_rabbitmq
from broker.rabbitmq_ends import mark_end
from broker.rabbitmq_follower import Anchor, Follower
from broker.rabbitmq_link import Link
from broker.together import together
from broker.topology import GENESIS, stream_of
from tests.support.rabbit_log import PATIENCE_S, bare_link, make_anew, put, reading
from tests.support.wait import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.rabbitmq]
STREAM = stream_of(0)
SMALL = {"x-queue-type": "stream", "x-stream-max-segment-size-bytes": 10_000, "x-max-length-bytes": 100_000}


async def append(log: Log, name: str, count: int, *, size: int = 0) -> list[str]:
    """Append so many records one after the other, each a message of its own."""
    texts = [f"{name}:{number}".ljust(size, ".") for number in range(count)]
    for text in texts:
        await log.append(0, text.encode())
    return texts


async def diverged(log: Log, after: Position) -> str:
    """Following from there must end so; returns why."""
    async with reading(log, 0, after) as notes:
        return await notes.ended()


# Deleted and made anew

ANEW = {
    "empty": [],
    "with fewer messages": [encode_batch([b"other"])] * 3,
    "with more messages": [encode_batch([b"other"])] * 20,
    "with the head of another log": [encode_head(Head("another")), *[encode_batch([b"other"])] * 20],
}


@pytest.mark.parametrize("bodies", ANEW.values(), ids=ANEW.keys())
async def test_a_stream_that_was_made_anew_has_diverged(rabbit_url: str, bodies: list[bytes]) -> None:
    """Who is in it is told, who comes with a position is told, and who begins at the start is told: its head is not there."""
    async with open_rabbitmq([rabbit_url], partitions=1, name="here") as broker:
        async with reading(broker.log) as notes:
            await notes.got(*await append(broker.log, "mine", 10))
            end = await broker.log.end(0)
            await make_anew(rabbit_url, STREAM, *bodies)
            await notes.ended()
        await diverged(broker.log, end)
        await diverged(broker.log, notes.records[0].position)
        assert "not of this log" in await diverged(broker.log, START)


async def test_who_is_ahead_of_a_new_stream_that_grows_is_told(rabbit_url: str) -> None:
    """A stream made anew has diverged for who was further than it goes, also while somebody else keeps it growing."""
    async with open_rabbitmq([rabbit_url], partitions=1, name="here") as broker:
        await append(broker.log, "mine", 500)
        end = await broker.log.end(0)
        await make_anew(rabbit_url, STREAM, encode_head(Head(broker.log.epoch)))
        async with reading(broker.log, 0, end) as notes:

            async def told() -> bool:
                await broker.log.append(0, b"other")
                return notes.diverged is not None

            await wait_until(told, PATIENCE_S, "it is told")
            assert "was made anew" in await notes.ended()
            assert notes.records == []


async def test_who_begins_at_the_start_of_an_empty_stream_is_told(rabbit_url: str) -> None:
    """A stream of the log is never empty: one that is was lost, and nobody waits for its first record."""
    async with open_rabbitmq([rabbit_url], partitions=1, name="here") as broker:
        await make_anew(rabbit_url, STREAM)
        assert "not of this log" in await diverged(broker.log, START)


async def test_a_stream_that_is_gone_refuses_until_somebody_makes_it_anew(rabbit_url: str) -> None:
    """Appends are refused with the reason, the log is down; who follows waits, and is told when there is another."""
    async with open_rabbitmq([rabbit_url], partitions=2, name="here") as broker, reading(broker.log) as notes:
        await notes.got(*await append(broker.log, "mine", 3))
        async with bare_link(rabbit_url) as link, link.channel() as channel:
            await channel.remove_stream(STREAM)
        with pytest.raises(LogUnavailable, match=f"{STREAM} is not there"):
            await broker.log.append(0, b"lost")
        assert not broker.log.up
        await broker.log.append(1, b"elsewhere")
        await make_anew(rabbit_url, STREAM)
        await notes.ended()


# Cut short


async def small_log(url: str) -> None:
    """Make the streams of a log of one partition that keeps the last 100 kB or so; `open_rabbitmq` takes them as they are."""
    async with bare_link(url) as link, link.channel() as channel:
        await channel.make_stream(STREAM, SMALL)


async def test_a_stream_that_was_cut_short_has_diverged_for_who_is_behind(rabbit_url: str) -> None:
    """Retention that dropped what a position needs is noticed by who comes with it, and by who begins at the start."""
    await small_log(rabbit_url)
    async with open_rabbitmq([rabbit_url], partitions=1, name="here") as broker:
        await append(broker.log, "old", 5, size=1000)
        behind = await broker.log.end(0)
        await append(broker.log, "new", 200, size=1000)
        assert "was truncated" in await diverged(broker.log, behind)
        assert "was truncated" in await diverged(broker.log, START)
        assert await broker.log.holds(0, await broker.log.end(0))
        assert not await broker.log.holds(0, behind)
        async with reading(broker.log, 0, await broker.log.end(0)) as notes:
            await notes.got(*await append(broker.log, "more", 5))


async def test_segments_that_roll_over_leave_no_gap(rabbit_url: str) -> None:
    """Who is in a stream while segments begin and end, and old ones go, gets every record in its order; so does who comes back.

    Where a segment begins RabbitMQ takes an offset for itself: no gap is as it looks.
    """
    await small_log(rabbit_url)
    async with open_rabbitmq([rabbit_url], partitions=1, name="here") as broker, reading(broker.log) as notes:
        texts = []
        for round_ in range(20):
            texts += await append(broker.log, f"{round_}", 15, size=1000)
            await notes.got(texts[-1])
        assert notes.texts == texts
        messages = [broker.log.ordinal(record.position.offset) for record in notes.records]
        holes = sum(behind > before + 1 for before, behind in itertools.pairwise(messages))
        assert holes > 10
        async with reading(broker.log, 0, notes.records[-50].position) as late:
            await late.got(texts[-1])
            assert late.texts == texts[-49:]
        for record in notes.records[-50:]:
            assert await broker.log.holds(0, record.position)
        assert await broker.log.end(0) == notes.records[-1].position
        assert "was truncated" in await diverged(broker.log, START)


async def test_who_reads_too_slowly_for_retention_is_told(rabbit_url: str) -> None:
    """Whoever follows, and is overtaken by what drops the oldest, gets a beginning without a gap, and is told that it does not go on."""
    await small_log(rabbit_url)
    async with open_rabbitmq([rabbit_url], partitions=1, name="here") as broker, aclosing(broker.log.follow(0, START)) as batches:
        texts = await append(broker.log, "first", 1, size=1000)
        read = [record.data.decode() for record in await anext(batches)]
        texts += await append(broker.log, "more", 600, size=1000)  # three times what is sent ahead

        async def read_on() -> None:
            async for batch in batches:
                read.extend(record.data.decode() for record in batch)

        with pytest.raises(LogDiverged, match="was truncated"):
            await asyncio.wait_for(read_on(), PATIENCE_S)
        assert 0 < len(read) < len(texts)
        assert read == texts[: len(read)]


class Growing:
    """A stream that grows as fast as one channel can make it, for as long as the block runs; how many messages it has, about."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.length = 0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._grow())
        try:
            await wait_until(lambda: self.length > 100 or self._task.done(), PATIENCE_S, "it grows")
            assert not self._task.done(), self._task.exception()
        except BaseException:
            self._task.cancel()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        assert self._task.cancelled()

    async def _grow(self) -> None:
        async with self._link.channel(confirms=True) as channel:
            while True:
                body = encode_mark(secrets.token_bytes(4))
                await together(channel.append(STREAM, body, secrets.token_hex(4), limit_s=PATIENCE_S) for _ in range(5))
                self.length += 5


async def test_who_is_ahead_of_a_broker_waits_for_it(rabbit_url: str) -> None:
    """A reader that was further than its broker is now, as after a restart, goes on where it was and never takes it for truncated.

    RabbitMQ, asked for what it does not have yet, begins with what comes next, and what comes while it looks it does not give: one
    time in ten, where a stream grows as fast as here.
    """

    async def end() -> int:
        return (await mark_end(STREAM, reading=reader, writing=writer)).offset

    async with bare_link(rabbit_url) as reader, bare_link(rabbit_url) as writer:
        async with writer.channel() as channel:
            await channel.make_stream(STREAM, {"x-queue-type": "stream"})
        async with Growing(writer) as stream:
            for number in range(60):
                ahead = stream.length + 2 + number % 30
                follower = Follower(reader, STREAM, Anchor(ahead, lambda _: True), end)
                async with aclosing(follower.deliveries()) as deliveries:
                    assert (await asyncio.wait_for(anext(deliveries), PATIENCE_S))[0].offset == ahead


# Strangers


async def test_a_strangers_message_in_a_stream_is_passed_over(rabbit_url: str) -> None:
    """Bytes that no version of ours has written are no record, break nobody, and are no end; what stands around them is read."""
    foreign = [b"", b"hello", b"H\x81\xa5epoch\xa2\xff\xfe", b"B\x91\xa1a", b"B\x91" * 50_000]
    junk = [*foreign, encode_mark(b"mark"), encode_head(Head("another"))]
    async with open_rabbitmq([rabbit_url], partitions=1, name="here") as broker, reading(broker.log) as notes:
        before = await append(broker.log, "before", 2)
        end = await broker.log.end(0)
        await put(rabbit_url, STREAM, *junk)
        assert await broker.log.end(0) == end
        after = await append(broker.log, "after", 2)
        await notes.got(*after)
        assert notes.texts == before + after
        async with reading(broker.log, 0, end) as late:
            await late.got(*after)
            assert late.texts == after


async def test_junk_in_the_first_stream_hides_no_log(rabbit_url: str) -> None:
    """Before, between and behind what says which log this is, a stranger's messages are passed over."""
    junk = [
        b"",
        b"\xff",
        b"{}",
        b'{"type":"genesis"}',
        b'{"type":"asked","name":1}',
        b"[" * 100_000,
        b'{"type":"asked","name":"\xff"}',
    ]
    async with bare_link(rabbit_url) as link, link.channel() as channel:
        await channel.make_stream(GENESIS, {"x-queue-type": "stream"})
    await put(rabbit_url, GENESIS, *junk)
    async with open_rabbitmq([rabbit_url], partitions=2, name="here") as broker:
        epoch = broker.log.epoch
    await put(
        rabbit_url, GENESIS, *junk, b'{"type":"genesis","epoch":"another","partitions":7}', b'{"type":"whole","epoch":"another"}'
    )
    async with open_rabbitmq([rabbit_url], partitions=2, name="here") as broker:
        assert broker.log.epoch == epoch
        await broker.log.append(1, b"one")


async def test_a_log_that_only_partly_is_there_is_not_made_anew_in_silence(rabbit_url: str) -> None:
    """Where a stream of a whole log is missing, whoever would make the log says which one, and makes nothing."""
    async with open_rabbitmq([rabbit_url], partitions=3, name="here"):
        pass
    async with bare_link(rabbit_url) as link, link.channel() as channel:
        await channel.remove_stream(stream_of(1))
    for _ in range(2):
        with pytest.raises(LogDiverged, match=f"{stream_of(1)} is gone"):
            async with open_rabbitmq([rabbit_url], partitions=3, name="here"):
                pass


async def test_a_log_whose_first_stream_was_lost_goes_on(rabbit_url: str) -> None:
    """Where only the stream that says which log this is was deleted, the heads of the others say it, and nothing has diverged."""
    async with open_rabbitmq([rabbit_url], partitions=2, name="here") as broker:
        epoch, texts = broker.log.epoch, await append(broker.log, "old", 3)
    async with bare_link(rabbit_url) as link, link.channel() as channel:
        await channel.remove_stream(GENESIS)
    async with open_rabbitmq([rabbit_url], partitions=2, name="here") as broker, reading(broker.log) as notes:
        assert broker.log.epoch == epoch
        await notes.got(*texts, *await append(broker.log, "new", 3))


async def test_no_log_is_made_over_streams_of_several(rabbit_url: str) -> None:
    """Where that stream is gone, and the heads of the others do not agree, whoever opens the log is told by name."""
    async with open_rabbitmq([rabbit_url], partitions=2, name="here"):
        pass
    await make_anew(rabbit_url, stream_of(1), encode_head(Head("another")))
    async with bare_link(rabbit_url) as link, link.channel() as channel:
        await channel.remove_stream(GENESIS)
    with pytest.raises(LogDiverged, match=f"{stream_of(1)} is of another log"):
        async with open_rabbitmq([rabbit_url], partitions=2, name="here"):
            pass
