"""The bytes of every event as the log keeps them: what was written once is read for ever."""

import typing

import msgspec
import pytest

from node.core.events import (
    Event,
    MemberInvited,
    MemberJoined,
    MemberKicked,
    MemberLeft,
    MessageDeleted,
    MessageEdited,
    MessagePosted,
    NodeStarted,
    ReactionSet,
    ReadMarked,
    RoleChanged,
    RoomCreated,
    SessionClosed,
    SessionOpened,
    SessionRenewed,
    TokensRevoked,
    UserSuspended,
    decode,
    encode,
)

GOLDEN: list[tuple[Event, bytes]] = [
    (
        RoomCreated(id="e1", at=1700000000000, by="ann", room="hall", title="The Hall", kind="public"),
        b'{"type":"room_created","id":"e1","at":1700000000000,"by":"ann","room":"hall","title":"The Hall","kind":"public"}',
    ),
    (
        RoomCreated(id="e2", at=1, by="ann", room="den", title="Den", kind="private", invited=("bob", "cleo")),
        b'{"type":"room_created","id":"e2","at":1,"by":"ann","room":"den","title":"Den","kind":"private","invited":["bob","cleo"]}',
    ),
    (
        RoomCreated(id="e3", at=1, by="ann", room="dm", title="dm", kind="direct", members=("bob",)),
        b'{"type":"room_created","id":"e3","at":1,"by":"ann","room":"dm","title":"dm","kind":"direct","members":["bob"]}',
    ),
    (
        MemberJoined(id="e4", at=2, by="bob", room="hall"),
        b'{"type":"member_joined","id":"e4","at":2,"by":"bob","room":"hall"}',
    ),
    (
        MemberLeft(id="e5", at=3, by="bob", room="hall"),
        b'{"type":"member_left","id":"e5","at":3,"by":"bob","room":"hall"}',
    ),
    (
        MemberInvited(id="e6", at=4, by="ann", room="den", user="dan"),
        b'{"type":"member_invited","id":"e6","at":4,"by":"ann","room":"den","user":"dan"}',
    ),
    (
        MemberKicked(id="e7", at=5, by="ann", room="den", user="dan"),
        b'{"type":"member_kicked","id":"e7","at":5,"by":"ann","room":"den","user":"dan"}',
    ),
    (
        RoleChanged(id="e8", at=6, by="ann", room="den", user="bob", role="moderator"),
        b'{"type":"role_changed","id":"e8","at":6,"by":"ann","room":"den","user":"bob","role":"moderator"}',
    ),
    (
        MessagePosted(id="e9", at=7, by="bob", room="hall", message="m-1", text='hé "\U0001f44d"\n'),
        '{"type":"message_posted","id":"e9","at":7,"by":"bob","room":"hall","message":"m-1","text":"hé \\"\U0001f44d\\"\\n"}'.encode(),
    ),
    (
        MessagePosted(id="e10", at=8, by="ann", room="hall", message="m-2", text="yes", reply_to="m-1"),
        b'{"type":"message_posted","id":"e10","at":8,"by":"ann","room":"hall","message":"m-2","text":"yes","reply_to":"m-1"}',
    ),
    (
        MessageEdited(id="e11", at=9, by="ann", room="hall", of=3, text="yes!"),
        b'{"type":"message_edited","id":"e11","at":9,"by":"ann","room":"hall","of":3,"text":"yes!"}',
    ),
    (
        MessageDeleted(id="e12", at=10, by="ann", room="hall", of=3),
        b'{"type":"message_deleted","id":"e12","at":10,"by":"ann","room":"hall","of":3}',
    ),
    (
        ReactionSet(id="e13", at=11, by="bob", room="hall", of=2, emoji="\U0001f44d", on=True),
        '{"type":"reaction_set","id":"e13","at":11,"by":"bob","room":"hall","of":2,"emoji":"\U0001f44d","on":true}'.encode(),
    ),
    (
        ReadMarked(id="e14", at=12, by="bob", room="hall", seq=5),
        b'{"type":"read_marked","id":"e14","at":12,"by":"bob","room":"hall","seq":5}',
    ),
    (NodeStarted(id="e15", at=13, by="n1"), b'{"type":"node_started","id":"e15","at":13,"by":"n1"}'),
    (
        SessionOpened(
            id="e16",
            at=14,
            by="ann",
            session="s1",
            node="n1",
            namespace="/",
            transport="websocket",
            expires_at=1700000060000,
            issued_at=1700000000000,
            jti="j1",
            resumes="s0",
        ),
        b'{"type":"session_opened","id":"e16","at":14,"by":"ann","session":"s1","node":"n1","namespace":"/","transport":"websocket",'
        b'"expires_at":1700000060000,"issued_at":1700000000000,"jti":"j1","resumes":"s0"}',
    ),
    (
        SessionRenewed(id="e17", at=15, by="ann", session="s1", expires_at=1700000120000, issued_at=1700000060000, jti="j2"),
        b'{"type":"session_renewed","id":"e17","at":15,"by":"ann","session":"s1","expires_at":1700000120000,'
        b'"issued_at":1700000060000,"jti":"j2"}',
    ),
    (
        SessionClosed(id="e18", at=16, by="ann", session="s1", reason="token_expired"),
        b'{"type":"session_closed","id":"e18","at":16,"by":"ann","session":"s1","reason":"token_expired"}',
    ),
    (
        TokensRevoked(id="e19", at=17, by="root", before=1700000000000, user="ann"),
        b'{"type":"tokens_revoked","id":"e19","at":17,"by":"root","before":1700000000000,"user":"ann"}',
    ),
    (
        TokensRevoked(id="e20", at=18, by="root", before=18, jti="j1"),
        b'{"type":"tokens_revoked","id":"e20","at":18,"by":"root","before":18,"jti":"j1"}',
    ),
    (
        TokensRevoked(id="e21", at=19, by="root", before=19, session="s1"),
        b'{"type":"tokens_revoked","id":"e21","at":19,"by":"root","before":19,"session":"s1"}',
    ),
    (
        TokensRevoked(id="e24", at=19, by="root", before=18, user="ann", until=65018),
        b'{"type":"tokens_revoked","id":"e24","at":19,"by":"root","before":18,"user":"ann","until":65018}',
    ),
    (
        UserSuspended(id="e22", at=20, by="root", user="ann", until=1800000000000),
        b'{"type":"user_suspended","id":"e22","at":20,"by":"root","user":"ann","until":1800000000000}',
    ),
    (
        MessagePosted(id="e25", at=22, by="ann", room="hall", message="m-3", text="t", trace="00-0af7-b7ad-01"),
        b'{"type":"message_posted","id":"e25","at":22,"by":"ann","trace":"00-0af7-b7ad-01","room":"hall","message":"m-3","text":"t"}',
    ),
    (
        UserSuspended(id="e23", at=21, by="root", user="ann"),
        b'{"type":"user_suspended","id":"e23","at":21,"by":"root","user":"ann"}',
    ),
]

