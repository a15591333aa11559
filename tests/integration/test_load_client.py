"""What the load test's client takes for a fault of its server: a scripted server, and a client in a thread of its own."""

import json
import math
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import gevent
import pytest
from websockets.sync.server import ServerConnection

from loadtest import wire
from loadtest.alarms import Alarms
from loadtest.checker import Verdict, check
from loadtest.client import Barred, Client
from loadtest.commands import Commands
from loadtest.conversation import Conversation
from loadtest.journal import Journal, Names
from loadtest.link import open_link
from loadtest.route import Route
from loadtest.session import Session
from loadtest.storm import Pulse
from loadtest.tokens import Token
from loadtest.whereabouts import Away, Whereabouts
from tests.support.web_sockets import web_sockets

LIVES_S = 2.0
TOLERANCE_MS = 250
LIMIT_S = 20.0


class Script:
    """What the server does with its one client, and when that one's token ends."""

    def __init__(self, connection: ServerConnection, ends_at: float, watched: "Watched") -> None:
        self.connection, self.ends_at, self.watched = connection, ends_at, watched
        self._seq = 0

    def event(self, name: str, payload: dict[str, Any]) -> None:
        self.connection.send("42" + json.dumps([name, payload]))

    def say(self, count: int = 1) -> None:
        """Messages in the room, one behind the other."""
        for _ in range(count):
            self.connection.send(self.message())

    def message(self) -> str:
        """The packet of the next."""
        self._seq += 1
        said = {"room": "r", "seq": self._seq, "id": f"m{self._seq}", "from": "u", "text": f"{time.time():.6f}", "at": 1}
        return "42" + json.dumps(["message", said], separators=(",", ":"))

    def past_the_end(self, seconds: float) -> None:
        """Wait for that."""
        time.sleep(max(0.0, self.ends_at + seconds - time.time()))  # what happens when is the script itself

    def asked_to_renew(self) -> int:
        """Tell the client to, and wait until it asks: the number of its command."""
        self.event("auth:expiring", {"expires_at": int(self.ends_at * 1000), "refresh_at": 0})
        asked = str(self.connection.recv(LIMIT_S))
        assert '"auth:refresh"' in asked
        return int(asked[2 : asked.index("[")])

    def answer(self, number: int, answer: dict[str, Any]) -> None:
        self.connection.send(f"43{number}{json.dumps([answer])}")


class Watched:
    """An observer that can have its process busy at the first message."""

    def __init__(self) -> None:
        self.delivers = threading.Event()
        self.busy_until = 0.0  # by the wall's clock

    def delivered(self, took_s: float, *, replayed: bool) -> None:
        self.delivers.set()
        time.sleep(max(0.0, self.busy_until - time.time()))  # nothing else of the process goes on

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments, **named: None


class Still:
    """A pulse that does not go on."""

    before = 0.0


@contextmanager
def served(script: Callable[[Script], None], ends_at: float, watched: Watched) -> Iterator[str]:
    """A server that lets its client in, plays the script and closes; its URL."""

    def handle(connection: ServerConnection) -> None:
        connection.send('0{"sid":"s","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":65536}')
        assert str(connection.recv(LIMIT_S)).startswith("40")
        connection.send('40{"sid":"s"}')
        played = Script(connection, ends_at, watched)
        welcome = {"session": "s", "node": "n", "user": "u", "expires_at": int(ends_at * 1000), "resumed": False, "ticket": "t"}
        played.event("welcome", welcome | {"rooms": [{"room": "r", "seq": 0}]})
        script(played)

    with web_sockets(handle) as url:
        yield url


@contextmanager
def client_of(
    url: str, ends_at: float, observer: Watched, *, names: Names | None = None, renewed_s: float = 0.0, away: Sequence[Away] = ()
) -> Iterator[Client]:
    """A client with tokens that end at `ends_at`, or `renewed_s` later where they are renewals."""
    pulse, draw = Pulse(), random.Random(1).random
    client = Client(
        user="u",
        tokens=lambda renewal: Token("token", int((ends_at + (renewed_s if renewal else 0)) * 1000)),
        route=Route([url], draw),
        journal=Journal("u", names or Names()),
        observer=observer,
        pulse=pulse,
        renews=True,
        draw=draw,
        away=away,
    )
    try:
        yield client
    finally:
        client.close()
        pulse.stop()


