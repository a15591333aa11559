"""The laws of the fold: the log's order decides, each event counts once, and nothing that comes in makes anything raise."""

import copy
import typing

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from node.core import errors
from node.core.apply import apply
from node.core.commands import (
    NAMES,
    Command,
    CreateRoom,
    DeleteMessage,
    EditMessage,
    JoinRoom,
    Kick,
    LeaveRoom,
    SendMessage,
    SetRole,
)
from node.core.decide import decide
from node.core.effects import Applied, Deliver, Effect, EndSessions, Lost
from node.core.errors import Refused
from node.core.events import (
    Event,
    MemberJoined,
    MemberLeft,
    MessagePosted,
    RoomCreated,
    RoomEvent,
    SessionOpened,
    TokensRevoked,
    decode,
    encode,
)
from node.core.identity import Principal
from node.core.limits import Limits
from node.core.memory_view import MemoryView
from node.edge import wire
from tests.support import chat_strategies as some
from tests.support.core import World, codes, fold, plain

CODES = set(typing.get_args(errors.Code))
COMMANDS = typing.get_args(Command)


_HALL: list[tuple[str, Command]] = [
    ("ann", CreateRoom(room="hall")),
    ("bob", JoinRoom(room="hall")),
    ("cleo", JoinRoom(room="hall")),
    ("bob", SendMessage(room="hall", text="x", id="m")),
]


@settings(max_examples=150)
@given(some.odd_events)
def test_every_event_round_trips(event: Event) -> None:
    """Whatever an event holds, its bytes are read as the same event, and written as the same bytes."""
    assert decode(encode(event)) == event
    assert encode(decode(encode(event))) == encode(event)


@settings(max_examples=150)
@given(st.lists(st.one_of(some.odd_events, some.small_events), max_size=20))
def test_apply_is_total(events: list[Event]) -> None:
    """Odd content, repeated ids, rooms that nobody would make: no record makes the fold raise, and each room's seq stays dense."""
    view = MemoryView()
    for event in events:
        apply(view, decode(encode(event)))
    for room in view.rooms():
        assert [entry.seq for entry in view.timeline(room.name)] == list(range(1, room.seq + 1))


@settings(max_examples=150)
@given(some.logs)
def test_the_same_log_gives_the_same_state_and_effects(events: list[Event]) -> None:
    """Two nodes that read one log agree in every byte, and their rooms hear each seq once, in order."""
    log = [encode(event) for event in events]
    (one, heard), (other, heard_too) = fold(log), fold(log)
    assert one.dump() == other.dump()
    assert plain(heard) == plain(heard_too)
    seqs: dict[str, int] = {}
    for effect in heard:
        if isinstance(effect, Deliver) and effect.seq is not None:
            assert effect.seq == seqs.get(effect.room, 0) + 1
            seqs[effect.room] = effect.seq
    assert seqs == {room.name: room.seq for room in one.rooms()}


@settings(max_examples=150)
@given(some.logs, st.data())
def test_the_full_fold_equals_snapshot_plus_tail(events: list[Event], data: st.DataObject) -> None:
    """A node that starts from a copy of another's state and reads on is the node that has read everything."""
    log = [encode(event) for event in events]
    cut = data.draw(st.integers(0, len(log)))
    whole, heard = fold(log)
    snapshot, before = fold(log[:cut])
    restored, after = fold(log[cut:], copy.deepcopy(snapshot))
    assert restored.dump() == whole.dump()
    assert plain(before + after) == plain(heard)


def _sent(effects: list[Effect]) -> bytes:
    """What effects do to anyone, besides answering the command that waits."""
    return plain([effect for effect in effects if not isinstance(effect, Applied | Lost)])


_RACED = [
    MemberJoined(id="e0", at=1, by="bob", room="hall"),
    RoomCreated(id="e1", at=2, by="ann", room="hall", title="t", kind="public"),
    MessagePosted(id="e2", at=3, by="bob", room="hall", message="m", text="too early"),
    MemberJoined(id="e3", at=4, by="bob", room="hall"),
]

_HELD = [
    RoomCreated(id="e0", at=1, by="ann", room="hall", title="t", kind="public"),
    MemberJoined(id="e1", at=2, by="bob", room="hall"),
    MemberJoined(id="e2", at=3, by="bob", room="hall"),  # he is in already
    MemberLeft(id="e3", at=4, by="bob", room="hall"),
]