# What an older writer, which did not know the optional fields, or a newer one, which writes them out or adds one, put into the log.
READABLE: list[tuple[bytes, Event]] = [
    (
        b'{"type":"room_created","id":"a","at":1,"by":"ann","room":"r","title":"R","kind":"public"}',
        RoomCreated(id="a", at=1, by="ann", room="r", title="R", kind="public", members=(), invited=()),
    ),
    (
        b'{"type":"room_created","id":"a","at":1,"by":"ann","room":"r","title":"R","kind":"public","members":[],"invited":[],"topic":"new"}',
        RoomCreated(id="a", at=1, by="ann", room="r", title="R", kind="public"),
    ),
    (
        b'{"type":"message_posted","id":"a","at":1,"by":"ann","room":"r","message":"m","text":"t","reply_to":null,"format":{"bold":[1]}}',
        MessagePosted(id="a", at=1, by="ann", room="r", message="m", text="t", reply_to=None),
    ),
    (
        b'{"type":"session_opened","id":"a","at":1,"by":"ann","session":"s","node":"n","namespace":"/","transport":"polling","expires_at":9}',
        SessionOpened(
            id="a",
            at=1,
            by="ann",
            session="s",
            node="n",
            namespace="/",
            transport="polling",
            expires_at=9,
            issued_at=None,
            jti=None,
            resumes=None,
        ),
    ),
    (
        b'{"type":"session_renewed","id":"a","at":1,"by":"ann","session":"s","expires_at":9}',
        SessionRenewed(id="a", at=1, by="ann", session="s", expires_at=9, issued_at=None, jti=None),
    ),
    (
        b'{"type":"tokens_revoked","id":"a","at":1,"by":"root","before":5}',
        TokensRevoked(id="a", at=1, by="root", before=5, user=None, jti=None, session=None, until=None),
    ),
    (
        b' { "by":"root", "until":null, "user":"ann", "at":1, "id":"a", "type":"user_suspended" } ',
        UserSuspended(id="a", at=1, by="root", user="ann", until=None),
    ),
]

