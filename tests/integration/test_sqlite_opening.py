"""Opening the embedded log: what is refused, in words that say what to do, and who makes it when several try."""

# ruff: noqa: ASYNC240 (a test may block on a file)
import asyncio
import os
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, closing
from pathlib import Path

import pytest

from broker.log import LogUnavailable
from broker.sqlite import open_sqlite
from broker.sqlite_file import prepare
from tests.support.log_process import log_process, opened

pytestmark = pytest.mark.anyio
NOBODY = 65_534


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that another user can reach, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def unprivileged(folder: Path) -> dict[str, int]:
    """What makes a child unable to write in `folder`: another user where we are root, else its mode."""
    if os.geteuid() == 0:
        return {"uid": NOBODY}
    folder.chmod(0o555)
    return {}


@pytest.mark.parametrize("times", range(3))
async def test_processes_that_make_a_log_at_the_same_time_make_one(path: Path, times: int) -> None:
    """Five processes open a log that is not there, at once: all have the same epoch, and all can append."""
    async with AsyncExitStack() as stack:
        children = [await stack.enter_async_context(log_process(path, how={"wait": True})) for _ in range(5)]
        assert [await child.hear() for child in children] == [{"ready": True}] * 5
        for child in children:
            await child.tell("go")
        answers = [await child.hear() for child in children]
        assert [answer for answer in answers if "error" in answer] == []
        assert len({answer["epoch"] for answer in answers}) == 1
        for number, child in enumerate(children):
            assert (await child.ask("append", partition=0, texts=[str(number)]))["acked"] == [str(number)]
        assert len((await children[0].ask("read", partition=0, count=5))["records"]) == 5


async def test_processes_that_come_and_go_do_not_shut_each_other_out(path: Path) -> None:
    """Four processes open the log, append and close it thirty times each: whoever closes last locks nobody out who comes."""
    async with AsyncExitStack() as stack:
        children = [await stack.enter_async_context(log_process(path, how={"openings": 30})) for _ in range(4)]
        answers = [await child.hear() for child in children]
        assert [answer for answer in answers if "error" in answer] == []
        assert len((await children[0].ask("read", partition=0, count=120))["records"]) == 120


async def test_processes_that_disagree_about_the_partitions_make_one_log(path: Path) -> None:
    """Of two that make it with different numbers one succeeds, and the other is told both numbers."""
    async with AsyncExitStack() as stack:
        children = [
            await stack.enter_async_context(log_process(path, how={"wait": True, "partitions": count})) for count in (2, 3)
        ]
        assert [await child.hear() for child in children] == [{"ready": True}] * 2
        for child in children:
            await child.tell("go")
        first = [await child.hear() for child in children]
    (made,) = [answer["partitions"] for answer in first if "epoch" in answer]
    (refusal,) = [answer for answer in first if "error" in answer]
    assert refusal["error"] == "ValueError"
    assert f"has {made} partitions, not {5 - made}" in refusal["message"]


async def test_another_number_of_partitions_is_named_beside_the_right_one(path: Path) -> None:
    """The number is fixed once the log exists; no number takes what there is."""
    async with open_sqlite(path, partitions=3, name="a"):
        pass
    with pytest.raises(ValueError, match="has 3 partitions, not 4"):
        async with open_sqlite(path, partitions=4, name="a"):
            pass
    async with open_sqlite(path, partitions=None, name="a", create=False) as broker:
        assert broker.log.partitions == 3


async def test_no_partitions_at_all_is_a_value_error(path: Path) -> None:
    """A log of 0 partitions is not made."""
    with pytest.raises(ValueError, match="at least 1 partition"):
        async with open_sqlite(path, partitions=0, name="a"):
            pass
    assert not path.exists()


async def test_a_log_that_must_be_there_is_not_made(path: Path) -> None:
    """Without `create` a missing log is refused, and there is still no file."""
    for partitions in (None, 3):
        with pytest.raises(LogUnavailable, match="there is no log at"):
            async with open_sqlite(path, partitions=partitions, name="a", create=False):
                pass
    assert list(path.parent.iterdir()) == []


