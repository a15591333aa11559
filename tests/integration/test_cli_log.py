"""The commands that read the log and the read model: tail, replay, sessions, snapshot, restore, doctor."""

import asyncio
import fcntl
import json
import re
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Self

import pytest

from broker.log import Position
from broker.sqlite import open_sqlite
from broker.topology import control_partition, partition_for
from node.core.events import (
    Event,
    MemberJoined,
    MessagePosted,
    ReactionSet,
    RoomCreated,
    SessionClosed,
    SessionOpened,
    SessionRenewed,
    encode,
)
from tests.support.commands import command, environment, on_a_terminal, tidegate
from tests.support.nodes import NodeProcess
from tests.support.wait import block_until

LIMIT_S = 20.0
BEGAN = 1_790_000_000_000  # ms
FAR = 4_000_000_000_000
HALL = partition_for("hall", 8)
CONTROL = control_partition(8)


def append(data: Path, events: Sequence[Event]) -> None:
    """Append events to the log in `data`, made where it is missing, each to its partition."""

    async def run() -> None:
        async with open_sqlite(data / "log.db", partitions=9, name="test") as broker:
            for event in events:
                room = getattr(event, "room", None)
                await broker.log.append(partition_for(room, 8) if room else CONTROL, encode(event))

    asyncio.run(run())


def ends(data: Path) -> list[Position]:
    """Where each partition of the log in `data` ends."""

    async def run() -> list[Position]:
        async with open_sqlite(data / "log.db", partitions=9, name="test") as broker:
            return [await broker.log.end(partition) for partition in range(broker.log.partitions)]

    return asyncio.run(run())


def chat(room: str, texts: Sequence[str], *, began: int = BEGAN) -> list[Event]:
    """Ann makes a room, Bob joins it and says something, each a second after the other."""
    events: list[Event] = [
        RoomCreated(id=f"{room}-0", at=began, by="ann", room=room, title=room, kind="public"),
        MemberJoined(id=f"{room}-1", at=began + 1_000, by="bob", room=room),
    ]
    for n, text in enumerate(texts, 2):
        events.append(MessagePosted(id=f"{room}-{n}", at=began + n * 1_000, by="bob", room=room, message=f"m{n}", text=text))
    return [*events, ReactionSet(id=f"{room}-r", at=began + 90_000, by="ann", room=room, of=3, emoji="👍", on=True)]


def opened(session: str, user: str, node: str, at: int, expires_at: int, transport: str = "websocket") -> SessionOpened:
    """A session of `/`."""
    return SessionOpened(
        id=f"o-{session}", at=at, by=user, session=session, node=node, namespace="/", transport=transport, expires_at=expires_at
    )