NOT_EVENTS = [
    b"",
    b"null",
    b"[]",
    b"{}",
    b"\xff\xfe",
    b'{"type":"room_painted","id":"a","at":1,"by":"ann","room":"r"}',
    b'{"id":"a","at":1,"by":"ann","room":"r"}',
    b'{"type":"member_joined","id":"a","at":1,"by":"ann"}',
    b'{"type":"member_joined","id":"a","at":"1","by":"ann","room":"r"}',
    b'{"type":"member_joined","id":"a","at":1.5,"by":"ann","room":"r"}',
    b'{"type":"member_joined","id":"a","at":1,"by":null,"room":"r"}',
    b'{"type":"member_joined","id":"a","at":1,"by":"ann","room":"r"',
    b'{"type":"member_joined","id":"a","at":9007199254740993,"by":"ann","room":"r"}',
    b'{"type":"read_marked","id":"a","at":1,"by":"ann","room":"r","seq":123456789012345678901234567890}',
    b'{"type":"user_suspended","id":"a","at":1,"by":"root","user":"ann","until":-9007199254740993}',
    b'{"type":"role_changed","id":"a","at":1,"by":"ann","room":"r","user":"b","role":"king"}',
    b'{"type":"message_edited","id":"a","at":1,"by":"ann","room":"r","of":true,"text":"t"}',
    b'{"type":"message_posted","id":"a","at":1,"by":"ann","room":"r","message":"m","text":"\\ud800"}',
]


@pytest.mark.parametrize(("event", "data"), GOLDEN, ids=[event.id for event, _ in GOLDEN])
def test_golden_bytes(event: Event, data: bytes) -> None:
    """Each event is written as these bytes, and these bytes are read as this event."""
    assert encode(event) == data
    assert decode(data) == event


def test_every_event_has_golden_bytes() -> None:
    """No type of the union is without an example."""
    assert {type(event) for event, _ in GOLDEN} == set(typing.get_args(Event))


@pytest.mark.parametrize(("data", "event"), READABLE, ids=range(len(READABLE)))
def test_other_versions_are_read(data: bytes, event: Event) -> None:
    """A missing optional field is its default; a field of a later version is passed over; the order does not matter."""
    assert decode(data) == event


@pytest.mark.parametrize("data", NOT_EVENTS, ids=range(len(NOT_EVENTS)))
def test_what_is_no_event_is_told(data: bytes) -> None:
    """`decode` raises its one kind of error for whatever is not an event, numbers too large for a store among it."""
    with pytest.raises(msgspec.DecodeError):
        decode(data)
