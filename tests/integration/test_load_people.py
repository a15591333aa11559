"""What is held against a cluster that does not grant what people ask for: a scripted server, and one person."""

import json
import socket
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import gevent
import msgspec
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection

from loadtest import people
from loadtest.checker import check
from loadtest.clock import wall
from loadtest.journal import Journal
from loadtest.options import plan_of
from loadtest.storm import Storm
from tests.support.nodes import ROOT
from tests.support.web_sockets import web_sockets
from tests.unit.test_load_options import GIVEN, SECRET

LIMIT_S = 20.0
OK, NOTHING = {"ok": True, "seq": 0}, None  # of a server that numbers nothing; no answer


def no(code: str) -> dict[str, Any]:
    """A refusal."""
    return {"ok": False, "error": {"code": code, "message": "no"}}


#: By what it is: the server's answers to each command, one behind the other, the last again and again; and what is held against it.
PLAYS: Mapping[str, tuple[dict[str, list[Any]], list[str]]] = {
    "granted": ({"room:join": [OK], "room:leave": [OK]}, []),
    "made": ({"room:join": [no("room_not_found"), OK], "room:create": [no("room_exists")], "room:leave": [OK]}, []),
    "session over": ({"room:join": [no("token_expired"), OK], "room:leave": [OK]}, []),
    "out already": ({"room:join": [OK], "room:leave": [no("not_a_member")]}, []),
    "no joining": ({"room:join": [no("forbidden")]}, ["room:join refused for good: forbidden"]),
    "no making": (
        {"room:join": [no("room_not_found")], "room:create": [no("too_large")]},
        ["room:create refused for good: too_large"],
    ),
    "no leaving": ({"room:join": [OK], "room:leave": [no("forbidden")]}, ["room:leave refused for good: forbidden"]),
    "no answer": ({"room:join": [NOTHING]}, ["room:join without an answer"]),
    "not now": ({"room:join": [no("unavailable")]}, ["room:join without an answer"]),
}


class Refusals:
    """An observer that notes them."""

    def __init__(self) -> None:
        self.noted: list[str] = []

    def refused(self, what: str, code: str) -> None:
        self.noted.append(f"{what} refused for good: {code}")

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments, **named: None


def answering(answers: Mapping[str, list[Any]], asked: list[str]) -> Callable[[ServerConnection], None]:
    """A server that answers so, and notes which command it was given."""
    left = {name: list(those) for name, those in answers.items()}

    def handle(connection: ServerConnection) -> None:
        connection.send('0{"sid":"s","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":65536}')
        assert str(connection.recv(LIMIT_S)).startswith("40")
        welcome = {"session": "s", "node": "n", "user": "u", "expires_at": int(1000 * (time.time() + 60)), "resumed": False}
        connection.send('40{"sid":"s"}')
        connection.send("42" + json.dumps(["welcome", welcome | {"ticket": "t", "rooms": []}]))
        with suppress(ConnectionClosed):
            for packet in connection:
                number, is_command, command = str(packet).removeprefix("42").partition("[")
                if not is_command:
                    continue
                name = json.loads(f"[{command}")[0]
                asked.append(name)
                those = left.get(name, [OK])
                answer = those.pop(0) if len(those) > 1 else those[0]
                if answer is not NOTHING:
                    connection.send(f"43{number}{json.dumps([answer])}")

    return handle