def judged(script: Callable[[Script], None], *, busy_s: float = 0.0) -> Verdict:
    """The verdict over one client of this script; `busy_s`: its process is, from the first message to so long past its token's end."""
    ends_at, watched, names = time.time() + LIVES_S, Watched(), Names()
    watched.busy_until = ends_at + busy_s if busy_s else 0.0
    begun, over = threading.Event(), threading.Event()

    def played(one: Script) -> None:
        if not begun.is_set():  # who comes back hears nothing more
            begun.set()
            script(one)
            over.set()

    with served(played, ends_at, watched) as url, client_of(url, ends_at, watched, names=names, renewed_s=60) as client:
        journal = client.journal
        limit = time.monotonic() + LIMIT_S
        while not over.is_set() and time.monotonic() < limit:
            client.serve(time.monotonic() + 0.05)
        seen = -1
        while journal.seen != seen:
            seen = journal.seen
            client.serve(time.monotonic() + 0.1)
        assert over.is_set()
    return check([journal.pages().history(names)], tolerance_ms=TOLERANCE_MS)


def frames(texts: Sequence[str]) -> bytes:
    """As they go over the wire, each under 126 bytes."""
    return b"".join(bytes([0x81, len(text)]) + text.encode() for text in texts)


def piles_up(script: Script) -> None:
    """All of it comes before the end, while the client's process is busy with the first."""
    script.say()
    assert script.watched.delivers.wait(LIMIT_S)
    piled_up = frames([script.message() for _ in range(3_000)])  # more than the client's socket has room for while nobody reads
    script.connection.socket.sendall(piled_up)  # at once, however busy the machine
    script.past_the_end(1.2)


def says_past_the_end(script: Script) -> None:
    script.say()
    script.past_the_end(1.0)
    script.say()


def renews_and_says_so_late(script: Script) -> None:
    number = script.asked_to_renew()
    script.past_the_end(1.0)
    script.say()
    script.answer(number, {"ok": True, "expires_at": int((script.ends_at + 60) * 1000)})
    script.say()


def refuses_to_renew(script: Script) -> None:
    number = script.asked_to_renew()
    script.past_the_end(1.0)
    script.say()
    script.answer(number, {"ok": False, "error": {"code": "token_malformed", "message": "no"}})


def renews_who_asked_too_late(script: Script) -> None:
    script.past_the_end(1.0)
    script.say()
    script.answer(script.asked_to_renew(), {"ok": True, "expires_at": int((script.ends_at + 60) * 1000)})


def ends_too_early(script: Script) -> None:
    script.say()
    script.past_the_end(-1.0)
    script.event("auth:expired", {"code": "token_expired"})
    script.past_the_end(-0.5)


def all_in_one_breath(script: Script) -> None:
    """And by then nobody listens any more to an answer."""
    script.say()
    script.past_the_end(0.0)
    told = '42["auth:expired",{"code":"token_expired"}]'
    script.connection.socket.sendall(frames([script.message(), "2", script.message(), told]) + b"\x88\x02\x03\xe8")
    script.connection.socket.shutdown(socket.SHUT_RDWR)


def ends_in_time(script: Script) -> None:
    script.say()
    script.past_the_end(0.0)
    script.event("auth:expired", {"code": "token_expired"})


def renews_and_ends_as_if_it_had_not(script: Script) -> None:
    script.say()
    script.answer(script.asked_to_renew(), {"ok": True, "expires_at": int((script.ends_at + 60) * 1000)})
    script.past_the_end(0.0)
    script.event("auth:expired", {"code": "token_expired"})


