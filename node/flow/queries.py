"""What can be read: rooms, members, history as it reads now, missed events, search. Shapes as in PROTOCOL section 6."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, assert_never

import msgspec

from node.core import rules
from node.core.commands import AskPresence, History, ListMembers, ListRooms, Query, Replay, Search
from node.core.errors import Refused
from node.core.identity import Principal
from node.core.limits import Limits
from node.core.view import Member, Message, Room
from node.flow.room_order import Key, key
from node.flow.store import Store

TURN_S = 0.005  # of one query, before the event loop may do something else
_LOOK_AT = 200  # rooms, between two looks at the clock
Answer = dict[str, Any] | Refused


class Queries:
    """Reads of the view, each judged by the rules for the user who asks."""

    def __init__(self, store: Store, *, limits: Limits, online: Callable[[str], bool]) -> None:
        self._store, self._limits, self._online = store, limits, online

    async def answer(self, query: Query, principal: Principal) -> Answer:
        """The fields that the query's ack adds."""
        user = principal.user
        match query:
            case ListRooms():
                return {"rooms": await self._list(query, user)}
            case ListMembers(room=room):
                return self._members(room, user)
            case History():
                return self._history(query, user)
            case Replay():
                return self._replay(query, user)
            case Search():
                return await self._search(query, user)
            case AskPresence(room=room):
                found = rules.be_in(self._store, room, user)
                if isinstance(found, Refused):
                    return found
                members = self._store.members(room).items()
                return {"online": [name for name, one in members if one.role is not None and self._online(name)]}
            case _:
                assert_never(query)

    def welcome_rooms(self, user: str) -> list[dict[str, Any]]:
        """The rooms that the user is in."""
        found = []
        for name in self._store.rooms_of(user):
            room, member = self._store.room(name), self._store.member(name, user)
            if room is not None and member is not None and member.role is not None:
                found.append(_own_room(room, member))
        return found

    async def unknown(self, cursors: dict[str, int]) -> list[str]:
        """The rooms of which a returning client says that it has seen more than stands in the view, as far as that is now."""
        found, turn = [], _Turn()
        for name, cursor in cursors.items():
            await turn.over()
            room = self._store.room(name)
            if cursor > (room.seq if room is not None else 0):
                found.append(name)
        return found

    async def replays(self, user: str, cursors: dict[str, int]) -> list[dict[str, Any]]:
        """For each room of `cursors` that the user is in, or was put out of since: what he missed.

        Together they stay within the outbox limit: past it the rest is left to the client's `replay`.
        """
        budget, found, turn = self._limits.outbox_bytes, [], _Turn()
        for name, cursor in cursors.items():
            await turn.over()
            room, member = self._store.room(name), self._store.member(name, user)
            if room is None or member is None or (member.role is None and member.left <= cursor):
                continue
            until = room.seq if member.role is not None else member.left
            after = min(cursor, until)
            events, size = self._missed(name, after, until, self._limits.replay_events, budget)
            budget -= size
            to = after + len(events)
            found.append({"room": name, "after": after, "to": to, "complete": to == until, "events": events})
        return found

    def _missed(self, room: str, after: int, until: int, limit: int, budget: int) -> tuple[list[msgspec.Raw], int]:
        """The events behind `after`, as many as fit `limit` and `budget` bytes (the first always fits a budget above 0)."""
        if budget <= 0:
            return [], 0
        entries = self._store.timeline(room, after=after, until=until, limit=limit, size=budget)
        return [_event(name, payload) for name, payload in entries], sum(len(payload) for _, payload in entries)

    async def _list(self, query: ListRooms, user: str) -> list[dict[str, Any]]:
        """First the rooms that the user is in, then the others; of each, what changed last is first."""
        wanted, most, turn = (query.query or "").casefold(), self._most(query.limit), _Turn()
        while not self._store.room_order.step():
            await turn.over()
        order, titles = self._store.room_order.keys.copy(), self._store.room_order.titles
        inside: list[Key] = []
        others: list[Key] = []
        for name in list(self._store.rooms_of(user)):
            await turn.over()
            room, member = self._store.room(name), self._store.member(name, user)
            if room is None or member is None or not (wanted in name or wanted in room.title.casefold()):
                continue
            if member.role is not None:
                inside.append(key(room))
            elif member.invited_by is not None:
                others.append(key(room))
        lacking, there = most - len(inside), {name for _, name in inside + others}
        for start in range(0, len(order) if lacking > 0 else 0, _LOOK_AT):
            await turn.over()
            for one in order[start : start + _LOOK_AT]:
                if (wanted in one[1] or wanted in titles[one[1]]) and one[1] not in there:
                    others.append(one)
                    lacking -= 1
            if lacking <= 0:
                break
        return [self._entry(name, user) for _, name in (sorted(inside) + sorted(others))[:most]]

    def _entry(self, name: str, user: str) -> dict[str, Any]:
        """A room that the user may see in `room:list`."""
        room, member = self._store.room(name), self._store.member(name, user) or Member(user=user)
        assert room is not None
        invited = {"invited": True} if member.role is None and member.invited_by is not None else {}
        return _own_room(room, member) | {"members": self._store.member_count(name)} | invited

    def _members(self, room: str, user: str) -> Answer:
        found = rules.be_in(self._store, room, user)
        if isinstance(found, Refused):
            return found
        members = (one for one in self._store.members(room).values() if one.role is not None)
        return {"members": [{"user": one.user, "role": one.role, "online": self._online(one.user)} for one in members]}

    def _history(self, query: History, user: str) -> Answer:
        if query.before is not None and query.after is not None:
            return Refused("bad_request", "before or after, not both", "after")
        found = rules.be_in(self._store, query.room, user)
        if isinstance(found, Refused):
            return found
        limit = self._most(query.limit)
        if query.after is not None:
            messages = self._store.messages_after(query.room, query.after, limit + 1)
            return {"messages": [as_read(message) for message in messages[:limit]], "more": len(messages) > limit}
        before = query.before if query.before is not None else found[0].seq + 1
        messages = self._store.messages_before(query.room, before, limit + 1)
        return {"messages": [as_read(message) for message in messages[-limit:]], "more": len(messages) > limit}

    def _replay(self, query: Replay, user: str) -> Answer:
        found = rules.be_in(self._store, query.room, user)
        if isinstance(found, Refused):
            return found
        limit, last = min(query.limit or self._limits.replay_events, self._limits.replay_events), found[0].seq
        events, _ = self._missed(query.room, query.after, last, limit, self._limits.outbox_bytes)
        return {"events": events, "complete": query.after + len(events) >= last}

    async def _search(self, query: Search, user: str) -> Answer:
        if query.room is not None:
            found = rules.be_in(self._store, query.room, user)
            if isinstance(found, Refused):
                return found
            rooms = [query.room]
        else:
            rooms = [room["room"] for room in self.welcome_rooms(user)]
        messages = await self._store.search(query.query, rooms, self._most(query.limit))
        return {"messages": [as_read(message) for message in messages]}

    def _most(self, limit: int | None) -> int:
        return min(limit or self._limits.page, self._limits.page)


