"""The embedded log under real faults: killed processes, full disks, held locks, files taken away."""

# ruff: noqa: ASYNC240 (a test may block on a file)
import asyncio
import fcntl
import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, aclosing, closing
from pathlib import Path

import pytest

from broker.log import START, Log, LogDiverged, LogUnavailable, Position
from broker.sqlite import SqliteBroker, open_sqlite
from broker.sqlite_writer import BATCH, LONGEST_WAL, MOST_WAITING, Pending
from tests.support.log_process import LogProcess, opened
from tests.support.wait import block_until, wait_until

pytestmark = pytest.mark.anyio
REFUSED_WITHIN_S = 3.0
TURN_S = 4.0  # on a machine that is busy beside them, too: who is starved waits for as long as they go on
BUSY_S = 4.0  # what ten thousand refusals may take beside everything else on the machine
BACK_WITHIN_S = 5.0
PATIENCE_S = 20.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


async def everything(log: Log) -> list[str]:
    """The texts of all partitions, up to their ends now."""
    texts: list[str] = []
    for partition in range(log.partitions):
        end = await log.end(partition)
        async with aclosing(log.follow(partition, START)) as batches, asyncio.timeout(PATIENCE_S):
            at = START
            while at != end:
                batch = await anext(batches)
                at = batch[-1].position
                texts += [record.data.decode() for record in batch]
    return texts


async def refused(broker: SqliteBroker, data: bytes = b"refused") -> str:
    """Append one record that must be refused in time; returns why."""
    began = time.monotonic()
    with pytest.raises(LogUnavailable) as refusal:
        await broker.log.append(0, data)
    assert time.monotonic() - began < REFUSED_WITHIN_S
    return str(refusal.value)


# Killed processes


async def test_kill_9_in_the_middle_of_appending_loses_nothing_acknowledged(path: Path) -> None:
    """Ten times a process is killed while it and another append: every acknowledged record is in the log once."""
    acked: list[str] = []
    async with opened(path) as survivor:
        await survivor.ask("stream", name="survivor", in_flight=8)
        for round_ in range(10):
            async with opened(path) as victim:
                await victim.tell("stream", name=f"victim{round_}", in_flight=64)
                heard = [await victim.hear() for _ in range(1 + 37 * round_)]
                await victim.kill()
                heard += await victim.heard()
            acked += [f"victim{round_}:{message['acked']}" for message in heard if message]
        before = [await survivor.hear() for _ in range(200)]
        await survivor.kill()
        acked += [f"survivor:{message['acked']}" for message in before + await survivor.heard()]
    async with open_sqlite(path, partitions=None, name="here", create=False) as broker:
        texts = await everything(broker.log)
    assert len(acked) > 1000
    assert len(set(acked)) == len(acked)
    assert set(acked) - set(texts) == set()
    assert len(set(texts)) == len(texts)


async def test_all_processes_killed_at_once_lose_nothing_acknowledged(path: Path) -> None:
    """Three processes append and are killed together: nobody is left to finish, and nothing acknowledged is missing."""
    acked: list[str] = []
    async with AsyncExitStack() as stack:
        children = [await stack.enter_async_context(opened(path)) for _ in range(3)]
        for name, child in enumerate(children):
            await child.tell("stream", name=str(name), in_flight=32)
        heard = [[await child.hear() for _ in range(100)] for child in children]
        for child in children:
            child.send(signal.SIGKILL)
        for name, child in enumerate(children):
            acked += [f"{name}:{message['acked']}" for message in heard[name] + await child.heard() if message]
    async with open_sqlite(path, partitions=None, name="here", create=False) as broker:
        texts = await everything(broker.log)
    assert len(acked) >= 297
    assert set(acked) - set(texts) == set()


# Locks


HELD = {
    "the lock file": {"lock": True, "begin": None},
    "an exclusive transaction": {"lock": False, "begin": "EXCLUSIVE"},
    "both, in the middle of writing": {"lock": True, "begin": "IMMEDIATE"},
}


@pytest.mark.parametrize("held", HELD.values(), ids=HELD.keys())
async def test_a_lock_that_another_process_holds_refuses_appends_until_it_is_gone(path: Path, held: dict[str, object]) -> None:
    """Appends are refused within 3 s, reading goes on; when the holder is killed, the log comes back by itself."""
    async with open_sqlite(path, partitions=3, name="here") as broker:
        await broker.log.append(0, b"before")
        async with opened(path, how={"hold": True} | held) as holder:
            await refused(broker)
            assert not broker.log.up
            assert "before" in await everything(broker.log)
            await holder.kill()
        await wait_until(lambda: broker.log.up, BACK_WITHIN_S, "the log to come back without an append")
        await broker.log.append(0, b"after")
        texts = await everything(broker.log)
    assert texts[0] == "before" and texts[-1] == "after"
    assert "torn" not in texts


