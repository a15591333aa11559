"""The view in plain dictionaries: the reference that the read model in SQLite is held to."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from node.core.view import Member, Message, Room, Session, TimelineEntry, Token, Withdrawals


class MemoryView:
    """A `View` that keeps everything in dictionaries."""

    def __init__(self) -> None:
        self._rooms: dict[str, Room] = {}
        self._members: dict[str, dict[str, Member]] = {}
        self._rooms_of: dict[str, dict[str, None]] = {}
        self._messages: dict[tuple[str, int], Message] = {}
        self._ids: dict[tuple[str, str], dict[str, int]] = {}
        self._timeline: dict[str, list[TimelineEntry]] = {}
        self._seen: dict[str, tuple[int, int]] = {}
        self._sessions: dict[str, Session] = {}
        self._tokens: dict[tuple[str, int], Token] = {}  # by session and number
        self._withdrawals: dict[str, Withdrawals] = {}
        self._jtis: dict[str, int] = {}
        self._revoked_sessions: dict[str, int] = {}

    def room(self, name: str) -> Room | None:
        return self._rooms.get(name)

    def rooms(self) -> Iterable[Room]:
        return self._rooms.values()

    def member(self, room: str, user: str) -> Member | None:
        return self._members.get(room, {}).get(user)

    def members(self, room: str) -> Mapping[str, Member]:
        return self._members.get(room, {})

    def member_count(self, room: str) -> int:
        return sum(1 for member in self.members(room).values() if member.role is not None)

    def rooms_of(self, user: str) -> Iterable[str]:
        return self._rooms_of.get(user, {}).keys()

    def message(self, room: str, seq: int) -> Message | None:
        return self._messages.get((room, seq))

    def has_message(self, room: str, id: str) -> bool:
        return (room, id) in self._ids

    def find_message(self, room: str, id: str, author: str | None = None) -> Message | None:
        by_author = self._ids.get((room, id), {})
        seq = by_author.get(author) if author is not None else min(by_author.values(), default=None)
        return self._messages[room, seq] if seq is not None else None

    def timeline(self, room: str) -> list[TimelineEntry]:
        """All sequenced events of a room."""
        return self._timeline.get(room, [])

    def seen(self, key: str) -> tuple[int, int] | None:
        return self._seen.get(key)

    def session(self, session: str) -> Session | None:
        return self._sessions.get(session)

    def sessions_at(self, at: int) -> list[Session]:
        """The sessions that were open at `at` (ms), oldest first, as they stood then."""
        found = []
        for session in self._sessions.values():
            tokens = [self._tokens[session.session, number] for number in range(session.renewals + 1)]
            then = [token for token in tokens if token.since <= at]
            if then and then[-1].expires_at > at and (session.closed_at is None or session.closed_at > at):
                found.append(session.standing_on(then, renewals=len(then) - 1))
        return sorted(found, key=lambda session: (session.opened_at, session.session))

    def open_sessions(self) -> Iterable[Session]:
        return [session for session in self._sessions.values() if session.closed_at is None]

    def open_sessions_of(self, user: str) -> Iterable[Session]:
        return [session for session in self.open_sessions() if session.user == user]

    def withdrawals(self, user: str) -> Withdrawals | None:
        return self._withdrawals.get(user)

    def revoked_jti(self, jti: str) -> int | None:
        return self._jtis.get(jti)

    def revoked_session(self, session: str) -> int | None:
        return self._revoked_sessions.get(session)

    def put_room(self, room: Room) -> None:
        self._rooms[room.name] = room

    def put_member(self, room: str, member: Member) -> None:
        self._members.setdefault(room, {})[member.user] = member
        self._rooms_of.setdefault(member.user, {})[room] = None

    def put_message(self, message: Message) -> None:
        self._messages[message.room, message.seq] = message
        self._ids.setdefault((message.room, message.id), {})[message.author] = message.seq

    def put_timeline(self, room: str, entry: TimelineEntry) -> None:
        self._timeline.setdefault(room, []).append(entry)

    def put_seen(self, key: str, seq: int, at: int) -> None:
        self._seen[key] = (seq, at)

    def put_session(self, session: Session) -> None:
        self._sessions[session.session] = session
        self._tokens[session.session, session.renewals] = session.lineage[-1]

    def put_withdrawals(self, user: str, withdrawals: Withdrawals) -> None:
        self._withdrawals[user] = withdrawals

    def put_revoked_jti(self, jti: str, until: int) -> None:
        self._jtis[jti] = until

    def put_revoked_session(self, session: str, until: int) -> None:
        self._revoked_sessions[session] = until

    def sweep(self, now: int) -> None:
        """Forget the withdrawals that have no say any more at `now`."""
        left = {user: withdrawals.left(now) for user, withdrawals in self._withdrawals.items()}
        self._withdrawals = {user: withdrawals for user, withdrawals in left.items() if withdrawals is not None}
        self._jtis = {jti: until for jti, until in self._jtis.items() if now < until}
        self._revoked_sessions = {session: until for session, until in self._revoked_sessions.items() if now < until}

    def dump(self) -> dict[str, Any]:
        """The whole state as plain values, to compare two of them."""
        state: dict[str, Any] = msgspec.to_builtins(
            {
                "rooms": self._rooms,
                "members": {room: list(members.values()) for room, members in self._members.items()},
                "messages": {f"{room}/{seq}": message for (room, seq), message in self._messages.items()},
                "timeline": self._timeline,
                "seen": self._seen,
                "sessions": self._sessions,
                "withdrawals": self._withdrawals,
                "revoked_jtis": self._jtis,
                "revoked_sessions": self._revoked_sessions,
            }
        )
        return state
