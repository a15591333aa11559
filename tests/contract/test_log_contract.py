"""What every log guarantees: one test for each sentence of broker/log.py."""

import asyncio
import zlib
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing

import pytest

from broker.log import MOST_IN_BATCH, START, Broker, Log, LogDiverged, Position, Record
from tests.contract.logs import PARTITIONS, Place, SharedPlace
from tests.support.log_process import opened
from tests.support.wait import wait_until

pytestmark = pytest.mark.anyio
PATIENCE_S = 20.0


async def take(batches: AsyncGenerator[Sequence[Record], None], count: int) -> list[Record]:
    """The next `count` records of a follower."""
    records: list[Record] = []
    async with asyncio.timeout(PATIENCE_S):
        while len(records) < count:
            records += await anext(batches)
    return records


async def read(log: Log, partition: int, count: int, after: Position = START) -> list[Record]:
    """The first `count` records behind `after`."""
    async with aclosing(log.follow(partition, after)) as batches:
        return await take(batches, count)


async def append_all(log: Log, partition: int, data: Sequence[bytes]) -> None:
    """All of them, handed over one after the other without awaiting."""
    await asyncio.gather(*(log.append(partition, one) for one in data))


def numbered(name: str, count: int) -> list[bytes]:
    return [f"{name}:{number}".encode() for number in range(count)]


# What it is


async def test_it_has_the_partitions_it_was_made_with_and_an_epoch(place: Place) -> None:
    """The number of partitions is the one asked for, and the epoch says something."""
    async with place.open("a") as broker:
        assert broker.log.partitions == PARTITIONS
        assert len(broker.log.epoch) >= 8


async def test_another_log_has_another_epoch(place: Place, another_place: Place) -> None:
    """Two logs never have the same epoch."""
    async with place.open("a") as one, another_place.open("a") as other:
        assert one.log.epoch != other.log.epoch


async def test_everyone_who_opens_a_log_sees_the_same_epoch(place: Place) -> None:
    """Two openers at the same time, and one later, agree on the epoch."""
    async with place.open("a") as one, place.open("b") as other:
        epoch = one.log.epoch
        assert other.log.epoch == epoch
    async with place.open("c") as later:
        assert later.log.epoch == epoch


async def test_an_open_log_is_up(place: Place) -> None:
    """A log that can be written and read says that it is up, before and after its first record."""
    async with place.open("a") as broker:
        assert broker.log.up
        await broker.log.append(0, b"one")
        assert broker.log.up


# Appending and following


async def test_a_record_comes_back_as_it_was(place: Place) -> None:
    """A follower gets the partition, the bytes and a position of offset 1 or above with the CRC-32 of the bytes."""
    async with place.open("a") as broker:
        await broker.log.append(1, b"\x00\xffhello")
        (record,) = await read(broker.log, 1, 1)
    assert (record.partition, record.data) == (1, b"\x00\xffhello")
    assert record.position.offset >= 1
    assert record.position.checksum == zlib.crc32(b"\x00\xffhello")


@pytest.mark.parametrize("data", [b"", b"\x00", bytes(range(256)) * 1024], ids=["empty", "zero", "256 KiB"])
async def test_any_bytes_can_be_appended(place: Place, data: bytes) -> None:
    """No data, a zero byte, and 256 KiB are records like others, and can be followed from."""
    async with place.open("a") as broker:
        await append_all(broker.log, 0, [b"before", data, b"behind"])
        records = await read(broker.log, 0, 3)
        assert [record.data for record in records] == [b"before", data, b"behind"]
        assert [record.data for record in await read(broker.log, 0, 1, records[1].position)] == [b"behind"]


async def test_offsets_grow(place: Place) -> None:
    """Each record of a partition has a higher offset than the one before it."""
    async with place.open("a") as broker:
        await append_all(broker.log, 0, numbered("a", 300))
        offsets = [record.position.offset for record in await read(broker.log, 0, 300)]
    assert offsets == sorted(set(offsets))


async def test_partitions_are_apart(place: Place) -> None:
    """A record is in the partition it was appended to and in no other."""
    async with place.open("a") as broker:
        for partition in range(PARTITIONS):
            await append_all(broker.log, partition, numbered(f"p{partition}", 5))
        for partition in range(PARTITIONS):
            records = await read(broker.log, partition, 5)
            assert [record.data for record in records] == numbered(f"p{partition}", 5)
            assert await broker.log.end(partition) == records[-1].position


