"""`tidegate` with a node that breaks its promises now and then: for tests of whoever is to notice.

Of its sessions' deliveries of messages, counted together, one in `EVERY` is left out, one is made twice, and one comes after the next
of its room.
"""

from node.cli import main
from node.edge.session import Session

EVERY = 30
_LEFT_OUT, _TWICE, _LATER = 10, 20, 0  # of each `EVERY`, the how manyth

_deliver = Session.deliver
_counted = 0
_kept: dict[tuple[Session, str], str] = {}  # to come after the next message of this room to this session


def _faulty(self: Session, packet: str, *, room: str, seq: int | None, now: int) -> bool:
    global _counted  # noqa: PLW0603
    if seq is None or not packet.startswith('42["message"'):
        return _deliver(self, packet, room=room, seq=seq, now=now)
    _counted += 1
    fault = _counted % EVERY
    if fault == _LEFT_OUT:
        return True
    if fault == _LATER and (self, room) not in _kept:
        _kept[self, room] = packet
        return True
    if fault == _TWICE:
        _deliver(self, packet, room=room, seq=seq, now=now)
    delivered = _deliver(self, packet, room=room, seq=seq, now=now)
    kept = _kept.pop((self, room), None)
    if kept is not None:
        _deliver(self, kept, room=room, seq=seq, now=now)
    return delivered


if __name__ == "__main__":
    Session.deliver = _faulty  # type: ignore[method-assign]
    main()
