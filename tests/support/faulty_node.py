"""`tidegate` with a node that breaks one promise: for tests of whoever is to notice.

`TIDEGATE_TEST_FAULT` says which. Of its sessions' deliveries of messages, counted together, one in `TIDEGATE_TEST_EVERY` is left out
(`drop`), made twice (`twice`), or comes after the next one of its room (`swap`). Sessions go on hearing their rooms past the end of their
token (`late`), or are ended before it (`early`). Tokens that have ended are taken (`accept`).
"""

import asyncio
import os
from typing import Any

from node.auth import tokens
from node.auth.deadlines import Kind, Schedule
from node.cli import main
from node.edge.connection import Parcel
from node.edge.renewals import Renewals
from node.edge.session import Session

OVER_S = 0.8  # that a session hears its rooms too long
UNDER_MS = 800  # that a session is ended too early
LONGER_S = 60.0  # that a token which has ended is taken for
FAULT, EVERY = os.environ["TIDEGATE_TEST_FAULT"], int(os.environ.get("TIDEGATE_TEST_EVERY", "10000"))

_deliver, _due, _judge_claims, _set = Session.deliver, Renewals._due, tokens._judge_claims, Schedule.set
_counted = 0
_kept: dict[tuple[Session, str], str] = {}  # to come after the next message of this room to this session


def _delivers(self: Session, packet: str, *, room: str, seq: int | None, now: int, of: Parcel | None = None) -> bool:
    global _counted  # noqa: PLW0603
    if seq is None or not packet.startswith('42["message"'):
        return _deliver(self, packet, room=room, seq=seq, now=now, of=of)
    _counted += 1
    hit = _counted % EVERY == 0
    if hit and FAULT == "drop":
        return True
    if hit and FAULT == "swap" and (self, room) not in _kept:
        _kept[self, room] = packet
        return True
    if hit and FAULT == "twice":
        _deliver(self, packet, room=room, seq=seq, now=now, of=of)
    delivered = _deliver(self, packet, room=room, seq=seq, now=now, of=of)
    kept = _kept.pop((self, room), None)
    if kept is not None:
        _deliver(self, kept, room=room, seq=seq, now=now, of=of)
    return delivered


def _ends_late(self: Renewals, kind: Kind, session_id: str) -> None:
    if kind == "refresh":
        _due(self, kind, session_id)
    else:
        asyncio.get_running_loop().call_later(OVER_S, _due, self, kind, session_id)


def _ends_early(self: Schedule, session: str, *, refresh_at: int, expires_at: int) -> None:
    _set(self, session, refresh_at=refresh_at, expires_at=expires_at - UNDER_MS)


def _takes_what_has_ended(claims: dict[str, Any], policy: tokens.Policy, now: int) -> Any:
    if claims["exp"] * 1000 <= now:
        claims = claims | {"exp": now / 1000 + LONGER_S}
    return _judge_claims(claims, policy, now)


if __name__ == "__main__":
    if FAULT == "late":
        Session.alive = lambda self, now: self.ended is None  # type: ignore[method-assign]
        Session.hears = lambda self, now: True  # type: ignore[method-assign]
        Renewals._due = _ends_late  # type: ignore[method-assign]
    elif FAULT == "early":
        Schedule.set = _ends_early  # type: ignore[method-assign]
    elif FAULT == "accept":
        tokens._judge_claims = _takes_what_has_ended
    else:
        assert FAULT in ("drop", "twice", "swap"), FAULT
        Session.deliver = _delivers  # type: ignore[method-assign]
    main()
