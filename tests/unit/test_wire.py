"""Socket.IO packets, byte for byte, and the payloads of commands: strict as the protocol's fifth revision has it."""

import typing
from typing import Any

import msgspec
import pytest

from node.auth.denied import Denied
from node.core.commands import (
    NAMES,
    Command,
    CreateRoom,
    History,
    Invite,
    ListRooms,
    MarkRead,
    React,
    Replay,
    SendMessage,
    Typing,
)
from node.core.effects import Applied
from node.core.errors import Refused
from node.edge import wire
from node.edge.wire import Packet, Type

GOLDEN: list[tuple[str, Packet]] = [
    ("0", Packet(type=Type.CONNECT, namespace="/", id=None, data=None)),
    ('0{"token":"a.b.c"}', Packet(type=Type.CONNECT, namespace="/", id=None, data={"token": "a.b.c"})),
    ("0/admin,", Packet(type=Type.CONNECT, namespace="/admin", id=None, data=None)),
    ("0/admin", Packet(type=Type.CONNECT, namespace="/admin", id=None, data=None)),
    ('0/admin,{"a":1}', Packet(type=Type.CONNECT, namespace="/admin", id=None, data={"a": 1})),
    ("0/admin?x=1,{}", Packet(type=Type.CONNECT, namespace="/admin", id=None, data={})),
    ("0/,", Packet(type=Type.CONNECT, namespace="/", id=None, data=None)),
    ("1", Packet(type=Type.DISCONNECT, namespace="/", id=None, data=None)),
    ("1/admin,", Packet(type=Type.DISCONNECT, namespace="/admin", id=None, data=None)),
    ('2["foo"]', Packet(type=Type.EVENT, namespace="/", id=None, data=["foo"])),
    ('2/admin,["bar"]', Packet(type=Type.EVENT, namespace="/admin", id=None, data=["bar"])),
    ('212["foo",{"a":[1,null]}]', Packet(type=Type.EVENT, namespace="/", id=12, data=["foo", {"a": [1, None]}])),
    ('2/admin,456["project:delete",123]', Packet(type=Type.EVENT, namespace="/admin", id=456, data=["project:delete", 123])),
    ('20["foo"]', Packet(type=Type.EVENT, namespace="/", id=0, data=["foo"])),
    ("2[1]", Packet(type=Type.EVENT, namespace="/", id=None, data=[1])),
    ("2[1.5]", Packet(type=Type.EVENT, namespace="/", id=None, data=[1.5])),
    ('2[""]', Packet(type=Type.EVENT, namespace="/", id=None, data=[""])),
    ('2["a\\ud83d\\ude00"]', Packet(type=Type.EVENT, namespace="/", id=None, data=["a\U0001f600"])),
    ('2["a,b/c[\\""]', Packet(type=Type.EVENT, namespace="/", id=None, data=['a,b/c["'])),
    ("312[]", Packet(type=Type.ACK, namespace="/", id=12, data=[])),
    ('3/admin,456["ok"]', Packet(type=Type.ACK, namespace="/admin", id=456, data=["ok"])),
    (
        '51-["baz",{"_placeholder":true,"num":0}]',
        Packet(type=Type.BINARY_EVENT, namespace="/", id=None, data=["baz", {"_placeholder": True, "num": 0}], attachments=1),
    ),
    (
        '52-/admin,7["baz",1,2]',
        Packet(type=Type.BINARY_EVENT, namespace="/admin", id=7, data=["baz", 1, 2], attachments=2),
    ),
    ('50-["baz"]', Packet(type=Type.BINARY_EVENT, namespace="/", id=None, data=["baz"], attachments=0)),
    (
        '61-/admin,456[{"_placeholder":true,"num":0}]',
        Packet(type=Type.BINARY_ACK, namespace="/admin", id=456, data=[{"_placeholder": True, "num": 0}], attachments=1),
    ),
]

