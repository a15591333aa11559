"""One accepted namespace of a connection: who it is, until when, and what it may be sent."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

from node.core.events import EndReason
from node.core.identity import Principal
from node.edge import wire
from node.edge.connection import Connection, Parcel

CHAT, ADMIN = "/", "/admin"


class Session:
    """A user's presence in one namespace over one connection.

    Events of rooms go through `deliver`, which holds them back until the missed ones have been sent, drops them past the deadline,
    and, past the outbox limit, remembers from where the client must replay.
    """

    __slots__ = (
        "_held",
        "_held_size",
        "_high",
        "_missed",
        "_on_slow",
        "_unheld",
        "connection",
        "ended",
        "has_room",
        "id",
        "lineage",
        "namespace",
        "opened_at",
        "principal",
        "queue",
        "reaching",
        "refresh_at",
        "renewing",
        "sid",
        "working",
    )

    def __init__(
        self,
        *,
        id: str,
        lineage: str,
        sid: str,
        connection: Connection,
        namespace: str,
        principal: Principal,
        opened_at: int,
        high: int,
        on_slow: Callable[[], object],
    ) -> None:
        self.id, self.sid, self.connection, self.namespace = id, sid, connection, namespace
        self.lineage = lineage  # the first session of the chain that this one resumes; itself where it resumes none
        self.principal, self.opened_at = principal, opened_at
        self.refresh_at = 0
        self.ended: EndReason | None = None
        self.queue: deque[tuple[int | None, list[object]]] = deque()  # commands that wait for their turn
        self.has_room = asyncio.Event()  # not set while as many wait as may
        self.has_room.set()
        self.working = self.renewing = False
        self.reaching: asyncio.Task[None] | None = None  # what waits until this node knows all that the client has seen
        self._high, self._on_slow = high, on_slow
        self._held: list[tuple[str, int | None, str, Parcel | None]] | None = []
        self._held_size, self._unheld = 0, dict[str, int]()  # what was held, in characters; room -> what to replay from
        self._missed: dict[str, int] | None = None  # room -> the last seq that went out, while the socket is slow

    @property
    def is_ahead(self) -> bool:
        """Whether its client has seen more than this node knows yet."""
        return self.reaching is not None and not self.reaching.done()

    def alive(self, now: int) -> bool:
        """Whether anything may still be done for it, or sent to it, at `now`."""
        return self.ended is None and now < self.principal.expires_at

    def hears(self, now: int) -> bool:
        """Whether what was queued for it may still be sent, however long it waited for the socket."""
        return now < self.principal.expires_at and self.ended != "revoked"

    def send(self, name: str, payload: object, *, last: bool = False) -> None:
        """Send an event of the session itself: it is not held back and does not count against the outbox.

        The `last` one, which tells of its end, is sent also past that.
        """
        self.connection.put(wire.encode_event(self.namespace, name, payload), None if last else self)

    def deliver(self, packet: str, *, room: str, seq: int | None, now: int, of: Parcel | None = None) -> bool:
        """Send a room's event. True when it was queued for the socket; `of` is told when it is written."""
        if not self.alive(now):
            return False
        if self._held is not None:
            self._hold(packet, room, seq, of)
            return False
        if self._missed is None and self.connection.unsent >= self._high:  # then the connection will tell when it has drained
            self._missed = {}
            self._on_slow()
        if self._missed is not None:
            if seq is not None:
                self._missed.setdefault(room, seq - 1)
            return False
        self.connection.put(packet, self, of)
        return True

    def _hold(self, packet: str, room: str, seq: int | None, of: Parcel | None) -> None:
        """Keep an event for `release`, up to the outbox limit; from the first that does not fit on, where to replay from."""
        assert self._held is not None
        self._held_size += len(packet)
        if self._held_size <= self._high:
            self._held.append((room, seq, packet, of))
        elif seq is not None:
            self._unheld.setdefault(room, seq - 1)

    def release(self, replayed: dict[str, int], *, now: int) -> int:
        """End the holding back: send what came meanwhile, but for what the replays (`room -> last seq`) already held."""
        held, self._held = self._held or [], None
        fresh = (one for one in held if one[1] is None or one[1] > replayed.get(one[0], 0))
        sent = sum(self.deliver(packet, room=room, seq=seq, now=now, of=of) for room, seq, packet, of in fresh)
        for room, after in self._unheld.items():
            if self._missed is not None:
                self._missed.setdefault(room, after)
            elif self.alive(now):
                self.send("resync", {"room": room, "after": max(after, replayed.get(room, 0))})
        self._unheld = {}
        return sent

    def drained(self) -> Iterable[tuple[str, int]]:
        """The outbox ran empty: for each room that was kept back, the seq to replay from. Live events flow again."""
        missed, self._missed = self._missed or {}, None
        return missed.items()