async def test_one_appender_keeps_its_order(place: Place) -> None:
    """Records handed over one after the other without awaiting stand in that order, between those of another appender."""
    async with place.open("a") as one, place.open("b") as other:
        await asyncio.gather(append_all(one.log, 0, numbered("a", 1000)), append_all(other.log, 0, numbered("b", 1000)))
        data = [record.data for record in await read(one.log, 0, 2000)]
    assert [one for one in data if one.startswith(b"a:")] == numbered("a", 1000)
    assert [one for one in data if one.startswith(b"b:")] == numbered("b", 1000)


async def test_a_group_stands_together(place: Place) -> None:
    """The records of one call stand in their order, and nothing that the same process appends meanwhile stands between them."""
    async with place.open("a") as one, place.open("b") as other:
        groups = [numbered(f"group{number}", 150) for number in range(20)]
        single = [one.log.append(0, text) for text in numbered("single", 20)]
        mine = [call for pair in zip((one.log.append_all(0, group) for group in groups), single, strict=True) for call in pair]
        await asyncio.gather(*mine, append_all(other.log, 0, numbered("other", 500)))
        data = [record.data for record in await read(one.log, 0, 20 * 151 + 500)]
    of_one = [text for text in data if not text.startswith(b"other")]
    assert of_one == [text for pair in zip(groups, numbered("single", 20), strict=True) for text in (*pair[0], pair[1])]


async def test_a_group_is_durable_when_it_returns(place: Place) -> None:
    """The end is behind the last record of a group that was just appended; a group of none changes nothing."""
    async with place.open("a") as broker:
        await broker.log.append_all(1, numbered("a", 10))
        assert (await broker.log.end(1)) == (await read(broker.log, 1, 10))[-1].position
        end = await broker.log.end(1)
        await broker.log.append_all(1, [])
        assert await broker.log.end(1) == end


async def test_many_at_once_are_all_kept(place: Place) -> None:
    """Thousands of appends that wait together are each there once."""
    async with place.open("a") as broker:
        await append_all(broker.log, 2, numbered("a", 8000))
        assert [record.data for record in await read(broker.log, 2, 8000)] == numbered("a", 8000)


async def test_a_batch_is_never_empty_and_never_over_the_limit(place: Place) -> None:
    """A follower that is far behind gets batches of 1 to 5,000 records, without a hole between them."""
    async with place.open("a") as broker:
        for _ in range(2):
            await append_all(broker.log, 0, numbered("a", 6000))
        sizes: list[int] = []
        async with aclosing(broker.log.follow(0, START)) as batches, asyncio.timeout(PATIENCE_S):
            while sum(sizes) < 12_000:
                sizes.append(len(await anext(batches)))
    assert sum(sizes) == 12_000
    assert all(1 <= size <= MOST_IN_BATCH for size in sizes)
    assert MOST_IN_BATCH == 5_000


async def test_a_follower_gets_first_what_stands_and_then_what_comes(place: Place) -> None:
    """One follower goes from the past to the present without a gap."""
    async with place.open("a") as broker, aclosing(broker.log.follow(0, START)) as batches:
        await append_all(broker.log, 0, numbered("old", 10))
        assert [record.data for record in await take(batches, 10)] == numbered("old", 10)
        for round_ in range(5):
            await append_all(broker.log, 0, numbered(f"new{round_}", 3))
            assert [record.data for record in await take(batches, 3)] == numbered(f"new{round_}", 3)


async def test_a_waiting_follower_is_woken(place: Place) -> None:
    """A follower that has already asked for a batch gets the record that is appended later."""
    async with place.open("a") as broker, aclosing(broker.log.follow(0, START)) as batches:
        asked = asyncio.ensure_future(anext(batches))
        await asyncio.sleep(0)  # it asks, and waits
        await broker.log.append(1, b"elsewhere")
        assert not asked.done()
        await broker.log.append(0, b"here")
        async with asyncio.timeout(PATIENCE_S):
            (record,) = await asked
        assert record.data == b"here"


async def test_a_follower_continues_behind_its_position(place: Place) -> None:
    """From every position of the partition comes exactly what stands behind it, never the record itself."""
    async with place.open("a") as broker:
        await append_all(broker.log, 0, numbered("a", 20))
        records = await read(broker.log, 0, 20)
        for place_, record in enumerate(records[:-1]):
            assert await read(broker.log, 0, 19 - place_, record.position) == records[place_ + 1 :]


