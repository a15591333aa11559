"""Commands and events for Hypothesis: of a small world, where users meet and collide, and of an odd one."""

import typing

import msgspec
from hypothesis import strategies as st

from node.core.commands import (
    Command,
    CreateRoom,
    DeleteMessage,
    EditMessage,
    Invite,
    JoinRoom,
    Kick,
    LeaveRoom,
    MarkRead,
    React,
    SendMessage,
    SetRole,
)
from node.core.events import ControlEvent, Event, RoomEvent

users = st.sampled_from(["ann", "bob", "cleo", "dan"])
rooms = st.sampled_from(["hall", "den", "dm"])
ids = st.sampled_from(["m1", "m2", "m3"])
texts = st.sampled_from(["hello", "again", "\U0001f44d"])
kinds: st.SearchStrategy[typing.Literal["public", "private", "direct"]] = st.sampled_from(["public", "private", "direct"])
roles: st.SearchStrategy[typing.Literal["owner", "moderator", "member"]] = st.sampled_from(["owner", "moderator", "member"])
emoji = st.sampled_from(["\U0001f44d", "\u2764\ufe0f"])
seqs = st.integers(0, 12)

creations = st.builds(CreateRoom, room=rooms, kind=kinds, with_=st.lists(users, max_size=3))
changes = st.one_of(
    st.builds(EditMessage, room=rooms, id=ids, text=texts),
    st.builds(DeleteMessage, room=rooms, id=ids),
    st.builds(React, room=rooms, id=ids, emoji=emoji, on=st.booleans()),
)
memberships = st.one_of(
    st.builds(JoinRoom, room=rooms),
    st.builds(LeaveRoom, room=rooms),
    st.builds(Invite, room=rooms, user=users),
    st.builds(Kick, room=rooms, user=users),
    st.builds(SetRole, room=rooms, user=users, role=roles),
)
posts = st.builds(SendMessage, room=rooms, text=texts, id=ids, reply_to=st.none() | st.none() | ids)
marks = st.builds(MarkRead, room=rooms, seq=seqs)
commands: st.SearchStrategy[Command] = st.one_of(creations, memberships, posts, posts, changes, marks)

# Any text and number that an event can hold: what JSON cannot carry (lone surrogates) never comes out of `decode`.
odd_texts = st.one_of(users, rooms, ids, st.text(st.characters(exclude_categories=["Cs"]), max_size=8))
odd_numbers = st.one_of(st.integers(-2, 12), st.integers(-(2**53), 2**53))


def _of(union: object, words: dict[str, st.SearchStrategy], numbers: st.SearchStrategy[int]) -> st.SearchStrategy:
    """An event of any type of the union, each field from `words` by its name, or from `numbers`, or by its type."""
    return st.one_of([st.builds(kind, **_fields(kind, words, numbers)) for kind in typing.get_args(union)])


def _fields(kind: type, words: dict[str, st.SearchStrategy], numbers: st.SearchStrategy[int]) -> dict[str, st.SearchStrategy]:
    found: dict[str, st.SearchStrategy] = {}
    for one in msgspec.structs.fields(kind):
        optional = type(None) in typing.get_args(one.type)
        strategy: st.SearchStrategy
        if "int" in str(one.type):
            strategy = numbers
        elif "Literal" in str(one.type) or one.type is bool:
            strategy = st.from_type(typing.cast(type, one.type))
        elif "tuple" in str(one.type):
            strategy = st.lists(words["user"] if "user" in words else words["*"], max_size=3).map(tuple)
        else:
            strategy = words[one.name] if one.name in words else words["*"]
        found[one.name] = st.none() | strategy if optional else strategy
    return found


_small: dict[str, st.SearchStrategy] = {
    "id": st.just("set by its place in the log"),
    "by": users,
    "user": users,
    "room": rooms,
    "message": ids,
    "reply_to": ids,
    "text": texts,
    "title": texts,
    "emoji": emoji,
    "session": st.sampled_from(["s1", "s2", "s3"]),
    "resumes": st.sampled_from(["s1", "s2"]),
    "jti": st.sampled_from(["j1", "j2"]),
    "node": users,
    "namespace": st.sampled_from(["/", "/admin"]),
    "transport": st.sampled_from(["websocket", "polling"]),
    "trace": st.just("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
}
_in_rooms, _control = _of(RoomEvent, _small, seqs), _of(ControlEvent, _small, seqs)
small_events: st.SearchStrategy[Event] = st.one_of(_in_rooms, _in_rooms, _control)
odd_events: st.SearchStrategy[Event] = _of(Event, {"*": odd_texts}, odd_numbers)


def numbered(events: list[Event]) -> list[Event]:
    """The events with ids that are unique in this log."""
    return [msgspec.structs.replace(event, id=f"e{n}") for n, event in enumerate(events)]


logs: st.SearchStrategy[list[Event]] = st.lists(small_events, max_size=40).map(numbered)

leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
    st.text(st.characters(categories=["Cs", "Cc"]), max_size=3),
    st.sampled_from(["hall", "ann", "m1", "", "public", "__proto__", "a" * 200]),
    st.binary(max_size=4),
)
names = st.sampled_from(
    ["room", "text", "id", "user", "with", "kind", "seq", "emoji", "on", "limit", "before", "after", "role", "query"]
)
junk = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names | st.text(max_size=4), inner, max_size=5)
)
