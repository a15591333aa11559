"""What one session is sent: held back while it catches up, dropped past its deadline, kept from a slow socket and then resynced."""

import asyncio
import itertools
import json

import pytest

from node.core.events import EndReason
from node.core.identity import Principal
from node.edge.connection import Connection, Flow
from node.edge.outboxes import Outboxes
from node.edge.session import Session
from tests.support.wait import wait_until

HIGH = 1_000
EXP = 10_000
pytestmark = pytest.mark.anyio


class Socket:
    """The far end of a WebSocket: reads when it is told to."""

    def __init__(self) -> None:
        self.got: list[str | bytes] = []
        self.asked = asyncio.Event()
        self.reading = asyncio.Event()
        self.gone = asyncio.Event()
        self.flow = Flow()

    async def receive(self) -> str | bytes | None:
        await self.gone.wait()
        return None

    async def send(self, packet: str | bytes) -> None:
        self.asked.set()
        await self.reading.wait()
        self.got.append(packet)

    async def close(self, code: int) -> None:
        self.gone.set()

    def drop(self) -> None:
        self.gone.set()


class Desk:
    """A session on a real connection, as the gateway wires it: who has drained is told where to replay from."""

    def __init__(self) -> None:
        self.slow = asyncio.Event()
        self.now = 0
        self.connection = Connection(
            "n1.x",
            {},
            high_bytes=HIGH,
            clock=lambda: self.now,
            on_message=self._ignore,
            on_closed=self._closed,
            on_drained=self._drained,
            on_pong=lambda connection: None,
        )
        self.session = Session(
            id="s1",
            lineage="s1",
            sid="sid",
            connection=self.connection,
            namespace="/",
            principal=Principal(user="ann", expires_at=EXP),
            opened_at=0,
            high=HIGH,
            on_slow=self.slow.set,
        )
        self.socket = Socket()
        self.serving = asyncio.ensure_future(self.connection.serve_websocket(self.socket))

    async def _ignore(self, connection: Connection, message: str | bytes) -> None:
        pass

    def _closed(self, connection: Connection, reason: EndReason) -> None:
        self.session.ended = reason

    def _drained(self, connection: Connection) -> None:
        for room, after in self.session.drained():
            self.session.send("resync", {"room": room, "after": after})

    def deliver(self, seq: int | None, *, room: str = "r", size: int = 20, now: int = 0) -> bool:
        name = "m" if seq is not None else "typing"
        packet = "42" + json.dumps([name, {"room": room, "seq": seq, "pad": "x" * size}])
        return self.session.deliver(packet, room=room, seq=seq, now=now)

    async def sent(self, count: int) -> list[tuple[str, str, int | None]]:
        """The first `count` events that arrive, as `(name, room, seq or after)`."""
        self.socket.reading.set()
        await wait_until(lambda: len(self.socket.got) >= count, 5, f"{count} events, got {len(self.socket.got)}")
        events = [json.loads(str(packet)[2:]) for packet in self.socket.got]
        return [(name, payload["room"], payload.get("seq", payload.get("after"))) for name, payload in events]

    async def aclose(self) -> None:
        self.socket.reading.set()
        self.socket.gone.set()
        await self.serving


async def test_live_events_wait_for_the_missed_ones() -> None:
    """What comes during catching up follows it, in order, without what the replays already held."""
    desk = Desk()
    assert not desk.deliver(5)
    assert not desk.deliver(6)
    assert not desk.deliver(1, room="other")
    assert not desk.deliver(None)
    desk.session.send("replay", {"room": "r", "seq": 5})
    assert desk.session.release({"r": 5}, now=0) == 3
    assert desk.deliver(7)
    assert await desk.sent(5) == [("replay", "r", 5), ("m", "r", 6), ("m", "other", 1), ("typing", "r", None), ("m", "r", 7)]
    await desk.aclose()


async def test_what_is_held_back_is_bounded() -> None:
    """Past the outbox limit nothing more is held: the session is told from where to replay, and goes on live."""
    desk = Desk()
    for seq in range(1, 101):
        assert not desk.deliver(seq, size=60)
    held = desk.session.release({}, now=0)
    assert 0 < held < 15
    assert desk.deliver(101)
    events = await desk.sent(held + 2)
    assert events[:held] == [("m", "r", seq) for seq in range(1, held + 1)]
    assert events[held:] == [("resync", "r", held), ("m", "r", 101)]
    await desk.aclose()