async def test_a_follower_at_the_end_gets_only_what_is_new(place: Place) -> None:
    """Following from `end` begins with the next record."""
    async with place.open("a") as broker:
        await append_all(broker.log, 0, numbered("old", 50))
        async with aclosing(broker.log.follow(0, await broker.log.end(0))) as batches:
            await broker.log.append(0, b"new")
            assert [record.data for record in await take(batches, 1)] == [b"new"]


async def test_the_end_is_the_start_of_an_empty_partition(place: Place) -> None:
    """`end` is `START` where nothing was appended."""
    async with place.open("a") as broker:
        await broker.log.append(0, b"one")
        assert await broker.log.end(1) == START


async def test_the_end_is_the_last_record(place: Place) -> None:
    """`end` is the position of the record whose append has just returned."""
    async with place.open("a") as broker:
        for text in numbered("a", 5):
            await broker.log.append(0, text)
            assert (await broker.log.end(0)).checksum == zlib.crc32(text)
        assert await broker.log.end(0) == (await read(broker.log, 0, 5))[-1].position


async def test_two_followers_of_one_opener_each_get_everything(place: Place) -> None:
    """Followers of the same partition take nothing from each other, even when one of them stops in between."""
    async with AsyncExitStack() as stack:
        log = (await stack.enter_async_context(place.open("a"))).log
        slow, quick = [await stack.enter_async_context(aclosing(log.follow(0, START))) for _ in range(2)]
        await log.append(0, b"one")
        assert [record.data for record in await take(slow, 1)] == [b"one"]
        for text in numbered("a", 20):
            await log.append(0, text)
            await take(quick, 1)
        assert [record.data for record in await take(slow, 20)] == numbered("a", 20)


async def test_everyone_sees_the_same_order(place: Place) -> None:
    """Followers of three openers, all of which append, see the same records at the same offsets in the same order."""
    async with AsyncExitStack() as stack:
        brokers: list[Broker] = [await stack.enter_async_context(place.open(name)) for name in ("a", "b", "c")]
        reading = [asyncio.ensure_future(read(broker.log, 0, 1500)) for broker in brokers]
        await asyncio.gather(*(append_all(broker.log, 0, numbered(f"n{i}", 500)) for i, broker in enumerate(brokers)))
        first, second, third = await asyncio.gather(*reading)
    assert first == second == third
    assert len({record.data for record in first}) == 1500


async def test_closing_a_follower_leaves_no_task(place: Place) -> None:
    """After `aclose` there are the tasks that were there before, whether the follower was waiting or not."""
    async with place.open("a") as broker:
        before = asyncio.all_tasks()
        batches = broker.log.follow(0, START)
        await broker.log.append(0, b"one")
        await take(batches, 1)
        asked = asyncio.ensure_future(anext(batches))
        await asyncio.sleep(0)  # it asks, and waits
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        await batches.aclose()
        await batches.aclose()
        await wait_until(lambda: asyncio.all_tasks() <= before, PATIENCE_S, "no task of the follower")


async def test_closing_the_log_leaves_no_task(place: Place) -> None:
    """After the log is closed there are the tasks that were there before it was opened."""
    before = asyncio.all_tasks()
    async with place.open("a") as broker:
        await append_all(broker.log, 0, numbered("a", 10))
    await wait_until(lambda: asyncio.all_tasks() <= before, PATIENCE_S, "no task of the log")


# Positions that the log cannot continue from


@pytest.mark.parametrize("beyond", [0, 1, 1000])
async def test_a_position_past_the_end_has_diverged(place: Place, another_place: Place, beyond: int) -> None:
    """A log that was truncated, and is shorter than the position by any number of records, says so."""
    async with place.open("a") as long, another_place.open("a") as short:
        await append_all(long.log, 0, numbered("a", 10 + beyond))
        await append_all(short.log, 0, numbered("a", 9))
        with pytest.raises(LogDiverged):
            await read(short.log, 0, 1, await long.log.end(0))