class _Turn:
    """Lets the event loop do something else whenever one thing has taken it for a while."""

    def __init__(self) -> None:
        self._until = time.monotonic() + TURN_S

    async def over(self) -> None:
        """Called often, within what takes long."""
        if time.monotonic() > self._until:
            await asyncio.sleep(0)
            self._until = time.monotonic() + TURN_S


def _own_room(room: Room, member: Member) -> dict[str, Any]:
    """A room as `welcome` shows it to a user."""
    return {"room": room.name, "title": room.title, "kind": room.kind, "role": member.role, "seq": room.seq, "read": member.read}


def _event(name: str, payload: bytes) -> msgspec.Raw:
    """`{"event": name, …the payload}` without decoding the payload, which is an object with at least one member."""
    return msgspec.Raw(b'{"event":' + msgspec.json.encode(name) + b"," + payload[1:])


def as_read(message: Message) -> dict[str, Any]:
    """A message of a page: what was sent, and what has been done to it since."""
    shown: dict[str, Any] = {
        "room": message.room,
        "seq": message.seq,
        "id": message.id,
        "from": message.author,
        "text": message.text,
        "at": message.at,
    }
    if message.reply_to is not None:
        shown["reply_to"] = message.reply_to
    if message.edited_at is not None:
        shown["edited_at"] = message.edited_at
    if message.deleted_at is not None:
        shown |= {"deleted": True, "deleted_at": message.deleted_at, "deleted_by": message.deleted_by}
    if message.reactions:
        shown["reactions"] = message.reactions
    return shown