async def test_an_empty_file_becomes_a_log(path: Path) -> None:
    """What a process leaves that was killed while it made the log is finished by the next one."""
    path.touch()
    async with open_sqlite(path, partitions=3, name="a") as broker:
        await broker.log.append(0, b"one")
        assert broker.log.partitions == 3


def _text(path: Path) -> None:
    path.write_text("Dear diary, " * 1000)


def _short_text(path: Path) -> None:
    path.write_text("no")


def _other_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE people (name TEXT)")


def _newer_schema(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE partition_0 (offset, data)")
        connection.execute("CREATE TABLE meta (key, value)")
        connection.execute("INSERT INTO meta VALUES ('schema', '99'), ('epoch', 'x'), ('partitions', '3')")


NOT_LOGS: dict[str, tuple[Callable[[Path], None], str]] = {
    "text": (_text, "is not a log: file is not a database"),
    "short text": (_short_text, "is not a log: file is not a database"),
    "folder": (Path.mkdir, "cannot open .*log.db: it is a folder"),
    "other database": (_other_database, "is not a log: it is a database of something else"),
    "newer schema": (_newer_schema, "has schema 99, this version reads 1"),
}


@pytest.mark.parametrize(("make", "why"), NOT_LOGS.values(), ids=NOT_LOGS.keys())
async def test_what_is_not_a_log_is_refused_and_left_alone(path: Path, make: Callable[[Path], None], why: str) -> None:
    """The refusal says what is wrong with the file, which is not changed."""
    make(path)
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(LogUnavailable, match=why):
        async with open_sqlite(path, partitions=3, name="a"):
            pass
    assert (path.read_bytes() if path.is_file() else b"") == before


async def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    """A data folder that is a file is refused by name."""
    (tmp_path / "data").write_text("a file")
    with pytest.raises(LogUnavailable, match=r"cannot open .*data/log\.db"):
        async with open_sqlite(tmp_path / "data" / "log.db", partitions=3, name="a"):
            pass


@pytest.mark.parametrize("inside", ["log.db", "new/log.db"])
async def test_a_folder_without_permission_is_named(public_folder: Path, inside: str) -> None:
    """Who may not write where the log would be is told which folder it is."""
    async with log_process(public_folder / inside, how=unprivileged(public_folder)) as child:
        answer = await child.hear()
    assert answer["error"] == "LogUnavailable"
    assert f"no permission to write in {public_folder}" in answer["message"]


async def test_a_log_of_somebody_else_is_named(public_folder: Path) -> None:
    """Who may not write a log that is there is told so when opening it, not at the first append."""
    path = public_folder / "log.db"
    async with opened(path) as child:
        await child.ask("append", partition=0, texts=["one"])
        if os.geteuid() != 0:
            for file in public_folder.glob("log.db*"):
                file.chmod(0o444)
        async with log_process(path, how=unprivileged(public_folder)) as other:
            answer = await other.hear()
    assert answer["error"] == "LogUnavailable"
    assert "no permission" in answer["message"]


async def test_the_event_loop_goes_on_while_a_log_is_opened(path: Path) -> None:
    """Waiting for another process that makes the log does not stop the loop of this one."""
    async with open_sqlite(path, partitions=3, name="a"):
        pass
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0.001)

    turning = asyncio.ensure_future(turn())
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("PRAGMA locking_mode = EXCLUSIVE")
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(LogUnavailable, match="locked"):
            async with open_sqlite(path, partitions=3, name="a"):
                pass
    turning.cancel()
    assert turns > 100


def test_someone_looks_while_a_log_is_made(tmp_path: Path) -> None:
    """Nodes that start together: who looks at the new file is in its maker's way for a moment, and no reason to give up."""
    path = tmp_path / "log.db"
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as looking:
        looking.execute("BEGIN")
        looking.execute("SELECT * FROM sqlite_master").fetchall()
        leaving = threading.Timer(0.2, looking.execute, ("ROLLBACK",))
        leaving.start()
        assert prepare(path, 9, create=True, synchronous="normal").partitions == 9
        leaving.join()