LIVES: list[Event] = [
    opened("first", "ann", "n1", BEGAN, BEGAN + 60_000),
    opened("second", "bob", "n2", BEGAN + 5_000, FAR, transport="polling"),
    SessionRenewed(id="renewed", at=BEGAN + 30_000, by="ann", session="first", expires_at=BEGAN + 120_000, jti="token-2"),
    SessionClosed(id="closed", at=BEGAN + 40_000, by="ann", session="first", reason="client"),
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder whose log has two rooms and the life of two sessions."""
    folder = tmp_path / "data"
    append(folder, [*chat("hall", ["one", "two", "three"]), *chat("attic", ["dust"]), *LIVES])
    return folder


@pytest.fixture
def node(data: Path) -> Iterator[NodeProcess]:
    """A node n1 that runs on the data folder."""
    process = NodeProcess("n1", data, {})
    process.start()
    process.wait_ready()
    yield process
    faults = process.faults()
    process.close()
    assert not faults, faults


class Tail:
    """A running `tidegate tail` with its lines in a file."""

    def __init__(self, data: Path, *arguments: object) -> None:
        self._out, self._err = data / "tail.out", data / "tail.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            everything = command("tail", "--data", data, *arguments)
            self.process = subprocess.Popen(everything, cwd=data, env=environment(), stdout=out, stderr=err)

    @property
    def lines(self) -> list[dict[str, Any]]:
        whole = self._out.read_text().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    def wait_lines(self, number: int) -> list[dict[str, Any]]:
        block_until(lambda: len(self.lines) >= number, LIMIT_S, f"{number} lines, {self._err.read_text()}")
        return self.lines

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(LIMIT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(LIMIT_S)
        assert self._err.read_text() == ""


def test_tail_shows_what_stands_and_what_comes(data: Path) -> None:
    """From the start: every event once, in the order of its partition, then new ones as they are appended; Ctrl-C ends it cleanly."""
    with Tail(data, "--from", "start") as tail:
        lines = tail.wait_lines(14)
        hall = [line for line in lines if line["partition"] == HALL and line["event"]["room"] == "hall"]
        assert [line["event"].get("text") for line in hall] == [None, None, "one", "two", "three", None]
        assert [line["offset"] for line in lines if line["partition"] == CONTROL] == [1, 2, 3, 4]
        assert hall[0] == {
            "partition": HALL,
            "offset": hall[0]["offset"],
            "position": f"{HALL}:{hall[0]['offset']}",
            "at": BEGAN,
            "event": {
                "type": "room_created",
                "id": "hall-0",
                "at": BEGAN,
                "by": "ann",
                "room": "hall",
                "title": "hall",
                "kind": "public",
            },
        }
        append(data, [MessagePosted(id="late", at=BEGAN, by="ann", room="hall", message="late", text="late")])
        assert tail.wait_lines(15)[-1]["event"]["id"] == "late"
        assert len(tail.lines) == 15
        assert tail.stop() == 0


def test_tail_of_a_room_shows_that_room_alone(data: Path) -> None:
    """`--room` leaves out the other rooms of its partition and all other partitions."""
    with Tail(data, "--room", "attic", "--from", "start") as tail:
        assert {line["event"]["room"] for line in tail.wait_lines(4)} == {"attic"}
        append(data, [*chat("hall", ["more"]), MessagePosted(id="x", at=1, by="ann", room="attic", message="x", text="x")])
        assert tail.wait_lines(5)[-1]["event"]["id"] == "x"
        assert len(tail.lines) == 5


@pytest.mark.parametrize(("position", "offsets"), [(f"{CONTROL}:3", [3, 4]), (f"{CONTROL}:0", [1, 2, 3, 4])])
def test_tail_begins_where_it_is_told(position: str, offsets: list[int], data: Path) -> None:
    """`P:N` is partition P alone from its event N, as `position` names it."""
    with Tail(data, "--from", position) as tail:
        assert [line["offset"] for line in tail.wait_lines(len(offsets))] == offsets


def test_tail_ends_when_nobody_reads(data: Path) -> None:
    """With its pipe closed it ends by itself, though nothing more is appended, and without a complaint."""
    arguments = command("tail", "--data", data, "--from", "start")
    with subprocess.Popen(arguments, cwd=data, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        assert json.loads(process.stdout.readline())
        process.stdout.close()
        assert process.wait(LIMIT_S) == 0
        assert process.stderr.read() == b""


def test_commands_on_a_log_that_is_not_there(tmp_path: Path) -> None:
    """No command makes a log or a read model: what is missing is one line and exit 1."""
    for arguments in (["tail"], ["replay"], ["replay", "--verify"], ["sessions"], ["snapshot", "x"]):
        done = tidegate(*arguments, "--data", tmp_path / "nowhere", folder=tmp_path)
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1), arguments
        assert "there is no" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_replay_builds_a_read_model_beside_the_log(data: Path, tmp_path: Path) -> None:
    """Without a live read model it is rebuilt, kept where one says, and no file is left elsewhere."""
    before = sorted(path.name for path in data.iterdir())
    done = tidegate("replay", "--data", data, "--to", tmp_path / "kept.db", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "replayed 14 events" in done.stdout
    assert "2 rooms, 10 events in them" in done.stdout
    assert sorted(path.name for path in data.iterdir()) == before
    with closing(sqlite3.connect(tmp_path / "kept.db")) as kept:
        assert kept.execute("SELECT count(*) FROM rooms").fetchone() == (2,)


@pytest.mark.parametrize(
    ("until", "events"),
    [
        ("0", 0),
        ("1", 1 + len({HALL, partition_for("attic", 8)})),
        (f"{CONTROL}:2", 12),
        (str(BEGAN), 3),
        ("2026-09-21T14:13:22Z", 7),
    ],
)
def test_replay_stops_where_it_is_told(until: str, events: int, data: Path, tmp_path: Path) -> None:
    """Until an offset of each partition, of one, or a moment in ms or as a date."""
    done = tidegate("replay", "--until", until, "--data", data, folder=tmp_path)
    assert done.stdout.startswith(f"replayed {events} event"), done


def test_the_live_read_model_is_what_the_log_says(data: Path, node: NodeProcess, tmp_path: Path) -> None:
    """`--verify` finds no difference beside a running node, and names every row that someone has changed."""
    good = tidegate("replay", "--verify", "--data", data, folder=tmp_path)
    assert (good.returncode, good.stderr) == (0, "")
    assert "no difference" in good.stdout
    node.terminate()
    node.wait_ended()
    with closing(sqlite3.connect(data / "n1.db")) as model:
        model.execute("DELETE FROM rooms WHERE name = 'attic'")
        model.execute("UPDATE sessions SET value = CAST(replace(CAST(value AS TEXT), 'token-2', 'token-x') AS BLOB)")
        model.commit()
    bad = tidegate("replay", "--verify", "--data", data, folder=tmp_path)
    assert bad.returncode == 1
    assert "rooms: attic is only in the rebuilt one" in bad.stdout
    assert "sessions: first differs" in bad.stdout
    assert sorted(path.name for path in data.iterdir() if path.is_dir()) == ["log.db.nodes"]


def test_sessions_now_and_then(data: Path, node: NodeProcess, tmp_path: Path) -> None:
    """Who was connected at a moment, with the token of then: closed ones are gone, those that came later not there yet."""

    def at(*arguments: object) -> list[dict[str, Any]]:
        done = tidegate("sessions", "--data", data, *arguments, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    assert [one["session"] for one in at("--at", BEGAN + 1_000)] == ["first"]
    both = at("--at", BEGAN + 35_000)
    assert [(one["jti"], one["expires_at"], one["renewals"]) for one in (*at("--at", BEGAN + 1_000), both[0])] == [
        (None, BEGAN + 60_000, 0),
        ("token-2", BEGAN + 120_000, 1),
    ]
    assert [(one["user"], one["node"], one["transport"]) for one in both] == [
        ("ann", "n1", "websocket"),
        ("bob", "n2", "polling"),
    ]
    assert at("--at", BEGAN - 1) == []
    nobody = tidegate("sessions", "--data", data, "--since", BEGAN - 2, "--at", BEGAN - 1, folder=tmp_path)
    assert re.fullmatch(r"nobody was connected from 2026-09-\d\d [\d:]+ to 2026-09-\d\d [\d:]+\n", nobody.stderr)
    silent = tidegate("sessions", "--data", data, "--at", BEGAN - 1, "--json", folder=tmp_path)
    assert (silent.stdout, silent.stderr) == ("", "")
    assert [one["session"] for one in at("--at", BEGAN + 45_000)] == ["second"]
    assert [one["session"] for one in at()] == ["second"]
    assert at("--at", "1h ago", "--json") == at("--at", "60m ago")
    lives = [(one["session"], one.get("closed_at"), len(one["lineage"])) for one in at("--since", BEGAN)]
    assert lives == [("first", BEGAN + 40_000, 2), ("second", None, 1)]
    assert [one["session"] for one in at("--since", BEGAN + 45_000)] == ["second"]
    assert [one["session"] for one in at("--since", BEGAN, "--at", BEGAN + 1_000)] == ["first"]
    assert [one["session"] for one in at("--at", "00:00")] == ["second"], "today, by the clock on the wall"


def test_sessions_on_a_terminal(data: Path, node: NodeProcess, tmp_path: Path) -> None:
    """A table; a narrow terminal has fewer columns, and none is cut off."""
    wide = on_a_terminal("sessions", "--data", data, "--at", BEGAN + 35_000, columns=200, folder=tmp_path)
    assert all(one in wide for one in ("2 sessions at", "ann", "bob", "first", "second", "websocket", "polling"))
    narrow = on_a_terminal("sessions", "--data", data, "--at", BEGAN + 35_000, columns=60, folder=tmp_path)
    assert all(one in narrow for one in ("2 sessions at", "ann", "bob", "first", "second"))
    assert "websocket" not in narrow
    assert "…" not in narrow


def test_a_snapshot_bootstraps_another_node(data: Path, node: NodeProcess, tmp_path: Path) -> None:
    """A snapshot of a running node, restored for another, is what that one starts from; its old read model is kept."""
    taken = tidegate("snapshot", tmp_path / "snap", "--data", data, folder=tmp_path)
    assert (taken.returncode, taken.stderr) == (0, "")
    refused = tidegate("restore", tmp_path / "snap", "--data", data, folder=tmp_path)
    assert refused.returncode == 1
    assert refused.stderr == f"cannot restore: node n1 runs on {data / 'n1.db'}; stop it first\n"

    for kept in (False, True):
        restored = tidegate("restore", tmp_path / "snap", "--data", data, "--node-id", "n2", folder=tmp_path)
        assert restored.returncode == 0, restored.stderr
        assert (data / "n2.db.bak").exists() == kept
    second = NodeProcess("n2", data, {})
    try:
        second.start()
        second.wait_ready()
        same = tidegate("replay", "--verify", "--data", data, "--node-id", "n2", folder=tmp_path)
        assert same.returncode == 0, same.stdout
    finally:
        second.close()


def test_what_is_no_snapshot_is_not_restored(data: Path, tmp_path: Path) -> None:
    """Another file, a torn one, one of another log: one line, exit 1, and the read model stays as it was."""
    built = tidegate("replay", "--to", data / "n1.db", "--data", data, folder=tmp_path)
    assert built.returncode == 0
    before = (data / "n1.db").read_bytes()
    (tmp_path / "text").write_text("no snapshot")
    (tmp_path / "torn").write_bytes(before[: len(before) // 2])
    other = tmp_path / "other"
    append(other, LIVES)
    foreign = tidegate("replay", "--to", tmp_path / "foreign", "--data", other, folder=tmp_path)
    assert foreign.returncode == 0
    for name in ("text", "torn", "foreign"):
        done = tidegate("restore", tmp_path / name, "--data", data, folder=tmp_path)
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1), (name, done)
        assert (data / "n1.db").read_bytes() == before
    assert "of another log" in done.stderr


def test_a_read_model_is_no_place_for_its_own_snapshot(data: Path, tmp_path: Path) -> None:
    """Neither snapshot nor restore takes the read model itself as its FILE."""
    tidegate("replay", "--to", data / "n1.db", "--data", data, folder=tmp_path)
    for name in ("snapshot", "restore"):
        done = tidegate(name, data / "n1.db", "--data", data, folder=tmp_path)
        assert done.returncode == 2
        assert done.stderr.startswith("FILE: takes another file than the read model itself")


def test_the_doctor_knows_a_healthy_node(data: Path, node: NodeProcess, tmp_path: Path) -> None:
    """Beside a running node the port is its own, and the read model level."""
    done = tidegate("doctor", "--data", data, "--port", node.address[1], folder=tmp_path, jwt_secret="0123456789abcdef" * 4)
    found = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    levels = {(level, subject) for level, subject, _ in found}
    assert {("ok", s) for s in ("configuration", "keys", "data", "log", "partitions", "read", "port")} <= levels, done.stdout
    assert f"node n1 serves on 127.0.0.1:{node.address[1]}, and is ready" in done.stdout
    assert "is level with the log; node n1 runs on it" in done.stdout
    assert not any(level == "FAIL" for level, _ in levels), done.stdout
    assert done.returncode == 0


def test_the_doctor_writes_nothing_into_the_log(data: Path, tmp_path: Path) -> None:
    """A log that it has looked at has the records that it had."""
    before = ends(data)
    tidegate("doctor", "--data", data, "--port", "0", folder=tmp_path, jwt_secret="0123456789abcdef" * 4)
    assert ends(data) == before
    assert any(end.offset for end in before)


def test_the_doctor_finds_what_is_wrong_with_a_log(data: Path, tmp_path: Path) -> None:
    """Another number of partitions, a lock that is held, and a read model that is ahead of the log are failures."""
    tidegate("replay", "--to", data / "n1.db", "--data", data, folder=tmp_path)
    with closing(sqlite3.connect(data / "n1.db")) as model:
        model.execute("UPDATE positions SET offset = offset + 5")
        model.commit()
    with (data / "log.db.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = tidegate("doctor", "--data", data, "--partitions", "4", "--port", "0", folder=tmp_path)
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAIL")]
    assert done.returncode == 1
    assert any("lock was not to be had within 2 s" in line for line in failed), done.stdout
    assert any("the log has 8, TIDEGATE_PARTITIONS says 4" in line for line in failed), done.stdout
    assert any("than the log: the log was truncated or replaced" in line for line in failed), done.stdout


def test_the_doctor_tells_whose_port_it_is(data: Path, node: NodeProcess, tmp_path: Path) -> None:
    """A port that another node has is a failure."""
    done = tidegate("doctor", "--data", data, "--port", node.address[1], "--node-id", "n7", folder=tmp_path)
    assert f"node n1 serves on 127.0.0.1:{node.address[1]}, not n7" in done.stdout
    assert done.returncode == 1


def test_a_long_read_of_the_log_is_quick(tmp_path: Path) -> None:
    """A position far into the log is found by reading past what stands before it, in seconds for 20,000 events."""
    data = tmp_path / "data"

    async def fill() -> None:
        async with open_sqlite(data / "log.db", partitions=9, name="test") as broker:
            events = (MessagePosted(id=f"e{n}", at=n, by="ann", room="hall", message=f"m{n}", text="x") for n in range(20_000))
            coming = [encode(event) for event in events]
            for start in range(0, len(coming), 5_000):
                await asyncio.gather(*(broker.log.append(HALL, one) for one in coming[start : start + 5_000]))

    asyncio.run(fill())
    began = time.monotonic()
    with Tail(data, "--from", f"{HALL}:19999") as tail:
        assert [line["offset"] for line in tail.wait_lines(2)] == [19_999, 20_000]
    assert time.monotonic() - began < 10