def played(answers: Mapping[str, list[Any]], expected: list[str]) -> tuple[list[str], list[str], list[str]]:
    """What is held against a server of these answers while a hopper is in and out of a room, or cannot; the same once he is gone; and the
    refusals that are counted.
    """
    asked: list[str] = []

    def held() -> list[str]:
        return [one.rpartition(", ")[0] for one in people.undone(storm)]

    def wait(condition: Callable[[], bool]) -> None:
        limit = time.monotonic() + LIMIT_S
        while not condition() and time.monotonic() < limit:
            gevent.sleep(0.02)

    observer = Refusals()
    with web_sockets(answering(answers, asked)) as url:
        plan = plan_of(Namespace(**GIVEN | {"jwt_secret": SECRET, "rooms": 1}), url)
        scenario = msgspec.structs.replace(plan.scenario, stay_s=0.05)
        storm = Storm(msgspec.structs.replace(plan, scenario=scenario), observer=observer, began=wall())
        hopper = gevent.spawn(people.hop, storm.join("Hopper", "u", 0), storm)
        wait(lambda: held() == expected and (bool(expected) or asked.count("room:leave") > 1))
        storm.quiet = True
        wait(lambda: held() == expected)
        at_the_end = held()
        hopper.kill()
        behind = held()
        storm.end()
        storm.people[0].client.close()
    return at_the_end, behind, observer.noted


@pytest.mark.parametrize("name", PLAYS)
def test_what_people_are_not_granted_is_told(name: str) -> None:
    """A refusal for good, by its code, and a command that waits for its answer at the end; not what comes of others who make the same room,
    of the session's end, or of an answer that was lost.
    """
    answers, expected = PLAYS[name]
    with ThreadPoolExecutor(1) as pool:  # an event loop of gevent's belongs to a thread
        held, behind, noted = pool.submit(played, answers, expected).result(timeout=3 * LIMIT_S)
    assert held == expected
    assert set(noted) == set(behind) == {one for one in expected if "for good" in one}


def crossed(url: str, kinds: int) -> list[str]:
    """What Locust's own client holds against a server, which raises nothing."""
    command = [sys.executable, "-m", "tests.support.crossing", url, str(kinds)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=3 * LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["raised"] == "None", done.stderr
    return [one.rpartition(", ")[0] for one in told["undone"]]


def test_an_answer_that_locusts_own_client_waits_for_in_vain_is_no_crash_of_ours() -> None:
    """It is held against the cluster, as a refusal is, and that one goes on; of one room there is no sample of two."""
    asked: list[str] = []
    answers: dict[str, list[Any]] = {"room:join": [no("unavailable"), OK], "message:send": [NOTHING, no("forbidden")]}
    with web_sockets(answering(answers, asked)) as url, ThreadPoolExecutor(1) as pool, socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        refused = pool.submit(crossed, f"http://127.0.0.1:{nobody.getsockname()[1]}", 1)
        assert crossed(url, 2) == ["message:send refused for good: forbidden", "message:send without an answer"]
        assert refused.result(3 * LIMIT_S) == ["connect refused for good: lost"]
    assert asked[:4] == ["room:join", "room:join", "message:send", "message:send"]


def owed_to_one_who_is_told_nothing() -> list[str]:
    """Whose joining is granted with a `seq`, and who is never sent anything: the faults, where another is acked a message behind that."""
    with web_sockets(answering({"room:join": [{"ok": True, "seq": 7}]}, [])) as url:
        plan = plan_of(Namespace(**GIVEN | {"jwt_secret": SECRET, "rooms": 1}), url)
        storm = Storm(plan, observer=Refusals(), began=wall())
        person = storm.join("Listener", "deaf", 0)
        with gevent.Timeout(LIMIT_S):
            assert people.enter(person.client, storm, storm.rooms) == storm.rooms
        storm.end()
        person.client.close()
    author = Journal("author", storm.names)
    author.acked(storm.rooms[0], 8, "author/1")
    return [
        f"{one.kind} {one.client} {one.seq}"
        for one in check([author.pages().history(storm.names), person.client.journal.pages().history(storm.names)]).faults
    ]


def test_who_is_in_a_room_is_owed_what_is_said_there() -> None:
    """From the word on that he is in, though he is never sent anything, his own joining either."""
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(owed_to_one_who_is_told_nothing).result(2 * LIMIT_S) == ["lost deaf 8"]