@settings(max_examples=150)
@given(some.logs, st.lists(st.tuples(st.integers(0, 39), st.integers(0, 39)), max_size=12))
@example(_RACED, [(0, 3), (2, 3)])
@example(_HELD, [(2, 3)])
def test_twice_applied_is_once_applied(events: list[Event], repeats: list[tuple[int, int]]) -> None:
    """Repeats anywhere behind their first, of events that were applied, held already or lost: the same state, nothing sent twice."""
    once = [encode(event) for event in events]
    behind: dict[int, list[bytes]] = {}
    for which, where in repeats:
        if which < len(once):
            behind.setdefault(max(which, where), []).append(once[which])
    twice = [data for place, first in enumerate(once) for data in (first, *behind.get(place, ()))]
    twice += [data for place in sorted(behind) if place >= len(once) for data in behind[place]]
    (single, heard), (double, heard_twice) = fold(once), fold(twice)
    assert double.dump() == single.dump()
    assert _sent(heard_twice) == _sent(heard)


@settings(max_examples=100)
@given(
    st.lists(st.tuples(some.users, some.commands), max_size=25),
    st.lists(st.tuples(some.users, some.commands), min_size=2, max_size=6),
)
def test_races_end_alike_everywhere(history: list[tuple[str, Command]], racing: list[tuple[str, Command]]) -> None:
    """Commands decided on one old view are appended one after the other: each is applied, or lost without a trace, on every node."""
    world = World()
    for user, command in [*_HALL[:2], *history]:
        world.do(user, command)
    other = copy.deepcopy(world.view)
    decided = [world.judge(user, command) for user, command in racing]
    for event in decided:
        if isinstance(event, Applied | Refused):
            continue
        before = other.dump()
        outcome, effects = world.append(event), apply(other, decode(encode(event)))
        assert plain(effects) == plain(world.effects)
        assert other.dump() == world.view.dump()
        if isinstance(outcome, Refused):
            assert other.dump() | {"seen": ()} == before | {"seen": ()}
            assert outcome.code in CODES
            assert effects == [Lost(event=event.id, refused=outcome)]


def _race(setup: list[tuple[str, Command]], first: tuple[str, Command], second: tuple[str, Command]) -> tuple[str, str]:
    """Two nodes decide on the same view; both events are appended. The codes of the two answers."""
    world = World()
    for user, command in setup:
        assert codes(world.do(user, command)) == "ok"
    decided = [world.judge(*first), world.judge(*second)]
    answers = [world.append(event) for event in decided if not isinstance(event, Applied | Refused)]
    assert len(answers) == 2
    assert fold(world.log)[0].dump() == world.view.dump()
    return codes(answers[0]), codes(answers[1])


def test_races_by_name() -> None:
    """The races that users meet, each with the code that the second one gets."""
    assert _race([], ("ann", CreateRoom(room="r")), ("bob", CreateRoom(room="r"))) == ("ok", "room_exists")
    assert _race(_HALL, ("ann", Kick(room="hall", user="bob")), ("bob", SendMessage(room="hall", text="y"))) == (
        "ok",
        "not_a_member",
    )
    assert _race(_HALL, ("ann", DeleteMessage(room="hall", id="m")), ("bob", EditMessage(room="hall", id="m", text="y"))) == (
        "ok",
        "message_not_found",
    )
    hand_over = ("ann", SetRole(room="hall", user="bob", role="owner"))
    assert _race(_HALL, hand_over, ("ann", SetRole(room="hall", user="cleo", role="owner"))) == ("ok", "forbidden")
    assert _race(_HALL, ("ann", Kick(room="hall", user="bob")), ("bob", LeaveRoom(room="hall"))) == ("ok", "not_a_member")
    assert _race(_HALL, ("dan", JoinRoom(room="hall")), ("dan", JoinRoom(room="hall"))) == ("ok", "ok")
    send = ("bob", SendMessage(room="hall", text="y", id="n"))
    assert _race(_HALL, send, send) == ("ok", "ok")


def test_a_session_renewed_on_a_withdrawn_token_ends() -> None:
    """The renewal was judged before the withdrawal arrived, and stands behind it in the log: the session ends all the same."""
    opened = SessionOpened(
        id="1", at=1, by="ann", session="s", node="n", namespace="/", transport="websocket", expires_at=99, jti="j1"
    )
    renewed = {"type": "session_renewed", "id": "3", "at": 3, "by": "ann", "session": "s", "expires_at": 199, "jti": "j2"}
    log = [encode(opened), encode(TokensRevoked(id="2", at=2, by="root", before=2, jti="j2")), msgspec.json.encode(renewed)]
    _, effects = fold(log)
    (end,) = (effect for effect in effects if isinstance(effect, EndSessions))
    assert (end.sessions, end.code, end.reason) == (("s",), "token_revoked", "revoked")