MALFORMED = [
    "",
    " ",
    "x",
    "7",
    "9[]",
    "abc",
    "{}",
    "-1",
    "\u0662[]",  # an Arabic two
    " 2[1]",
    "0null",
    "0[]",
    '0"token"',
    "0true",
    "0{",
    "0{}{}",
    "0{'token':1}",
    "1{}",
    "1[]",
    '1"x"',
    "1null",
    "2",
    "2{}",
    "2[]",
    "2null",
    '2"foo"',
    "212",
    "2[null]",
    "2[true]",
    "2[{}]",
    "2[[]]",
    '2["connect"]',
    '2["connect_error"]',
    '2["disconnect"]',
    '2["disconnecting"]',
    '2["newListener"]',
    '2["removeListener"]',
    '2["foo"',
    '2["foo"]]',
    '2["foo"] x',
    '2["foo",NaN]',
    '2["foo",undefined]',
    "2[\"foo\",'x']",
    '2["foo\n"]',
    '2["\ud800"]',
    '2-1["foo"]',
    '2\u0663["foo"]',
    '21234567890123456["foo"]',
    '2/admin["foo"]x,[1]]',
    '2["foo",' + "[" * 5_000,
    '21-["foo"]',
    "3[]",
    "3/admin,[]",
    "312",
    "312{}",
    '4"no"',
    '4{"message":"no"}',
    "4",
    '5["foo"]',
    '5-["foo"]',
    '5x-["foo"]',
    '517-["foo"]',
    '51000-["foo"]',
    "51-[]",
    "51-{}",
    '6["foo"]',
    "61-[]",
    "612[]",
]


@pytest.mark.parametrize(("text", "packet"), GOLDEN, ids=[text[:30] for text, _ in GOLDEN])
def test_decode(text: str, packet: Packet) -> None:
    """What a client may send, and what it is."""
    assert wire.decode_packet(text) == packet


@pytest.mark.parametrize(
    "arguments", ['{"room":"a","text":"cut \\ud83d"}', '"\\uDE00"', '{"a":[{"\\udfff":1}]},1'], ids=["value", "alone", "deep"]
)
def test_half_a_character(arguments: str) -> None:
    """What JavaScript writes for a cut emoji is JSON: the command is answered, and the connection goes on."""
    packet = wire.decode_packet(f'27["message:send",{arguments}]')
    assert (packet.type, packet.id) == (Type.EVENT, 7)
    refused = wire.decode_command(packet.data[0], packet.data[1:])
    assert isinstance(refused, Refused)
    assert refused.code == "bad_request"
    assert wire.decode_packet('2["\\ud800"]').data[0] == "", "a name that is no text is no command's"
    for broken in ('2["a","\\ud800"', '2{"a":"\\ud800"}', '2["a","\\ud800",NaN]', '0{"token":"\\ud800"}'):
        with pytest.raises(wire.Malformed):
            wire.decode_packet(broken)


@pytest.mark.parametrize("text", MALFORMED, ids=range(len(MALFORMED)))
def test_malformed(text: str) -> None:
    """What ends the connection; the reason repeats nothing of it."""
    with pytest.raises(wire.Malformed) as raised:
        wire.decode_packet(text)
    assert "foo" not in str(raised.value)


@pytest.mark.parametrize(
    ("packet", "text"),
    [
        (
            wire.encode_event("/", "message", {"seq": 1, "text": 'h\u00e9 "\u2028'}),
            '42["message",{"seq":1,"text":"h\u00e9 \\"\u2028"}]',
        ),
        (wire.encode_event("/admin", "stats", {}), '42/admin,["stats",{}]'),
        (wire.encode_ack("/", 0, {"ok": True}), '430[{"ok":true}]'),
        (wire.encode_ack("/admin", 12, {"ok": True}), '43/admin,12[{"ok":true}]'),
        (wire.encode_connect("/", "x_Y"), '40{"sid":"x_Y"}'),
        (wire.encode_connect("/admin", "x_Y"), '40/admin,{"sid":"x_Y"}'),
        (wire.encode_connect_error("/", "no", {"code": "token_missing"}), '44{"message":"no","data":{"code":"token_missing"}}'),
        (wire.encode_connect_error("/x", "Invalid namespace"), '44/x,{"message":"Invalid namespace"}'),
        (wire.encode_disconnect("/"), "41"),
        (wire.encode_disconnect("/admin"), "41/admin,"),
    ],
)
def test_encode(packet: str, text: str) -> None:
    """What the server sends, as Engine.IO messages."""
    assert packet == text


