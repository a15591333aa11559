"""What a node does when its read model cannot be written, and with a record that is no event."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from broker.sqlite import open_sqlite
from broker.topology import partition_for
from tests.integration.test_log_away import readiness
from tests.support.client import chat_client, ok
from tests.support.nodes import Cluster
from tests.support.tokens import token
from tests.support.wait import wait_until

pytestmark = pytest.mark.anyio


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