def test_a_session_ends_with_any_token_of_its_line() -> None:
    """Revoking the token that a session began with ends it, however often it was renewed since."""
    log = [
        b'{"type":"session_opened","id":"1","at":1,"by":"ann","session":"s","node":"n","namespace":"/","transport":"polling","expires_at":9,"jti":"j1"}',
        b'{"type":"session_renewed","id":"2","at":2,"by":"ann","session":"s","expires_at":19,"jti":"j2"}',
        b'{"type":"tokens_revoked","id":"3","at":3,"by":"root","before":3,"jti":"j1"}',
    ]
    ends = [effect.sessions for effect in fold(log)[1] if isinstance(effect, EndSessions)]
    assert ends == [("s",)]


def test_a_lifted_suspension_leaves_no_trace() -> None:
    """After it, a token without `iat` is as good as before: nothing of the user's was revoked."""
    log = [
        b'{"type":"user_suspended","id":"1","at":10,"by":"root","user":"ann"}',
        b'{"type":"user_suspended","id":"2","at":20,"by":"root","user":"ann","until":20}',
        b'{"type":"session_opened","id":"3","at":30,"by":"ann","session":"s","node":"n","namespace":"/","transport":"polling","expires_at":99}',
    ]
    view, effects = fold(log)
    assert not [effect for effect in effects if isinstance(effect, EndSessions)]
    withdrawals = view.withdrawals("ann")
    assert withdrawals is not None
    assert withdrawals.code(None, 30) is None


@settings(max_examples=150)
@given(
    st.one_of(
        st.text(max_size=30), st.from_regex(r"[0-9](\d{0,4}-)?(/[a-z,?]{0,3},?)?\d{0,18}[\[{\"n]?.{0,12}"), some.junk.map(repr)
    )
)
def test_junk_packets_are_malformed_or_packets(text: str) -> None:
    """Whatever text a client sends, `decode_packet` gives a packet or raises `Malformed`."""
    try:
        packet = wire.decode_packet(text)
    except wire.Malformed:
        return
    assert 0 <= packet.attachments <= 16
    assert packet.namespace.startswith("/")
    assert packet.type is not wire.Type.CONNECT_ERROR


def _carry(arguments: list[typing.Any], name: object) -> None:
    """A decoded event goes the whole way: command, decision, bytes, fold."""
    command = wire.decode_command(name, arguments)
    if isinstance(command, Refused):
        assert command.code == "bad_request"
        msgspec.json.encode(wire.refusal(command))
        return
    assert isinstance(name, str)
    assert type(command) is NAMES[name]
    if not isinstance(command, COMMANDS):
        return
    world = World()
    for user, one in _HALL:
        world.do(user, one)
    outcome = decide(world.view, command, Principal(user="ann", expires_at=1), now=1, event_id="e", limits=Limits())
    if isinstance(outcome, Refused):
        assert outcome.code in CODES
        msgspec.json.encode(wire.refusal(outcome))
    elif not isinstance(outcome, Applied):
        assert isinstance(outcome, RoomEvent)
        answer = world.append(outcome)
        assert isinstance(answer, Applied)
        wire.applied(command, answer)


_payloads = st.dictionaries(some.names, some.junk, max_size=6)


@settings(max_examples=100)
@given(st.sampled_from(sorted(NAMES)), st.one_of(_payloads, _payloads.map(lambda one: {"room": "hall", "id": "m"} | one)))
def test_junk_payloads_are_refused(name: str, payload: dict[str, typing.Any]) -> None:
    """Any object for any command is carried out or refused with a code of the contract; nothing raises."""
    _carry([payload], name)


@settings(max_examples=100)
@given(st.lists(some.junk, max_size=3), st.one_of(st.sampled_from(sorted(NAMES)), some.junk))
def test_junk_arguments_are_refused(arguments: list[typing.Any], name: object) -> None:
    """So are other names, other numbers of arguments, and what is no object at all."""
    _carry(arguments, name)


@settings(max_examples=100)
@given(st.sampled_from(sorted(NAMES)), st.one_of(some.junk, _payloads), st.sampled_from(["2", "2/admin,", "27", "2/,99"]))
def test_junk_from_the_wire(name: str, payload: object, head: str) -> None:
    """The same through a packet's text, where JSON can carry it."""
    try:
        text = msgspec.json.encode([name, payload]).decode()
    except (UnicodeEncodeError, msgspec.ValidationError, TypeError):
        return
    try:
        packet = wire.decode_packet(head + text)
    except wire.Malformed:
        return
    assert packet.data[0] == name
    _carry(packet.data[1:], packet.data[0])
