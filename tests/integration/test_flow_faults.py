"""What a node does when its read model cannot be written, and with a record that is no event."""

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from broker.log import Position
from broker.sqlite import open_sqlite
from broker.topology import partition_for
from node.core.apply import apply
from node.core.events import MessagePosted, RoomCreated
from node.core.limits import Limits
from node.flow.queries import Queries
from node.flow.store import Store, open_store
from node.flow.store_writer import FULL
from tests.integration.test_log_away import readiness
from tests.support.client import chat_client, ok, raw_client
from tests.support.nodes import Cluster, NodeProcess
from tests.support.tokens import token
from tests.support.wait import wait_until

pytestmark = pytest.mark.anyio
BROKEN = "CREATE TRIGGER broken BEFORE INSERT ON timeline BEGIN SELECT RAISE(ABORT, 'broken'); END"


async def test_a_read_model_that_cannot_be_written_delays_nobody(tmp_path: Path) -> None:
    """While another process holds the model's file the node says so, and goes on; afterwards the file has everything."""
    with Cluster(tmp_path, count=1) as cluster:
        node = cluster[0]
        async with chat_client(node.url, token("ann")) as ann:
            ok(await ann.ask("room:create", {"room": "hall"}))
            with closing(sqlite3.connect(tmp_path / "n1.db", isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                ok(await ann.ask("message:send", {"room": "hall", "text": "meanwhile"}))
                await wait_until(lambda: readiness(node.url) == (503, ["read model"]), 5, "the node says what it lacks")
                ok(await ann.ask("message:send", {"room": "hall", "text": "still"}))
                page = ok(await ann.ask("history", {"room": "hall"}))
                assert [message["text"] for message in page["messages"]] == ["meanwhile", "still"]
                other.execute("ROLLBACK")
            await wait_until(lambda: readiness(node.url) == (200, []), 5, "the node is ready again")
            found = ok(await ann.ask("search", {"query": "still"}))
            assert [message["text"] for message in found["messages"]] == ["still"]
        node.terminate()
        assert node.wait_ended() == 0
    with closing(sqlite3.connect(tmp_path / "n1.db")) as model:
        assert model.execute("SELECT count(*) FROM timeline").fetchone() == (3,)


async def test_reads_answer_while_the_read_model_is_held(tmp_path: Path) -> None:
    """`search` has what is written, within 3 s; `sessions {at}` is whole, at once: what waits for the file is in it."""
    with Cluster(tmp_path, count=1) as cluster:
        url = cluster[0].url
        async with chat_client(url, token("ann")) as ann, raw_client(url) as boss:
            await boss.join_namespace({"token": token("boss", scope="admin")}, "/admin")
            ok(await ann.ask("room:create", {"room": "hall"}))
            ok(await ann.ask("message:send", {"room": "hall", "text": "word before"}))
            assert len(ok(await ann.ask("search", {"query": "word"}))["messages"]) == 1
            with closing(sqlite3.connect(tmp_path / "n1.db", isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                async with chat_client(url, token("guest")) as guest:
                    moment = guest.named("welcome")[0]["server_time"]
                    ok(await guest.ask("room:join", {"room": "hall"}))

                async def ended() -> bool:
                    open_now = ok(await boss.ask("sessions", {}, namespace="/admin"))["sessions"]
                    return "guest" not in [one["user"] for one in open_now]

                await wait_until(ended, 5, "the guest's end is applied")
                began = time.monotonic()
                then = ok(await boss.ask("sessions", {"at": moment}, namespace="/admin"))["sessions"]
                assert sorted(one["user"] for one in then) == ["ann", "boss", "guest"]
                assert time.monotonic() - began < 1.0
                ok(await ann.ask("message:send", {"room": "hall", "text": "word meanwhile"}))
                began = time.monotonic()
                found = ok(await ann.ask("search", {"query": "word"}))
                assert time.monotonic() - began < 3.0
                assert [message["text"] for message in found["messages"]] == ["word before"]
                other.execute("ROLLBACK")
            await wait_until(lambda: readiness(url) == (200, []), 5, "the node is ready again")
            found = ok(await ann.ask("search", {"query": "word"}))
            assert [message["text"] for message in found["messages"]] == ["word meanwhile", "word before"]


async def test_a_batch_that_cannot_be_written_is_the_last_one(tmp_path: Path) -> None:
    """A failure that no trying again mends, of a batch nobody waited for, is raised to whoever comes next; no position runs ahead."""
    path = tmp_path / "model.db"
    store = Store(path, "one")
    with closing(sqlite3.connect(path, isolation_level=None)) as vandal:
        vandal.execute(BROKEN)
        apply(store, RoomCreated(id="a", at=1, by="ann", room="hall", title="hall", kind="public"))
        for offset in range(1, FULL + 1):
            store.advance(0, Position(offset, 0))
        await store.make_room()  # begins to write, and does not wait for it
        await wait_until(lambda: store.fault, 5, "the batch has failed")
        vandal.execute("DROP TRIGGER broken")
    apply(store, RoomCreated(id="b", at=2, by="ann", room="den", title="den", kind="public"))
    for offset in range(FULL + 1, 2 * FULL + 1):
        store.advance(0, Position(offset, 0))
    for call in (store.flush, store.make_room, store.aclose):
        with pytest.raises(sqlite3.IntegrityError, match="broken"):
            await call()
    with closing(sqlite3.connect(path)) as model:
        assert model.execute("SELECT * FROM positions").fetchall() == []
        assert model.execute("SELECT * FROM rooms").fetchall() == []


async def test_a_node_that_cannot_write_its_read_model_for_good_ends(tmp_path: Path) -> None:
    """It ends with the error, instead of serving what it can never keep; mended and started again it has everything."""
    node = NodeProcess("n1", tmp_path, {})
    try:
        node.start()
        node.wait_ready()
        async with chat_client(node.url, token("ann")) as ann:
            ok(await ann.ask("room:create", {"room": "hall"}))
            with closing(sqlite3.connect(tmp_path / "n1.db", isolation_level=None)) as vandal:
                vandal.execute(BROKEN)
                node.expect_end()
                ok(await ann.ask("message:send", {"room": "hall", "text": "one"}))
                assert await asyncio.to_thread(node.wait_ended) == 1
                assert "broken" in node.stderr()
                vandal.execute("DROP TRIGGER broken")
        node.start()
        node.wait_ready()
        async with chat_client(node.url, token("ann")) as ann:
            page = ok(await ann.ask("history", {"room": "hall"}))
            assert [message["text"] for message in page["messages"]] == ["one"]
    finally:
        node.close()


async def test_a_resume_reads_no_more_than_it_sends(tmp_path: Path) -> None:
    """Of 40 rooms with 100 missed messages each, a resume whose outbox takes 5 looks at one room, and not at all of it."""
    async with open_store(tmp_path / "model.db", epoch="one") as store:
        for number in range(40):
            room = f"r{number}"
            apply(store, RoomCreated(id=room, at=1, by="ann", room=room, title=room, kind="public"))
            for one in range(100):
                message = f"{room}.{one}"
                apply(store, MessagePosted(id=message, at=2, by="ann", room=room, message=message, text="x" * 1_000))
        store.advance(0, Position(1, 0))
        await store.flush()
        reader, asked, steps = store._reader, list[str](), [0]

        def step() -> int:
            steps[0] += 1
            return 0

        reader.set_trace_callback(asked.append)
        reader.set_progress_handler(step, 1)
        replays = await Queries(store, limits=Limits(outbox_bytes=5_000), online=lambda user: False).replays(
            "ann", {f"r{number}": 1 for number in range(40)}
        )
        reader.set_progress_handler(None, 1)
    assert [len(replay["events"]) for replay in replays] == [5] + [0] * 39
    assert [replay["complete"] for replay in replays] == [False] * 40
    assert len([sql for sql in asked if "timeline" in sql]) == 1
    assert 0 < steps[0] < 100  # some 8 for a row


async def test_a_record_that_is_no_event_is_passed_over(tmp_path: Path) -> None:
    """Junk in a room's partition stops nobody: what follows is applied, on the running node and after a restart."""
    with Cluster(tmp_path, count=1) as cluster:
        node = cluster[0]
        async with chat_client(node.url, token("ann")) as ann:
            ok(await ann.ask("room:create", {"room": "hall"}))
            async with open_sqlite(tmp_path / "log.db", partitions=None, name="stranger", create=False) as broker:
                for junk in (b"", b"\xff\x00", b'{"type":"of_another_version"}', b'{"type":"message_posted"}'):
                    await broker.log.append(partition_for("hall", 8), junk)
            sent = ok(await ann.ask("message:send", {"room": "hall", "text": "after"}))
            assert sent["seq"] == 2
        node.kill()
        node.start()
        node.wait_ready()
        assert "record skipped" in node.stderr()
        async with chat_client(node.url, token("ann")) as ann:
            assert ok(await ann.ask("message:send", {"room": "hall", "text": "again"}))["seq"] == 3
