"""`tidegate` with a node that breaks its promises now and then: for tests of whoever is to notice.

Of its sessions' deliveries of messages, counted together, one in `EVERY` is left out, one is made twice, and one comes after the next
of its room. Sessions go on hearing their rooms for `OVER_S` past the end of their token.
"""

import asyncio

from node.auth.deadlines import Kind
from node.cli import main
from node.edge.connection import Parcel
from node.edge.gateway import Gateway
from node.edge.session import Session

OVER_S = 0.8

EVERY = 30
_LEFT_OUT, _TWICE, _LATER = 10, 20, 0  # of each `EVERY`, the how manyth

_deliver, _due = Session.deliver, Gateway._due
_counted = 0
_kept: dict[tuple[Session, str], str] = {}  # to come after the next message of this room to this session


def _faulty(self: Session, packet: str, *, room: str, seq: int | None, now: int, of: Parcel | None = None) -> bool:
    global _counted  # noqa: PLW0603
    if seq is None or not packet.startswith('42["message"'):
        return _deliver(self, packet, room=room, seq=seq, now=now, of=of)
    _counted += 1
    fault = _counted % EVERY
    if fault == _LEFT_OUT:
        return True
    if fault == _LATER and (self, room) not in _kept:
        _kept[self, room] = packet
        return True
    if fault == _TWICE:
        _deliver(self, packet, room=room, seq=seq, now=now, of=of)
    delivered = _deliver(self, packet, room=room, seq=seq, now=now, of=of)
    kept = _kept.pop((self, room), None)
    if kept is not None:
        _deliver(self, kept, room=room, seq=seq, now=now, of=of)
    return delivered


def _late(self: Gateway, kind: Kind, session_id: str) -> None:
    if kind == "refresh":
        _due(self, kind, session_id)
    else:
        asyncio.get_running_loop().call_later(OVER_S, _due, self, kind, session_id)


if __name__ == "__main__":
    Session.deliver = _faulty  # type: ignore[method-assign]
    Session.alive = lambda self, now: self.ended is None  # type: ignore[method-assign]
    Session.hears = lambda self, now: True  # type: ignore[method-assign]
    Gateway._due = _late  # type: ignore[method-assign]
    main()