NOTHING, LATE, EARLY = dict[str, int](), {"late": 1}, {"early": 1}
#: By script: how long past the end the client's process is busy, what it saw, and what of that is a fault.
PLAYS: dict[Callable[[Script], None], tuple[float, int, dict[str, int]]] = {
    piles_up: (1.0, 3_001, NOTHING),
    says_past_the_end: (0.0, 2, LATE),
    renews_and_says_so_late: (0.0, 2, NOTHING),
    refuses_to_renew: (0.0, 1, LATE),
    renews_who_asked_too_late: (0.0, 1, LATE),
    ends_too_early: (0.0, 1, EARLY),
    ends_in_time: (0.0, 1, NOTHING),
    all_in_one_breath: (0.0, 3, NOTHING),
    renews_and_ends_as_if_it_had_not: (0.0, 1, EARLY),
}


@pytest.fixture(scope="module")
def verdicts() -> Iterator[dict[Callable[[Script], None], "Future[Verdict]"]]:
    """All at once: they wait most of the time."""
    with ThreadPoolExecutor(len(PLAYS)) as pool:
        yield {script: pool.submit(judged, script, busy_s=busy_s) for script, (busy_s, _, _) in PLAYS.items()}


@pytest.mark.parametrize("script", PLAYS, ids=lambda script: script.__name__)
def test_late_is_what_came_past_the_end_and_early_who_was_put_out_before_it(
    script: Callable[[Script], None], verdicts: dict[Callable[[Script], None], "Future[Verdict]"]
) -> None:
    """And not what lay unread in a busy process since before it, nor what a renewal asked for in time had given a right to."""
    _, seen, faults = PLAYS[script]
    verdict = verdicts[script].result(LIMIT_S)
    assert (verdict.seen, {kind: count for kind, count in verdict.counts.items() if count}) == (seen, faults), verdict.faults


def disconnects_who_is_to_come_back(script: Script) -> None:
    """No stock client would."""
    script.event("auth:expired", {"code": "token_expired"})
    script.connection.send("41")


def does_not_close(script: Script) -> None:
    script.event("auth:expired", {"code": "token_expired"})
    script.connection.recv(LIMIT_S)


def sends_junk(script: Script) -> None:
    script.connection.send('42["message",{"room":"r","seq":1e30}]')


#: By script: the code by which the client will have no more of the server.
FINAL: dict[Callable[[Script], None], str] = {
    disconnects_who_is_to_come_back: "disconnected",
    does_not_close: "not_closed",
    sends_junk: "malformed",
}


def barred_by(script: Callable[[Script], None]) -> str:
    """How one client ends, once and for all, with a server of this script."""
    ends_at = time.time() + 60
    with served(script, ends_at, Watched()) as url, client_of(url, ends_at, Watched()) as client, pytest.raises(Barred) as barred:
        client.serve(time.monotonic() + LIMIT_S)
    return str(barred.value)


@pytest.mark.parametrize("script", FINAL, ids=lambda script: script.__name__)
def test_a_server_that_does_not_keep_to_the_protocol_is_told(script: Callable[[Script], None]) -> None:
    """By a code, as one that will not have this person; no exception of the load test's own."""
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(barred_by, script).result(2 * LIMIT_S) == FINAL[script]


def test_words_that_begin_with_a_number_are_no_times() -> None:
    """What others say in the same rooms is timed by nobody."""
    told: list[float] = []

    class Timed(Watched):
        def delivered(self, took_s: float, *, replayed: bool) -> None:
            told.append(took_s)

    journal, observer, alarms = Journal("u", Names()), Timed(), Alarms()
    conversation = Conversation(
        "u",
        journal,
        observer,
        session=Session(journal, observer, Still(), alarms),
        commands=Commands(random.Random(1).random),
        whereabouts=Whereabouts(observer, ()),
        alarms=alarms,
        stock=False,
    )
    for number, text in enumerate(
        ["Nan is ninety today", "inf", "infinity and beyond", "12 apples, please", "1e300", f"{time.time():.6f} x"]
    ):
        conversation.hear(wire.RoomEvent(room="r", seq=number + 1, event="message", id=str(number), author="u", text=text))
    assert len(told) == 1 and abs(told[0]) < LIMIT_S