async def test_a_group_that_is_refused_is_not_there_in_part(path: Path) -> None:
    """While the log is locked a group is refused in time, as one; repeated until it goes, it stands in front of what came later."""
    group, later = [f"group{number}" for number in range(300)], [f"later{number}" for number in range(300)]
    async with open_sqlite(path, partitions=1, name="here") as broker:
        async with opened(path, how={"hold": True, "lock": True, "begin": None}) as holder:
            began = time.monotonic()
            with pytest.raises(LogUnavailable):
                await broker.log.append_all(0, [text.encode() for text in group])
            assert time.monotonic() - began < REFUSED_WITHIN_S
            assert await everything(broker.log) == []
            await holder.kill()
        for texts in (group, later):
            await broker.log.append_all(0, [text.encode() for text in texts])
        assert await everything(broker.log) == group + later


async def test_more_than_the_buffer_takes_is_refused_at_once(path: Path) -> None:
    """While the log is locked, appends past the bound of the buffer do not wait, and all others are refused in time."""
    async with (
        open_sqlite(path, partitions=1, name="here") as broker,
        opened(path, how={"hold": True, "lock": True, "begin": None}),
    ):
        waiting = [asyncio.ensure_future(broker.log.append(0, b"x")) for _ in range(MOST_WAITING + BATCH + 100)]
        done, _ = await asyncio.wait(waiting, timeout=REFUSED_WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
        assert any("too many" in str(each.exception()) for each in done)  # on a slow machine others are late by then, too
        began = time.monotonic()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert time.monotonic() - began < REFUSED_WITHIN_S + BUSY_S
        assert all(isinstance(outcome, LogUnavailable) for outcome in outcomes)


async def test_a_busy_process_does_not_starve_another(path: Path) -> None:
    """While two processes append as fast as they can, a third one's appends each take their turn."""
    async with AsyncExitStack() as stack:
        for _ in range(2):
            busy = await stack.enter_async_context(opened(path))
            await busy.tell("flood", partition=0, in_flight=200)
        broker = await stack.enter_async_context(open_sqlite(path, partitions=3, name="here"))
        took = []
        for _ in range(50):
            began = time.monotonic()
            await broker.log.append(1, b"mine")
            took.append(time.monotonic() - began)
    assert max(took) < TURN_S


# Full disks


async def fill_and_free(child: LogProcess, *, full: tuple[str, dict[str, int]], free: tuple[str, dict[str, None]]) -> list[str]:
    """Append with the disk full and then not; returns what was acknowledged."""
    acked: list[str] = (await child.ask("append", partition=0, texts=["before"]))["acked"]
    assert acked == ["before"]
    await child.ask(full[0], **full[1])
    for round_ in range(40):
        answer = await child.ask("append", partition=0, texts=[f"{round_}.{n}:" + "x" * 5000 for n in range(50)])
        assert answer["took"] < REFUSED_WITHIN_S
        acked += answer["acked"]
        if answer["errors"]:
            break
    assert answer["errors"]
    assert all(error.startswith("LogUnavailable: ") for error in answer["errors"])
    assert (await child.ask("up", wanted=False))["up"] is False
    await child.ask(free[0], **free[1])
    back = await child.ask("up", wanted=True)
    assert back["up"] is True and back["took"] < BACK_WITHIN_S
    answer = await child.ask("append", partition=0, texts=["after"])
    assert answer["acked"] == ["after"]
    return [*acked, "after"]


async def test_a_process_that_may_not_write_more_refuses_and_recovers(path: Path) -> None:
    """Past a limit on file sizes appends are refused; others go on; with the limit gone so does this one, and nothing is missing."""
    async with opened(path) as child:
        acked = await fill_and_free(child, full=("limit_files", {"size": 300_000}), free=("limit_files", {"size": None}))
    async with open_sqlite(path, partitions=None, name="here", create=False) as broker:
        texts = await everything(broker.log)
    assert set(acked) - set(texts) == set()
    assert len(set(texts)) == len(texts)


def _own_disk(folder: Path) -> list[str]:
    """A command that runs its arguments with a file system of 2 MB at `folder`, which goes when they end."""
    script = 'mount -t tmpfs -o size=2m tmpfs "$0" && exec "$@"'
    who = [] if os.geteuid() == 0 else ["--map-root-user"]
    return ["unshare", "--mount", *who, "sh", "-c", script, str(folder)]


def _machines_with_disks_to_fill() -> Iterator[str]:
    """Mounting is not allowed everywhere (containers); the limit on file sizes above is, and tests the same code."""
    with tempfile.TemporaryDirectory() as folder:
        command = [*_own_disk(Path(folder)), "true"]
        if shutil.which("unshare") and subprocess.run(command, capture_output=True, check=False).returncode == 0:
            yield "tmpfs"


@pytest.mark.parametrize("disk", list(_machines_with_disks_to_fill()))
async def test_a_full_disk_refuses_and_recovers(tmp_path: Path, disk: str) -> None:
    """With no block left appends are refused; with some space again the log goes on by itself, and nothing is missing."""
    async with opened(tmp_path / "log.db", before=_own_disk(tmp_path)) as child:
        acked = await fill_and_free(child, full=("fill_disk", {}), free=("free_disk", {}))
        records = (await child.ask("read", partition=0, count=len(acked)))["records"]
    texts = [text for _, text in records]
    assert set(acked) - set(texts) == set()
    assert len(set(texts)) == len(texts)


# The file goes, or is another


async def test_a_removed_file_refuses_and_diverges(path: Path) -> None:
    """Nothing is acknowledged into a file that is gone, and its followers are told."""
    async with open_sqlite(path, partitions=1, name="here") as broker:
        await broker.log.append(0, b"one")
        async with aclosing(broker.log.follow(0, START)) as batches:
            await anext(batches)
            path.unlink()
            assert "removed or replaced" in await refused(broker)
            assert not broker.log.up
            with pytest.raises(LogDiverged, match="removed or replaced"):
                async with asyncio.timeout(PATIENCE_S):
                    await anext(batches)
        assert not broker.log.up
        with pytest.raises(LogUnavailable, match="removed or replaced"):
            await broker.log.end(0)


async def test_a_replaced_file_refuses_and_diverges(path: Path, tmp_path: Path) -> None:
    """Another log in the place of the open one is not taken for it."""
    async with open_sqlite(tmp_path / "other.db", partitions=1, name="other") as other:
        await other.log.append(0, b"one")
    async with open_sqlite(path, partitions=1, name="here") as broker:
        await broker.log.append(0, b"one")
        os.replace(tmp_path / "other.db", path)
        assert "removed or replaced" in await refused(broker)
        with pytest.raises(LogDiverged, match="removed or replaced"):
            await read_on(broker.log, START)
        assert not broker.log.up


@pytest.mark.parametrize(
    "change", ["DELETE FROM partition_0 WHERE offset > 5", "UPDATE partition_0 SET data = X'00' WHERE offset = 10"]
)
async def test_a_log_rewritten_in_place_diverges(path: Path, change: str) -> None:
    """Who is at the end of a partition that is cut short, or whose last record is changed, is told while it follows."""
    async with open_sqlite(path, partitions=1, name="here") as broker, aclosing(broker.log.follow(0, START)) as batches:
        await asyncio.gather(*(broker.log.append(0, b"%d" % number) for number in range(10)))
        seen = 0
        while seen < 10:
            seen += len(await anext(batches))
        with closing(sqlite3.connect(path, isolation_level=None)) as vandal:
            vandal.execute(change)
        with pytest.raises(LogDiverged, match="does not hold the record"):
            async with asyncio.timeout(PATIENCE_S):
                await anext(batches)


async def test_damage_is_divergence(path: Path) -> None:
    """A file whose pages were overwritten does not let its followers wait for ever."""
    async with open_sqlite(path, partitions=1, name="here") as broker:
        await asyncio.gather(*(broker.log.append(0, b"x" * 1000) for _ in range(200)))
    with path.open("r+b") as file:
        file.seek(2 * 4096)
        file.write(b"\xff" * (path.stat().st_size - 2 * 4096))
    async with open_sqlite(path, partitions=1, name="here") as broker:
        with pytest.raises(LogDiverged, match="damaged"):
            await read_on(broker.log, START)
        assert not broker.log.up


async def read_on(log: Log, after: Position) -> None:
    """Follow until it ends by itself."""
    async with asyncio.timeout(PATIENCE_S), aclosing(log.follow(0, after)) as batches:
        async for _ in batches:
            pass


# Growth that nobody was told of, and a watch that fails


async def test_a_lost_nudge_costs_only_a_poll(path: Path) -> None:
    """A record committed without any nudge reaches a waiting follower all the same."""
    async with open_sqlite(path, partitions=1, name="here") as broker, aclosing(broker.log.follow(0, START)) as batches:
        await broker.log.append(0, b"one")
        await anext(batches)
        asked = asyncio.ensure_future(anext(batches))
        await asyncio.sleep(0)  # it waits
        with closing(sqlite3.connect(path, isolation_level=None)) as silent:
            silent.execute("INSERT INTO partition_0 VALUES (2, X'00')")
        async with asyncio.timeout(1.0):
            (record,) = await asked
        assert record.position.offset == 2


async def test_the_last_of_many_partitions_is_followed_and_nudged(path: Path) -> None:
    """A log of 257 partitions, more than a byte can number, wakes the followers of the last one in both directions."""
    async with AsyncExitStack() as stack:
        logs = [(await stack.enter_async_context(open_sqlite(path, partitions=257, name=name))).log for name in ("a", "b")]
        followers = [await stack.enter_async_context(aclosing(log.follow(256, START))) for log in logs]
        for text in (b"one", b"two"):
            await logs[0].append(256, text)
            async with asyncio.timeout(PATIENCE_S):
                assert [[record.data for record in await anext(follower)] for follower in followers] == [[text], [text]]


async def test_a_watch_that_fails_is_not_silent(path: Path) -> None:
    """When the poll itself breaks, followers and appenders are told, and the log is down."""
    async with open_sqlite(path, partitions=1, name="here") as broker, aclosing(broker.log.follow(0, START)) as batches:
        asked = asyncio.ensure_future(anext(batches))
        await asyncio.sleep(0)  # it waits
        broker.log._reader.close()  # nothing outside can break it so
        with pytest.raises(RuntimeError, match="watch failed"):
            async with asyncio.timeout(PATIENCE_S):
                await asked
        assert "watch failed" in await refused(broker)
        assert not broker.log.up


async def test_followers_of_a_closed_log_are_told(path: Path) -> None:
    """A follower that was forgotten does not hang when the log is closed, and appends are refused at once."""
    async with open_sqlite(path, partitions=1, name="here") as broker:
        asked = asyncio.ensure_future(anext(broker.log.follow(0, START)))
        await broker.log.append(0, b"one")
        await asked
        waiting = asyncio.ensure_future(anext(broker.log.follow(0, await broker.log.end(0))))
        await asyncio.sleep(0)  # it waits
    with pytest.raises(LogUnavailable, match="closed"):
        await waiting
    assert "closed" in await refused(broker)
    assert not broker.log.up


def test_a_loop_that_closes_under_the_log_does_not_break_its_writer(path: Path) -> None:
    """A commit that ends after its loop has been closed is kept, and the writer's thread lives on."""
    loop = asyncio.new_event_loop()
    opening = open_sqlite(path, partitions=1, name="here")
    broker = loop.run_until_complete(opening.__aenter__())
    lock = os.open(path.with_name("log.db.lock"), os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    writer = broker.log._writer
    writer.put(Pending(0, [b"one"], loop.create_future()))
    block_until(lambda: not writer._waiting, PATIENCE_S, "the writer to take the record")
    watching = asyncio.all_tasks(loop)
    for task in watching:
        task.cancel()
    loop.run_until_complete(asyncio.wait(watching))
    loop.close()
    os.close(lock)
    with closing(sqlite3.connect(path)) as reader:
        block_until(lambda: reader.execute("SELECT data FROM partition_0").fetchall() == [(b"one",)], PATIENCE_S, "the commit")
    assert all(thread.is_alive() for thread in writer._threads)
    asyncio.run(writer.aclose())
    assert not any(thread.is_alive() for thread in writer._threads)


# Space


async def test_the_write_ahead_log_stays_bounded_under_load(path: Path) -> None:
    """While three processes append without a pause and others read, the write-ahead log never grows far past its limit."""
    async with AsyncExitStack() as stack:
        for partition in range(3):
            busy = await stack.enter_async_context(opened(path))
            await busy.tell("flood", partition=partition, in_flight=20)
        broker = await stack.enter_async_context(open_sqlite(path, partitions=3, name="here"))
        sizes: list[int] = []
        written = 0
        async with aclosing(broker.log.follow(0, START)) as batches, asyncio.timeout(30):
            while written < 150 * 1024 * 1024:
                written += 3 * sum(len(record.data) for record in await anext(batches))
                sizes.append(path.with_name("log.db-wal").stat().st_size)
    assert max(sizes) < 3 * LONGEST_WAL
