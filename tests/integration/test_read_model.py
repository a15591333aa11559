"""A read model that another version has made: a cache, so the node makes it anew; the commands say what to do."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.client import chat_client, ok
from tests.support.commands import tidegate
from tests.support.nodes import Cluster
from tests.support.tokens import token

pytestmark = pytest.mark.anyio


def set_meta(model: Path, key: str, value: str) -> None:
    """Have the read model say something else of itself."""
    with closing(sqlite3.connect(model)) as connection:
        connection.execute("UPDATE meta SET value = ? WHERE key = ?", (value, key))
        connection.commit()


def schema_of(model: Path) -> str:
    with closing(sqlite3.connect(model)) as connection:
        return str(connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()[0])


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """One node."""
    with Cluster(tmp_path, count=1) as cluster:
        yield cluster


async def test_a_node_makes_it_anew(cluster: Cluster) -> None:
    """It is moved aside with a line in the log, and what it had is read from the log again; a second start leaves it alone."""
    model, kept = cluster.folder / "n1.db", cluster.folder / "n1.db.bak"
    current = schema_of(model)
    async with chat_client(cluster[0].url, token("ann")) as ann:
        ok(await ann.ask("room:create", {"room": "hall"}))
    for schema in ("1", "999"):
        cluster[0].kill()  # so that part of it is in the write-ahead log
        set_meta(model, "schema", schema)
        cluster.start()
        assert (schema_of(model), schema_of(kept)) == (current, schema)
        async with chat_client(cluster[0].url, token("ann")) as ann:
            assert [room["room"] for room in ok(await ann.ask("room:list", {}))["rooms"]] == ["hall"]
        same = tidegate("replay", "--verify", "--data", cluster.folder, folder=cluster.folder)
        assert (same.returncode, same.stderr) == (0, "")
    cluster[0].kill()
    cluster.start()
    said = [json.loads(line) for line in cluster[0].stderr().splitlines() if "made anew" in line]
    assert [(one["level"], one["was"], one["now"], one["kept"]) for one in said] == [
        ("warning", schema, current, "n1.db.bak") for schema in ("1", "999")
    ]


def test_commands_say_what_to_do(cluster: Cluster) -> None:
    """Whatever reads it: one line, exit 1, and it stays as it is; a snapshot of another schema is not restored."""
    model = cluster.folder / "n1.db"
    cluster[0].terminate()
    assert cluster[0].wait_ended() == 0
    set_meta(model, "schema", "1")
    old, before = cluster.folder / "old-snapshot", model.read_bytes()
    old.write_bytes(before)
    for arguments in (["sessions"], ["replay", "--verify"], ["snapshot", "new-snapshot"], ["restore", old]):
        done = tidegate(*arguments, "--data", cluster.folder, folder=cluster.folder)
        assert (done.returncode, done.stdout) == (1, ""), arguments
        (line,) = done.stderr.splitlines()
        assert "has schema 1, this version reads" in line
        assert "its node, started with this version, makes it anew from the log; a snapshot has to be taken anew" in line
    doctor = tidegate("doctor", "--data", cluster.folder, folder=cluster.folder)
    assert "makes it anew from the log" in next(line for line in doctor.stdout.splitlines() if line.startswith("warn read model"))
    assert model.read_bytes() == before


def test_another_logs_is_not_touched(cluster: Cluster) -> None:
    """An old one that was not made from this log may be a mistake in the configuration: the node refuses, and leaves it."""
    model = cluster.folder / "n1.db"
    cluster[0].terminate()
    assert cluster[0].wait_ended() == 0
    set_meta(model, "schema", "1")
    set_meta(model, "epoch", "another")
    cluster[0].start()
    cluster[0].expect_end()
    assert cluster[0].wait_ended() == 1
    assert "belongs to another log" in cluster[0].stderr()
    assert not (cluster.folder / "n1.db.bak").exists()


def test_a_file_that_is_no_read_model(tmp_path: Path) -> None:
    """The node says so in one line and leaves it as it is."""
    model = tmp_path / "n1.db"
    model.write_bytes(b"a shopping list, and not a short one" * 200)
    done = tidegate("node", "--port", "0", "--data", tmp_path, folder=tmp_path, jwt_secret="s" * 32, log="memory:")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"{model} is no read model: remove it, or restore a snapshot" in line
    assert model.read_bytes().startswith(b"a shopping list")