def test_the_pulse_is_behind_the_loops_last_look_at_the_sockets() -> None:
    """Whoever finds something is told of a moment before it came, also where others had their turn between that look and the pulse."""

    def work() -> tuple[float, float]:
        sent: list[float] = []

        def others(first_s: float, busy_s: float, *, send: bool) -> None:
            gevent.sleep(first_s)
            if send:
                sent.append(time.monotonic())
                held[0].connection.send("2")
            time.sleep(busy_s)

        held: list[Script] = []
        there, may_go = threading.Event(), threading.Event()

        def script(one: Script) -> None:
            held.append(one)
            there.set()
            may_go.wait(LIMIT_S)

        with served(script, time.time(), Watched()) as url:
            link = open_link(url, {}, timeout_s=LIMIT_S)
            link.receive(LIMIT_S)
            link.send(b"40{}")
            block = time.monotonic() + LIMIT_S
            while not there.is_set() and time.monotonic() < block:
                link.receive(0.05)
            while link.receive(0.1):
                pass
            pulse = Pulse()
            gevent.sleep(3 * Pulse.TICK_S)
            gevent.spawn(others, 0.0, 0.3, send=False)  # so all of these are due in the loop's next round, in this order
            gevent.spawn(others, 0.01, 0.4, send=True)
            gevent.spawn(others, 2 * Pulse.TICK_S, 0.2, send=False)
            assert link.receive(LIMIT_S) == [b"2"]
            found = pulse.before, sent[0]
            pulse.stop()
            may_go.set()
            link.close()
        return found

    with ThreadPoolExecutor(1) as pool:
        before, sent = pool.submit(work).result(timeout=2 * LIMIT_S)
    assert before <= sent


def told_of_returns(goes: Sequence[Away], *, serves_s: float) -> list[str | None]:
    """What is told of somebody who is called after `serves_s`: by the code of what was lost, and `missed` for a message made up for."""
    told, over, begun = list[str | None](), threading.Event(), list[Script]()

    def script(one: Script) -> None:
        begun.append(one)
        if len(begun) > 1:
            missed = json.loads(one.message()[2:])[1]
            one.event("replay", {"room": "r", "after": 0, "to": 1, "complete": True, "events": [{"event": "message"} | missed]})
        over.wait(LIMIT_S)

    class Told(Watched):
        def connected(self, took_s: float, *, after: str | None) -> None:
            told.append(after)

        def delivered(self, took_s: float, *, replayed: bool) -> None:
            told.append("missed")

    ends_at = time.time() + 60
    with served(script, ends_at, Watched()) as url, client_of(url, ends_at, Told(), away=goes) as client:
        if serves_s:
            client.serve(time.monotonic() + serves_s)
        client.stay()
        limit = time.monotonic() + LIMIT_S
        while not client.here and time.monotonic() < limit:
            client.serve(time.monotonic() + 0.05)
        assert client.here
        client.close()
        over.set()
    return told


@pytest.mark.parametrize(
    ("begins_s", "ends_s", "serves_s", "told"),
    [
        (-1.0, math.inf, 0.1, []),  # never there
        (-1.0, math.inf, 0.0, []),
        (0.2, math.inf, 0.4, [None]),  # gone for good: that it came at first is told
        (0.2, 0.3, 0.6, [None, "missed", "client"]),  # back by itself before that
        (-1.0, 0.0, 0.0, [None]),  # about to come back by itself
    ],
)
def test_who_is_back_only_because_it_was_called_has_waited_for_nothing(
    begins_s: float, ends_s: float, serves_s: float, told: list[str | None]
) -> None:
    """What the end of a storm does to those who are away on purpose is not what the cluster did, nor what a log has them do."""

    def returns() -> list[str | None]:
        now = time.monotonic()
        return told_of_returns([Away(now + begins_s, now + ends_s)], serves_s=serves_s)

    with ThreadPoolExecutor(1) as pool:  # an event loop of gevent's belongs to a thread
        assert pool.submit(returns).result() == told