async def test_a_position_in_an_empty_partition_has_diverged(place: Place, another_place: Place) -> None:
    """A log that was made anew, and has nothing yet, does not let a follower wait for ever."""
    async with place.open("a") as old, another_place.open("a") as new:
        await old.log.append(0, b"one")
        with pytest.raises(LogDiverged):
            await read(new.log, 0, 1, await old.log.end(0))


async def test_a_position_of_another_record_has_diverged(place: Place, another_place: Place) -> None:
    """A log that was rewritten, and has another record at that offset, says so."""
    async with place.open("a") as old, another_place.open("a") as new:
        await append_all(old.log, 0, numbered("old", 10))
        await append_all(new.log, 0, numbered("new", 10))
        with pytest.raises(LogDiverged):
            await read(new.log, 0, 1, (await read(old.log, 0, 5))[-1].position)


async def test_a_position_with_a_wrong_checksum_has_diverged(place: Place) -> None:
    """The offset alone is not enough to continue, neither with another checksum nor with none."""
    async with place.open("a") as broker:
        await append_all(broker.log, 0, numbered("a", 3))
        end = await broker.log.end(0)
        for checksum in (end.checksum ^ 1, 0):
            with pytest.raises(LogDiverged):
                await read(broker.log, 0, 1, Position(end.offset, checksum))


# Partitions there are not


@pytest.mark.parametrize("partition", [-1, PARTITIONS, 1 << 40])
async def test_a_partition_there_is_not_is_a_value_error(place: Place, partition: int) -> None:
    """Appending to it, following it and asking for its end say which partitions there are."""
    async with place.open("a") as broker:
        with pytest.raises(ValueError, match=f"no partition {partition}: the log has {PARTITIONS}"):
            await broker.log.append(partition, b"lost")
        with pytest.raises(ValueError, match=f"no partition {partition}"):
            await broker.log.append_all(partition, [b"lost"])
        with pytest.raises(ValueError, match=f"no partition {partition}"):
            await anext(broker.log.follow(partition, START))
        with pytest.raises(ValueError, match=f"no partition {partition}"):
            await broker.log.end(partition)


# Between processes


async def test_a_record_outlives_who_appended_it(shared_place: SharedPlace) -> None:
    """A record whose append returned is there for the next opener, at the same position."""
    async with shared_place.open("a") as broker:
        await append_all(broker.log, 0, numbered("a", 100))
        before = await read(broker.log, 0, 100)
    async with shared_place.open("b") as broker:
        assert await read(broker.log, 0, 100) == before
        assert await read(broker.log, 0, 50, before[49].position) == before[50:]


async def test_a_position_continues_in_a_log_that_has_grown_since(shared_place: SharedPlace) -> None:
    """Who comes back with the position where it left gets what others have appended since then."""
    async with shared_place.open("a") as broker:
        await append_all(broker.log, 0, numbered("a", 10))
        left = await broker.log.end(0)
    async with shared_place.open("b") as broker:
        await append_all(broker.log, 0, numbered("b", 10))
    async with shared_place.open("a") as broker:
        assert [record.data for record in await read(broker.log, 0, 10, left)] == numbered("b", 10)


async def test_everyone_sees_the_same_order_in_every_process(shared_place: SharedPlace) -> None:
    """A follower in another process, while both append, sees the same records at the same offsets in the same order."""
    async with shared_place.open("here") as broker, opened(shared_place.where) as there:
        for round_ in range(5):
            mine, theirs = numbered(f"here{round_}", 200), [f"there{round_}:{number}" for number in range(200)]
            appending = asyncio.ensure_future(append_all(broker.log, 0, mine))
            answer = await there.ask("append", partition=0, texts=theirs)
            await appending
            assert answer["acked"] == theirs
        seen_here = [[record.position.offset, record.data.decode()] for record in await read(broker.log, 0, 2000)]
        seen_there = (await there.ask("read", partition=0, count=2000))["records"]
    assert seen_here == seen_there


async def test_another_process_is_woken(shared_place: SharedPlace) -> None:
    """A record appended here reaches a follower that waits in another process, and the other way round."""
    async with shared_place.open("here") as broker, opened(shared_place.where) as there:
        await there.tell("read", partition=0, count=1)
        await broker.log.append(0, b"from here")
        assert [text for _, text in (await there.hear())["records"]] == ["from here"]
        asked = asyncio.ensure_future(read(broker.log, 1, 1))
        await there.ask("append", partition=1, texts=["from there"])
        assert [record.data for record in await asked] == [b"from there"]