async def test_a_slow_socket_is_resynced() -> None:
    """Past the limit nothing more is queued; once drained, each room that missed something is told from where, then live again."""
    desk = Desk()
    desk.session.release({}, now=0)
    sent = 0
    while desk.deliver(sent + 1, size=100):
        sent += 1
    assert desk.slow.is_set()
    assert HIGH <= desk.connection.unsent < HIGH + 200
    assert not desk.deliver(sent + 2)
    assert not desk.deliver(41, room="other")
    assert not desk.deliver(42, room="other")
    assert not desk.deliver(None, room="third")
    events = await desk.sent(sent + 2)
    assert events == [*(("m", "r", seq) for seq in range(1, sent + 1)), ("resync", "r", sent), ("resync", "other", 40)]
    assert desk.deliver(sent + 3)
    assert (await desk.sent(sent + 3))[-1] == ("m", "r", sent + 3)
    await desk.aclose()


async def test_a_packet_that_would_cross_the_limit_deafens_nobody() -> None:
    """Just under the limit a large event still goes: a session that is kept from sending is always told when it has drained."""
    desk = Desk()
    desk.session.release({}, now=0)
    assert desk.deliver(1, size=HIGH - 100)
    assert desk.connection.unsent < HIGH
    assert desk.deliver(2, size=500)
    assert not desk.deliver(3)
    assert (await desk.sent(3))[-1] == ("resync", "r", 2)
    await desk.aclose()


async def test_a_large_replay_makes_it_slow_too() -> None:
    """The session's own events are never dropped, and count: what is live waits until they are out."""
    desk = Desk()
    desk.session.send("replay", {"room": "r", "seq": 9, "pad": "x" * 5_000})
    assert not desk.deliver(10)
    desk.session.release({"r": 9}, now=0)
    assert desk.slow.is_set()
    assert await desk.sent(2) == [("replay", "r", 9), ("resync", "r", 9)]
    await desk.aclose()


async def test_a_dear_walk_over_the_outboxes_is_shared_for_a_second() -> None:
    """Who asks within a second of one that took long is told the same; of one that took none, what is there now."""
    desk = Desk()
    ticks = itertools.count(step=0.25)  # each look at the clock is a quarter of a second later
    dear = Outboxes({desk.connection: {"/": desk.session}}, high=HIGH, dear_s=0.1, clock=lambda: next(ticks))
    cheap = Outboxes({desk.connection: {"/": desk.session}}, high=HIGH, dear_s=1.0)
    assert (dear.tell()["outbox_bytes"], cheap.tell()["outbox_bytes"]) == (0, 0)
    desk.connection.put("42[]")
    assert [dear.tell()["outbox_bytes"] for _ in range(4)] == [0, 0, 0, 4]
    assert cheap.tell()["outbox_bytes"] == 4
    await desk.aclose()


class Written:
    """When a packet was written."""

    at: int | None = None
    until = 0.0
    count = moments = 0

    def written(self, to: object, now: int) -> None:
        self.at = now


async def test_it_is_written_when_the_peer_has_taken_it() -> None:
    """What is told to be written is told with the moment after the send, however long the peer kept it waiting."""
    desk, parcel = Desk(), Written()
    desk.socket.flow.stalled = True
    desk.connection.put("42[]", desk.session, parcel)
    await desk.socket.asked.wait()
    desk.now = 700
    desk.socket.reading.set()
    await wait_until(lambda: parcel.at is not None, 5, "it is written")
    assert parcel.at == 700
    await desk.aclose()


async def test_nothing_is_delivered_past_the_deadline() -> None:
    """From `exp` on nothing is queued, however late the timer that ends the session; what was held is dropped with it."""
    desk = Desk()
    assert not desk.deliver(1, now=EXP - 1)
    assert desk.session.alive(EXP - 1)
    assert not desk.session.alive(EXP)
    assert desk.session.release({}, now=EXP) == 0
    assert not desk.deliver(2, now=EXP)
    assert desk.deliver(3, now=EXP - 1)
    assert await desk.sent(1) == [("m", "r", 3)]
    await desk.aclose()


async def test_what_was_queued_is_not_sent_past_the_deadline() -> None:
    """What a socket has not taken by `exp` is dropped when its turn comes, but for the word that it is over; not where it has renewed."""
    desk = Desk()
    desk.session.release({}, now=0)
    assert desk.deliver(1)
    desk.session.send("welcome", {"room": "r"})
    desk.session.send("auth:expired", {"room": "r"}, last=True)
    desk.now = EXP
    assert await desk.sent(1) == [("auth:expired", "r", None)]
    assert desk.connection.unsent == 0
    assert desk.deliver(2)
    desk.session.principal = Principal(user="ann", expires_at=EXP + 1)
    assert await desk.sent(2) == [("auth:expired", "r", None), ("m", "r", 2)]
    await desk.aclose()


async def test_nothing_is_delivered_after_the_end() -> None:
    """An ended session takes nothing, and its connection queues nothing."""
    desk = Desk()
    desk.session.release({}, now=0)
    desk.connection.close("client")
    assert desk.session.ended == "client"
    assert not desk.deliver(1)
    desk.session.send("welcome", {"room": "r"})
    await desk.aclose()
    assert desk.socket.got == []
