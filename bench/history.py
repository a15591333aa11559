"""A chat's past, made up: a valid stream of events as a cluster with a few hundred rooms leaves it in its log.

The same seed gives the same events. Every one of them takes effect when it is applied (`tests/unit/test_bench_history.py`).
"""

import random
from collections import deque
from collections.abc import Iterator
from typing import Any

import msgspec

from node.core.events import (
    Event,
    MemberJoined,
    MemberLeft,
    MessageDeleted,
    MessageEdited,
    MessagePosted,
    ReactionSet,
    ReadMarked,
    RoomCreated,
    SessionClosed,
    SessionOpened,
)

_EMOJI = ("👍", "❤️", "😂", "🎉", "👀")
_SYLLABLES = ("ba", "do", "ki", "la", "men", "nor", "pe", "ru", "sa", "tir", "vo", "wen", "xu", "ze")
_START = 1_700_000_000_000  # any moment of the past
_HOUR = 3_600_000
#: What of a hundred events of a living room is what; the life of sessions is in the log as well.
_MIX = {"post": 80, "react": 6, "read": 5, "session": 4, "edit": 2, "membership": 2, "delete": 1}


class _Post(msgspec.Struct):
    """A recent message: what may be done to it."""

    seq: int
    id: str
    author: str
    reacted: set[tuple[str, str]]


class _Room:
    def __init__(self, name: str, members: list[str]) -> None:
        self.name, self.members = name, members
        self.seq = 0
        self.recent: deque[_Post] = deque(maxlen=50)
        self.read: dict[str, int] = {}


class History:
    """A generator of events over `rooms` rooms and `users` users; small rooms are many, large ones few."""

    def __init__(self, *, rooms: int = 200, users: int = 2_000, seed: int = 1) -> None:
        self._random = random.Random(seed)
        self._at = _START
        self._users = [f"user{number:04d}" for number in range(users)]
        sizes = [max(2, round(users / 4 / (rank + 1) ** 0.6)) for rank in range(rooms)]
        self._rooms = [_Room(f"room-{n:03d}", self._random.sample(self._users, size)) for n, size in enumerate(sizes)]
        self._weights = [1 / (rank + 1) ** 0.7 for rank in range(rooms)]
        self._texts = self._make_texts(20_000)
        self._open: list[tuple[str, str]] = []  # session, user

    def events(self, count: int) -> Iterator[Event]:
        """Exactly `count` events: first the rooms and who joins them, then the talk."""
        left = count
        for event in self._founding():
            if not left:
                return
            left -= 1
            yield event
        kinds = self._random.choices(list(_MIX), list(_MIX.values()), k=left)
        rooms = self._random.choices(self._rooms, self._weights, k=left)
        for kind, room in zip(kinds, rooms, strict=True):
            self._at += self._random.randrange(1, 400)
            yield self._next(kind, room)

    def _founding(self) -> Iterator[Event]:
        for room in self._rooms:
            owner, *others = room.members
            yield RoomCreated(**self._base(owner, room), title=room.name.title(), kind="public")
            for user in others:
                yield MemberJoined(**self._base(user, room))

    def _next(self, kind: str, room: _Room) -> Event:
        if kind == "session":
            return self._session()
        event = {
            "react": self._react,
            "read": self._mark_read,
            "edit": self._edit,
            "delete": self._delete,
            "membership": self._membership,
        }.get(kind, self._post)(room)
        return event or self._post(room)  # where nothing can be reacted to, read or changed, somebody says something

    def _base(self, by: str, room: _Room, *, sequenced: bool = True) -> dict[str, Any]:
        room.seq += sequenced
        return {"id": self._id(), "at": self._at, "by": by, "room": room.name}

    def _id(self) -> str:
        return f"{self._at:012x}{self._random.getrandbits(56):014x}"

    def _post(self, room: _Room) -> Event:
        author = self._random.choice(room.members)
        base = self._base(author, room)
        own_id = self._id() if self._random.random() < 0.7 else base["id"]  # most clients bring an id
        reply_to = self._random.choice(room.recent).id if room.recent and self._random.random() < 0.1 else None
        room.recent.append(_Post(seq=room.seq, id=own_id, author=author, reacted=set()))
        return MessagePosted(**base, message=own_id, text=self._random.choice(self._texts), reply_to=reply_to)

    def _react(self, room: _Room) -> Event | None:
        by, emoji = self._random.choice(room.members), self._random.choice(_EMOJI)
        post = self._random.choice(room.recent) if room.recent else None
        if post is None or (by, emoji) in post.reacted:
            return None
        post.reacted.add((by, emoji))
        return ReactionSet(**self._base(by, room), of=post.seq, emoji=emoji, on=True)

    def _mark_read(self, room: _Room) -> Event | None:
        by = self._random.choice(room.members)
        if room.read.get(by, 0) >= room.seq:
            return None
        room.read[by] = room.seq
        return ReadMarked(**self._base(by, room, sequenced=False), seq=room.seq)

    def _edit(self, room: _Room) -> Event | None:
        post = self._random.choice(room.recent) if room.recent else None
        if post is None or post.author not in room.members:
            return None
        return MessageEdited(**self._base(post.author, room), of=post.seq, text=self._random.choice(self._texts))

    def _delete(self, room: _Room) -> Event | None:
        post = self._random.choice(room.recent) if room.recent else None
        if post is None or post.author not in room.members:
            return None
        room.recent.remove(post)
        return MessageDeleted(**self._base(post.author, room), of=post.seq)

    def _membership(self, room: _Room) -> Event | None:
        """One comes or goes; the owner, who came first, stays."""
        user = self._random.choice(self._users)
        if user not in room.members:
            room.members.append(user)
            return MemberJoined(**self._base(user, room))
        if user == room.members[0]:
            return None
        room.members.remove(user)
        return MemberLeft(**self._base(user, room))

    def _session(self) -> Event:
        """Opened and closed in turn, so that a few hundred stand open."""
        if len(self._open) > 300 or (self._open and self._random.random() < 0.5):
            session, user = self._open.pop(self._random.randrange(len(self._open)))
            return SessionClosed(id=self._id(), at=self._at, by=user, session=session, reason="client")
        session, user = self._id(), self._random.choice(self._users)
        self._open.append((session, user))
        return SessionOpened(
            id=self._id(),
            at=self._at,
            by=user,
            session=session,
            node="n9",
            namespace="/",
            transport="websocket",
            expires_at=self._at + _HOUR,
            issued_at=self._at,
            jti=self._id(),
        )

    def _make_texts(self, count: int) -> list[str]:
        """Sentences of a vocabulary in which, as in a language, few words are common and most are rare."""
        draw = self._random
        words = ["".join(draw.choices(_SYLLABLES, k=draw.randrange(1, 5))) for _ in range(20_000)]
        weights = [1 / (rank + 2) for rank in range(len(words))]
        lengths = [min(120, 1 + int(draw.expovariate(1 / 11))) for _ in range(count)]
        stream = iter(draw.choices(words, weights, k=sum(lengths)))
        return [" ".join(next(stream) for _ in range(length)) for length in lengths]
