"""The commands on a log that is on RabbitMQ, and a local cluster on a broker."""

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from broker.topology import partition_for
from tests.support.client import chat_client, ok
from tests.support.commands import command, environment, tidegate
from tests.support.held_port import HOST, HeldPort
from tests.support.tokens import SECRET, token
from tests.support.up import Up
from tests.support.wait import block_until, wait_until

pytestmark = [pytest.mark.anyio]

PATIENCE_S = 30.0


def lines(text: str) -> dict[str, str]:
    """The doctor's lines: subject -> the level, and what it says."""
    found = {}
    for line in text.splitlines():
        level, subject, *words = line.split()
        found[subject] = f"{level} {' '.join(words)}"
    return found


@contextmanager
def tail(folder: Path, settings: dict[str, str], *arguments: str) -> Iterator[IO[str]]:
    """What a `tidegate tail` prints, for as long as the block runs."""
    process = subprocess.Popen(
        command("tail", *arguments), cwd=folder, env=environment(**settings), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
        process.stdout.close()


async def test_a_cluster_and_its_commands(rabbit_url: str, tmp_path: Path) -> None:
    """`up --log amqp://…` is a cluster; doctor, tail, sessions, snapshot and replay --verify read what is said on it."""
    own = {"log": rabbit_url, "jwt_secret": SECRET}
    with Up(tmp_path, "--log", rabbit_url, "--data", tmp_path / "data", jwt_secret=SECRET) as up:
        up.wait_ready(3)
        assert "guest" not in up.output
        async with chat_client(up.urls["n1"], token("ann")) as ann, chat_client(up.urls["n3"], token("bob")) as bob:
            ok(await ann.ask("room:create", {"room": "hall"}))

            async def joined() -> bool:
                return bool((await bob.ask("room:join", {"room": "hall"}))["ok"])

            await wait_until(joined, PATIENCE_S, "bob is in")
            ok(await ann.ask("message:send", {"room": "hall", "text": "over the broker"}))
            await bob.expect("message", text="over the broker")

            data = ("--data", tmp_path / "data")
            doctor = tidegate("doctor", *data, folder=tmp_path, **own)
            said = lines(doctor.stdout)
            assert said["broker"].startswith("ok takes and gives")
            assert "epoch" in said["log"]
            assert said["partitions"].startswith("ok 8 for rooms")
            assert "level with" in said["read"]
            assert "guest" not in doctor.stdout + doctor.stderr

            sessions = tidegate("sessions", *data, folder=tmp_path, **own)
            assert {json.loads(line)["user"] for line in sessions.stdout.splitlines()} == {"ann", "bob"}

        snapshot = tidegate("snapshot", tmp_path / "snap", *data, folder=tmp_path, **own)
        assert snapshot.returncode == 0, snapshot.stderr
        verified = tidegate("replay", "--verify", *data, folder=tmp_path, **own)
        assert verified.returncode == 0, verified.stdout + verified.stderr
        assert "no difference" in verified.stdout
        based = tidegate("replay", "--verify", "--base", tmp_path / "snap", *data, folder=tmp_path, **own)
        assert based.returncode == 0, based.stdout + based.stderr


def test_a_log_that_is_not_there(rabbit_url: str, tmp_path: Path) -> None:
    """The doctor warns that the first node makes it; what reads it says that there is none; nobody makes one."""
    own = {"log": rabbit_url, "jwt_secret": SECRET}
    for _ in range(2):
        assert lines(tidegate("doctor", folder=tmp_path, **own).stdout)["log"].startswith("warn")
        tailed = tidegate("tail", folder=tmp_path, **own)
        assert tailed.returncode == 1
        assert "no log yet" in tailed.stderr


def test_a_broker_that_is_not_to_be_had(rabbit_url: str, tmp_path: Path) -> None:
    """A wrong password is said in a line, without it."""
    wrong = rabbit_url.replace("guest:guest", "guest:not-the-password")
    doctor = tidegate("doctor", folder=tmp_path, log=wrong, jwt_secret=SECRET)
    assert doctor.returncode == 1
    assert lines(doctor.stdout)["log"].startswith("FAIL")
    assert "not-the-password" not in doctor.stdout + doctor.stderr
    node = tidegate("node", "--port", "0", folder=tmp_path, log=wrong, jwt_secret=SECRET)
    assert node.returncode == 1
    assert "not-the-password" not in node.stdout + node.stderr
    assert "cannot run" in node.stderr


def test_no_broker_is_there_yet(tmp_path: Path) -> None:
    """`up` says at once which broker is not there, and later for how long it has waited: once, however many nodes wait for it."""
    nobodys = HeldPort()
    missing = f"no broker takes connections at {HOST}:{nobodys}"
    first, later = f"{missing} yet", re.compile(rf"^{re.escape(missing)}; waited for it for \d+ s so far$", re.MULTILINE)
    with Up(tmp_path, "--nodes", "2", "--log", f"amqp://{HOST}:{nobodys}", "--data", tmp_path / "data", jwt_secret=SECRET) as up:
        block_until(lambda: first in up.output, PATIENCE_S, first)
        block_until(lambda: later.search(up.output) is not None, PATIENCE_S, f"it is told again\n{up.output}")
        assert up.output.count(missing) == 2
        assert "has not opened its log" not in up.output
    nobodys.release()


async def test_tail_follows(rabbit_url: str, tmp_path: Path) -> None:
    """Each event of the log is a line of JSON whose position --from takes."""
    own = {"log": rabbit_url, "jwt_secret": SECRET}
    with Up(tmp_path, "--nodes", "1", "--log", rabbit_url, "--data", tmp_path / "data", jwt_secret=SECRET) as up:
        up.wait_ready(1)
        async with chat_client(up.urls["n1"], token("ann")) as ann:
            ok(await ann.ask("room:create", {"room": "hall"}))
            for number in range(3):
                ok(await ann.ask("message:send", {"room": "hall", "text": f"number {number}"}))
        positions: list[str] = []
        for begin, count in ((f"{partition_for('hall', 8)}:0", 4), ("", 2)):
            with tail(tmp_path, own, "--room", "hall", "--from", begin or positions[2]) as following:
                events = [json.loads(following.readline()) for _ in range(count)]
            assert [event["event"]["type"] for event in events] == ["room_created", *["message_posted"] * 3][-count:]
            positions = positions or [event["position"] for event in events]
            assert [event["position"] for event in events] == positions[-count:]