def test_denials_and_refusals() -> None:
    """Codes and waits go out; what is not set does not."""
    assert wire.denial_data(Denied("token_expired", "m")) == {"code": "token_expired"}
    assert wire.denial_data(Denied("server_busy", "m", 500)) == {"code": "server_busy", "retry_after": 500}
    assert wire.refusal(Refused("bad_request", "m", "room")) == {
        "ok": False,
        "error": {"code": "bad_request", "message": "m", "field": "room"},
    }
    assert wire.refusal(Refused("rate_limited", "m", retry_after=9))["error"] == {
        "code": "rate_limited",
        "message": "m",
        "retry_after": 9,
    }


COMMANDS: list[tuple[str, dict[str, Any], Any]] = [
    ("room:create", {"room": "a"}, CreateRoom(room="a")),
    (
        "room:create",
        {"room": "a.b-c_9", "title": "T", "kind": "direct", "with": ["bob"]},
        CreateRoom(room="a.b-c_9", title="T", kind="direct", with_=["bob"]),
    ),
    ("room:create", {"room": "a" * 64, "title": None, "kind": None, "with": None}, CreateRoom(room="a" * 64)),
    ("room:invite", {"room": "9", "user": "\u00e9"}, Invite(room="9", user="\u00e9")),
    ("room:list", {}, ListRooms()),
    ("room:list", {"query": "", "limit": 1}, ListRooms(query="", limit=1)),
    ("message:send", {"room": "a", "text": "", "unknown": [{}]}, SendMessage(room="a", text="")),
    ("message:react", {"room": "a", "id": "m", "emoji": "x", "on": False}, React(room="a", id="m", emoji="x", on=False)),
    ("history", {"room": "a", "before": 0}, History(room="a", before=0)),
    ("replay", {"room": "a", "after": 2**53 - 1}, Replay(room="a", after=2**53 - 1)),
    ("read", {"room": "a", "seq": 0}, MarkRead(room="a", seq=0)),
    ("typing", {"room": "a", "on": True}, Typing(room="a", on=True)),
]


@pytest.mark.parametrize(("name", "payload", "command"), COMMANDS, ids=range(len(COMMANDS)))
def test_commands(name: str, payload: dict[str, Any], command: Command) -> None:
    """A payload of the right shape is its command; what a later version adds is passed over."""
    assert wire.decode_command(name, [payload]) == command


