"""What a pause costs is in the times of everything that was due in it (coordinated omission): a scripted server, and one who talks."""

import json
import threading
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import gevent
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection

from loadtest import people
from loadtest.draws import Draws
from loadtest.options import plan_of
from loadtest.storm import Storm
from tests.support.web_sockets import web_sockets
from tests.unit.test_load_options import GIVEN

EVERY_S, PAUSE_S = 0.1, 1.0
BEFORE = 5  # messages that are answered at once
LIMIT_S = 20.0


class Even(Draws):
    """Draws by which a message is due every so often."""

    def expovariate(self, rate: float) -> float:
        return EVERY_S


class Stopwatch:
    """An observer that keeps the times."""

    def __init__(self) -> None:
        self.acks: list[float] = []
        self.deliveries: list[float] = []

    def acked(self, took_s: float) -> None:
        self.acks.append(took_s)

    def delivered(self, took_s: float, *, replayed: bool) -> None:
        self.deliveries.append(took_s)

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments, **named: None


class Server:
    """Has one room and one person in it, who is answered at once, but for the pause."""

    def __init__(self, *, holds_answers: bool = False, loses_connection: bool = False) -> None:
        self.paused = threading.Event()
        self._holds_answers, self._loses_connection = holds_answers, loses_connection
        self._said: list[str] = []

    def handle(self, connection: ServerConnection) -> None:
        if self.paused.is_set() and self._loses_connection:
            time.sleep(PAUSE_S)  # the script: nobody is let in before
        connection.send('0{"sid":"s","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":65536}')
        connection.recv(LIMIT_S)
        connection.send('40{"sid":"s"}')
        welcome = {"session": "s", "node": "n", "user": "u", "expires_at": 0, "resumed": bool(self._said), "ticket": "t"}
        self._event(connection, "welcome", welcome | {"rooms": [{"room": "load-0", "seq": len(self._said)}]})
        if self._said:
            self._event(
                connection,
                "replay",
                {"room": "load-0", "after": len(self._said), "to": len(self._said), "complete": True, "events": []},
            )
        try:
            while True:
                packet = str(connection.recv(LIMIT_S))
                if not self._go_on():
                    return
                self._answer(connection, packet)
        except ConnectionClosed:
            pass

    def _go_on(self) -> bool:
        """Whether the connection is still to be served; pauses where it is time to."""
        if len(self._said) == BEFORE and not self.paused.is_set():
            self.paused.set()
            if self._holds_answers:
                time.sleep(PAUSE_S)  # likewise
            return not self._loses_connection
        return True

    def _answer(self, connection: ServerConnection, packet: str) -> None:
        number, _, command = packet.removeprefix("42").partition("[")
        name, payload = json.loads(f"[{command}")
        if name == "message:send":
            self._said.append(payload["id"])
            self._event(connection, "message", payload | {"seq": len(self._said), "from": "u", "at": 1})
        connection.send(f"43{number}{json.dumps([{'ok': True, 'seq': len(self._said)}])}")

    def _event(self, connection: ServerConnection, name: str, payload: dict[str, Any]) -> None:
        connection.send("42" + json.dumps([name, payload]))


def busy_process(server: Server) -> None:
    """Nothing else of this process's goes on in the pause."""
    while not server.paused.is_set():
        gevent.sleep(0.01)
    time.sleep(PAUSE_S)


def talked(server: Server, *, busy: bool) -> Stopwatch:
    """The times of one who talks all through the pause, and as long again."""
    watch = Stopwatch()
    with web_sockets(server.handle) as url:
        plan = plan_of(Namespace(**GIVEN | {"rooms": 1}), url)
        storm = Storm(plan, observer=watch, began=time.time())
        person = storm.join("Talker", "u", 0)
        person.draw = Even("any")
        talking = gevent.spawn(people.talk, person, storm)
        disturbing = gevent.spawn(busy_process, server) if busy else None
        limit = time.monotonic() + LIMIT_S
        while len(watch.acks) < BEFORE + 2 * PAUSE_S / EVERY_S and time.monotonic() < limit:
            gevent.sleep(0.05)
        for one in filter(None, (talking, disturbing)):
            one.kill()
        person.client.close()
        storm.end()
    return watch


#: By pause: what the server does, and whether the process is busy.
PAUSES = {
    "the server holds its answers": ({"holds_answers": True}, False),
    "the connection is lost": ({"loses_connection": True}, False),
    "the load test itself is busy": ({}, True),
}


@pytest.fixture(scope="module")
def watches() -> Iterator[dict[str, "Future[Stopwatch]"]]:
    """All at once: they wait most of the time. The busy one holds the interpreter no more than the others do."""
    with ThreadPoolExecutor(len(PAUSES)) as pool:
        yield {name: pool.submit(talked, Server(**does), busy=busy) for name, (does, busy) in PAUSES.items()}


@pytest.mark.parametrize("pause", PAUSES)
def test_what_was_due_in_a_pause_has_the_rest_of_it_in_its_time(pause: str, watches: dict[str, "Future[Stopwatch]"]) -> None:
    """None is left out, and none counts from when it went at last: of ten that were due, each has in its times what was left."""
    watch = watches[pause].result(2 * LIMIT_S)
    for times in (watch.acks, watch.deliveries):
        longest = sorted(times, reverse=True)
        rest_of_it = [PAUSE_S - EVERY_S * (number + 1) for number in range(int(PAUSE_S / EVERY_S) - 1)]
        short = {f"{least:.1f}": round(time, 3) for time, least in zip(longest, rest_of_it, strict=False) if time < least}
        assert len(times) >= BEFORE + len(rest_of_it) and not short, (short, longest)
