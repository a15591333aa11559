"""From effects to sockets: who of the local sessions hears what. The only place that delivers."""

from collections.abc import Callable, Iterable
from typing import Any

from node.core.effects import Deliver, Effect, EndSessions, Entered, Exited, UserSessionsChanged
from node.core.events import EndReason, Event
from node.edge import wire
from node.edge.delivery import Deliveries, Delivery
from node.edge.session import CHAT, Session
from node.metrics import Metrics
from node.spans import Reach, Spans


class Fanout:
    """The local sessions of namespace `/` by room and by user.

    Membership comes from the log's effects and, when a session opens, from the view. An event is encoded once, whatever the
    number of its hearers.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], int],
        metrics: Metrics,
        end: Callable[[str, EndSessions, str], None],
        sessions_changed: Callable[[str, EndReason | None], None],
        spans: Spans | None = None,
    ) -> None:
        self._clock, self._end, self._sessions_changed = clock, end, sessions_changed
        self._deliveries = Deliveries(metrics)
        self._spans = spans
        self._rooms: dict[str, dict[Session, None]] = {}
        self._users: dict[str, dict[Session, None]] = {}
        self._of: dict[Session, dict[str, None]] = {}

    def attach(self, session: Session, rooms: Iterable[str]) -> None:
        """Let a session hear its rooms from here on."""
        self._users.setdefault(session.principal.user, {})[session] = None
        self._of[session] = {}
        for room in rooms:
            self._enter(session, room)

    def detach(self, session: Session) -> None:
        """Forget a session; idempotent; costs the number of its rooms."""
        for room in list(self._of.pop(session, {})):
            self._discard(self._rooms, room, session)
        self._discard(self._users, session.principal.user, session)

    def perform(self, event: Event, effects: Iterable[Effect]) -> None:
        """Carry out what applying an event asked for, in order. Never raises for what is not there."""
        reach = None if self._spans is None or event.trace is None else self._spans.applied(event, event.trace)
        for effect in effects:
            match effect:
                case Deliver(room=room, name=name, payload=payload):
                    self.deliver(room, name, payload, seq=effect.seq, also=effect.also, at=event.at, reach=reach)
                case Entered(user, room):
                    for session in self._users.get(user, {}):
                        self._enter(session, room)
                case Exited(user, room):
                    for session in self._users.get(user, {}):
                        self._of[session].pop(room, None)
                        self._discard(self._rooms, room, session)
                case EndSessions():
                    for session_id in effect.sessions:
                        self._end(session_id, effect, event.id)
                case UserSessionsChanged(user, ended):
                    self._sessions_changed(user, ended)
                case _:
                    pass  # what answers the waiting command is the committer's

    def deliver(
        self,
        room: str,
        name: str,
        payload: dict[str, Any],
        *,
        seq: int | None,
        also: Iterable[str] = (),
        at: int = 0,
        reach: Reach | None = None,
    ) -> None:
        """Send an event to the room's local members, and to `also`, each session once; `at` and `reach` are as for `Delivery`."""
        targets = self._rooms.get(room, {})
        extra = [s for user in also for s in self._users.get(user, ()) if s not in targets]
        if not targets and not extra:
            return
        packet, now, of = wire.encode_event(CHAT, name, payload), self._clock(), Delivery(self._deliveries, at=at, reach=reach)
        for session in targets:
            session.deliver(packet, room=room, seq=seq, now=now, of=of)
        for session in extra:
            session.deliver(packet, room=room, seq=seq, now=now, of=of)

    def tell_users(self, users: Iterable[str], name: str, payload: dict[str, Any]) -> None:
        """Send an unsequenced event that belongs to no room (presence) to each local session of these users, once."""
        hearers = [session for user in users for session in self._users.get(user, ())]
        if hearers:
            packet, now, of = wire.encode_event(CHAT, name, payload), self._clock(), Delivery(self._deliveries)
            for session in hearers:
                session.deliver(packet, room="", seq=None, now=now, of=of)

    def _enter(self, session: Session, room: str) -> None:
        self._rooms.setdefault(room, {})[session] = None
        self._of[session][room] = None

    @staticmethod
    def _discard(index: dict[str, dict[Session, None]], key: str, session: Session) -> None:
        sessions = index.get(key)
        if sessions is not None:
            sessions.pop(session, None)
            if not sessions:
                del index[key]