BAD: list[tuple[str, dict[str, Any], str | None]] = [
    ("room:create", {}, "room"),
    ("room:create", {"room": ""}, "room"),
    ("room:create", {"room": "A"}, "room"),
    ("room:create", {"room": ".a"}, "room"),
    ("room:create", {"room": "a\n"}, "room"),
    ("room:create", {"room": "a/b"}, "room"),
    ("room:create", {"room": "\u0663"}, "room"),
    ("room:create", {"room": "a" * 65}, "room"),
    ("room:create", {"room": None}, "room"),
    ("room:create", {"room": "a", "kind": "secret"}, "kind"),
    ("room:create", {"room": "a", "title": 1}, "title"),
    ("room:create", {"room": "a", "with": "bob"}, "with"),
    ("room:create", {"room": "a", "with": ["bob", 1]}, "with"),
    ("room:create", {"room": "a", "with": [""]}, "with"),
    ("room:create", {"room": "a", "with": {"0": "bob"}}, "with"),
    ("room:invite", {"room": "a"}, "user"),
    ("room:invite", {"room": "a", "user": ""}, "user"),
    ("room:role", {"room": "a", "user": "b", "role": "god"}, "role"),
    ("room:role", {"room": "a", "user": "b"}, "role"),
    ("room:list", {"limit": 0}, "limit"),
    ("room:list", {"limit": "10"}, "limit"),
    ("message:send", {"room": "a"}, "text"),
    ("message:send", {"room": "a", "text": ["x"]}, "text"),
    ("message:send", {"room": "a", "text": {"_placeholder": True, "num": 0}}, "text"),
    ("message:send", {"room": "a", "text": "x", "id": ""}, "id"),
    ("message:send", {"room": "a", "text": "x", "id": 1}, "id"),
    ("message:send", {"room": "a", "text": "x", "reply_to": 1}, "reply_to"),
    ("message:react", {"room": "a", "id": "m", "emoji": "", "on": True}, "emoji"),
    ("message:react", {"room": "a", "id": "m", "emoji": "x", "on": 1}, "on"),
    ("message:react", {"room": "a", "id": "m", "emoji": "x", "on": "true"}, "on"),
    ("history", {"room": "a", "before": -1}, "before"),
    ("history", {"room": "a", "after": 1.5}, "after"),
    ("replay", {"room": "a"}, "after"),
    ("replay", {"room": "a", "after": 2**53}, "after"),
    ("search", {"query": ""}, "query"),
    ("search", {"query": "x" * 1001}, "query"),
    ("read", {"room": "a", "seq": True}, "seq"),
    ("read", {"room": "a", "seq": "1"}, "seq"),
    ("typing", {"room": "a", "on": None}, "on"),
]


@pytest.mark.parametrize(("name", "payload", "field"), BAD, ids=range(len(BAD)))
def test_bad_payloads(name: str, payload: dict[str, Any], field: str | None) -> None:
    """A wrong shape is `bad_request` and names the field, by its name on the wire."""
    outcome = wire.decode_command(name, [payload])
    assert isinstance(outcome, Refused)
    assert (outcome.code, outcome.field) == ("bad_request", field)
    assert "$" not in outcome.message


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("message:sent", [{"room": "a", "text": "x"}]),
        ("", [{}]),
        (1, [{}]),
        (None, [{}]),
        (["room:list"], [{}]),
        ({"a": 1}, [{}]),
        ("__class__", [{}]),
        ("room:list", []),
        ("room:list", [{}, {}]),
        ("room:list", [None]),
        ("room:list", [[]]),
        ("room:list", ["{}"]),
        ("room:list", [b"{}"]),
    ],
)
def test_unknown_commands_and_arguments(name: Any, arguments: list[Any]) -> None:
    """Any other name, and anything but one object, is `bad_request`."""
    outcome = wire.decode_command(name, arguments)
    assert isinstance(outcome, Refused)
    assert outcome.code == "bad_request"


def test_acks() -> None:
    """What each command's ack adds, as PROTOCOL section 6 lists it."""
    done = Applied(event="e", seq=7, at=9)
    assert wire.applied(SendMessage(room="a", text="x"), done) == {"ok": True, "id": "e", "seq": 7, "at": 9}
    again = Applied(event="e", seq=7, at=9, duplicate=True)
    assert wire.applied(SendMessage(room="a", text="x", id="m"), again) == {
        "ok": True,
        "id": "m",
        "seq": 7,
        "at": 9,
        "duplicate": True,
    }
    assert wire.applied(CreateRoom(room="a"), done) == {"ok": True, "room": "a", "seq": 7}
    assert wire.applied(MarkRead(room="a", seq=1), done) == {"ok": True}
    for name, kind in NAMES.items():
        if kind in typing.get_args(Command) and kind not in (SendMessage, CreateRoom, MarkRead):
            command = msgspec.convert(
                {"room": "a", "user": "b", "role": "member", "id": "m", "text": "x", "emoji": "x", "on": True}, kind
            )
            assert wire.applied(typing.cast(Command, command), done) == {"ok": True, "seq": 7}, name
