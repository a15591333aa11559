"""Who may do what, by role and kind of room, with the code of each refusal."""

import pytest

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
from node.core.effects import Applied, Entered, Exited
from node.core.errors import Refused
from node.core.events import MemberJoined, MessagePosted, RoomCreated, RoomKind
from node.core.identity import Principal
from node.core.limits import Limits
from tests.support.core import World, codes

# The cast: who stands how to the rooms `hall` (public), `den` (private) and `dm` (direct, of `owner` and `member` only).
ROLES = ("owner", "moderator", "member", "invited", "kicked", "left", "stranger")


def cast(limits: Limits | None = None) -> World:
    """The three rooms with everyone in place, and messages `m-owner`, `m-moderator`, `m-member`, `m-left` in each."""
    world = World(limits)
    kinds: dict[str, RoomKind] = {"hall": "public", "den": "private"}
    for room, kind in kinds.items():
        must(
            world, "owner", CreateRoom(room=room, kind=kind, with_=["moderator", "member", "invited", "kicked", "left", "other"])
        )
        for user in ("moderator", "member", "kicked", "left", "other"):
            must(world, user, JoinRoom(room=room))
        must(world, "owner", SetRole(room=room, user="moderator", role="moderator"))
        for user in ("owner", "moderator", "member", "left"):
            must(world, user, SendMessage(room=room, text=f"of {user}", id=f"m-{user}"))
        must(world, "owner", Kick(room=room, user="kicked"))
        must(world, "left", LeaveRoom(room=room))
    must(world, "owner", CreateRoom(room="dm", kind="direct", with_=["member", "other"]))
    for user in ("owner", "member"):
        must(world, user, SendMessage(room="dm", text=f"of {user}", id=f"m-{user}"))
    return world


def must(world: World, user: str, command: Command) -> Applied:
    outcome = world.do(user, command)
    assert isinstance(outcome, Applied), (user, command, outcome)
    return outcome


def in_room(room: str) -> list[tuple[str, Command]]:
    """Every command, named, as it is asked of one room."""
    return [
        ("join", JoinRoom(room=room)),
        ("leave", LeaveRoom(room=room)),
        ("invite", Invite(room=room, user="newcomer")),
        ("kick", Kick(room=room, user="other")),
        ("kick-moderator", Kick(room=room, user="moderator")),
        ("kick-owner", Kick(room=room, user="owner")),
        ("role", SetRole(room=room, user="other", role="moderator")),
        ("send", SendMessage(room=room, text="hello")),
        ("reply", SendMessage(room=room, text="hello", reply_to="m-owner")),
        ("edit", EditMessage(room=room, id="m-member", text="changed")),
        ("delete", DeleteMessage(room=room, id="m-member")),
        ("react", React(room=room, id="m-member", emoji="\U0001f44d", on=True)),
        ("read", MarkRead(room=room, seq=1)),
    ]


# Columns as in ROLES. ok; f forbidden; n not_a_member; r room_not_found; b bad_request; m message_not_found.
HALL = {
    "join": "ok ok ok ok ok ok ok",
    "leave": "ok ok ok n n n n",
    "invite": "ok ok ok n n n n",
    "kick": "ok ok f n n n n",
    "kick-moderator": "ok b f n n n n",
    "kick-owner": "b f f n n n n",
    "role": "ok f f n n n n",
    "send": "ok ok ok n n n n",
    "reply": "ok ok ok n n n n",
    "edit": "f f ok n n n n",
    "delete": "ok ok ok n n n n",
    "react": "ok ok ok n n n n",
    "read": "ok ok ok n n n n",
}
DEN = {
    "join": "ok ok ok ok r r r",
    "leave": "ok ok ok n r r r",
    "invite": "ok ok f n r r r",
    "kick": "ok ok f n r r r",
    "kick-moderator": "ok b f n r r r",
    "kick-owner": "b f f n r r r",
    "role": "ok f f n r r r",
    "send": "ok ok ok n r r r",
    "reply": "ok ok ok n r r r",
    "edit": "f f ok n r r r",
    "delete": "ok ok ok n r r r",
    "react": "ok ok ok n r r r",
    "read": "ok ok ok n r r r",
}
DM = {
    "join": "ok r ok r r r r",
    "leave": "f r f r r r r",
    "invite": "f r f r r r r",
    "kick": "f r f r r r r",
    "kick-moderator": "f r f r r r r",
    "kick-owner": "f r f r r r r",
    "role": "f r f r r r r",
    "send": "ok r ok r r r r",
    "reply": "ok r ok r r r r",
    "edit": "f r ok r r r r",
    "delete": "ok r ok r r r r",
    "react": "ok r ok r r r r",
    "read": "ok r ok r r r r",
}
SHORT = {
    "ok": "ok",
    "f": "forbidden",
    "n": "not_a_member",
    "r": "room_not_found",
    "b": "bad_request",
    "m": "message_not_found",
}
CASES = [
    pytest.param(role, command, SHORT[expected], id=f"{room}-{name}-{role}")
    for room, table in (("hall", HALL), ("den", DEN), ("dm", DM))
    for name, command in in_room(room)
    for role, expected in zip(ROLES, table[name].split(), strict=True)
]


@pytest.mark.parametrize(("role", "command", "expected"), CASES)
def test_who_may_do_what(role: str, command: Command, expected: str) -> None:
    """Each command by each role in each kind of room is carried out, or refused with its code and changes nothing."""
    world = cast()
    before = world.view.dump()
    assert codes(world.do(role, command)) == expected
    if expected != "ok":
        assert world.view.dump() == before
        assert world.effects == []


@pytest.mark.parametrize(("name", "command"), in_room("nowhere"), ids=[name for name, _ in in_room("nowhere")])
def test_a_room_that_is_not_there(name: str, command: Command) -> None:
    """Every command to a room that does not exist is `room_not_found`, in the words used for a private one."""
    world = cast()
    there = next(one for other, one in in_room("den") if other == name)
    assert codes(world.do("owner", command)) == "room_not_found"
    assert world.do("stranger", command) == world.do("stranger", there)


REFUSED: list[tuple[str, str, Command, str, str | None]] = [
    ("name taken", "stranger", CreateRoom(room="hall"), "room_exists", "room"),
    ("name taken by a private room", "stranger", CreateRoom(room="den"), "room_exists", "room"),
    ("one's own again", "owner", CreateRoom(room="hall"), "room_exists", "room"),
    ("direct with nobody", "owner", CreateRoom(room="x", kind="direct"), "bad_request", "with"),
    ("direct with oneself", "owner", CreateRoom(room="x", kind="direct", with_=["owner"]), "bad_request", "with"),
    (
        "direct with a crowd",
        "owner",
        CreateRoom(room="x", kind="direct", with_=[f"u{n}" for n in range(51)]),
        "too_large",
        "with",
    ),
    ("with a name of controls", "owner", CreateRoom(room="x", with_=["a\0b"]), "bad_request", "with"),
    ("with an endless name", "owner", CreateRoom(room="x", with_=["a" * 129]), "too_large", "with"),
    ("title too long", "owner", CreateRoom(room="x", title="t" * 201), "too_large", "title"),
    ("title of blanks", "owner", CreateRoom(room="x", title=" \t "), "bad_request", "title"),
    ("title of two lines", "owner", CreateRoom(room="x", title="a\nb"), "bad_request", "title"),
    ("text too long", "member", SendMessage(room="hall", text="x" * 4001), "too_large", "text"),
    ("text empty", "member", SendMessage(room="hall", text=""), "bad_request", "text"),
    ("text of blanks", "member", SendMessage(room="hall", text="\u00a0 \n\t\u2003"), "bad_request", "text"),
    ("text with NUL", "member", SendMessage(room="hall", text="a\0b"), "bad_request", "text"),
    ("text with half a character", "member", SendMessage(room="hall", text="a\ud83d"), "bad_request", "text"),
    ("id too long", "member", SendMessage(room="hall", text="x", id="i" * 129), "too_large", "id"),
    ("id with controls", "member", SendMessage(room="hall", text="x", id="a\nb"), "bad_request", "id"),
    ("reply to nothing", "member", SendMessage(room="hall", text="x", reply_to="m-none"), "message_not_found", "reply_to"),
    ("edit of nothing", "member", EditMessage(room="hall", id="m-none", text="x"), "message_not_found", "id"),
    ("edit to nothing", "member", EditMessage(room="hall", id="m-member", text=" "), "bad_request", "text"),
    ("edit to too much", "member", EditMessage(room="hall", id="m-member", text="x" * 4001), "too_large", "text"),
    ("edit of another seq", "member", EditMessage(room="hall", id="m-member", of=1, text="x"), "message_not_found", "id"),
    (
        "edit of another room's seq",
        "member",
        EditMessage(room="hall", id="m-member", of=2**40, text="x"),
        "message_not_found",
        "id",
    ),
    ("delete of nothing", "owner", DeleteMessage(room="hall", id="m-none"), "message_not_found", "id"),
    ("react to nothing", "owner", React(room="hall", id="m-none", emoji="x", on=True), "message_not_found", "id"),
    ("emoji too long", "owner", React(room="hall", id="m-member", emoji="x" * 33, on=True), "too_large", "emoji"),
    ("emoji of blanks", "owner", React(room="hall", id="m-member", emoji=" ", on=True), "bad_request", "emoji"),
    ("emoji of controls", "owner", React(room="hall", id="m-member", emoji="\x07", on=True), "bad_request", "emoji"),
    ("read ahead", "member", MarkRead(room="hall", seq=10_000), "bad_request", "seq"),
    ("kick oneself", "owner", Kick(room="hall", user="owner"), "bad_request", "user"),
    ("kick a stranger", "owner", Kick(room="hall", user="stranger"), "not_a_member", "user"),
    ("kick who has left", "owner", Kick(room="hall", user="left"), "not_a_member", "user"),
    ("role for a stranger", "owner", SetRole(room="hall", user="stranger", role="member"), "not_a_member", "user"),
    ("role for the invited", "owner", SetRole(room="hall", user="invited", role="member"), "not_a_member", "user"),
    ("owner steps down", "owner", SetRole(room="hall", user="owner", role="member"), "forbidden", "user"),
    ("invite of a bad name", "owner", Invite(room="hall", user="a\x1bb"), "bad_request", "user"),
    ("invite of an endless name", "owner", Invite(room="hall", user="a" * 129), "too_large", "user"),
]


@pytest.mark.parametrize(("user", "command", "code", "field"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_refusals(user: str, command: Command, code: str, field: str | None) -> None:
    """Each fault has its code and names its field."""
    world = cast()
    before = world.view.dump()
    outcome = world.do(user, command)
    assert isinstance(outcome, Refused)
    assert (outcome.code, outcome.field) == (code, field)
    assert world.view.dump() == before


ALLOWED: list[tuple[str, str, Command]] = [
    ("text at the limit", "member", SendMessage(room="hall", text="\U0001f600" * 4000)),
    ("id at the limit", "member", SendMessage(room="hall", text="x", id="i" * 128)),
    ("another's id", "member", SendMessage(room="hall", text="x", id="m-owner")),
    ("reply to a reply's author who left", "member", SendMessage(room="hall", text="x", reply_to="m-left")),
    ("title at the limit", "stranger", CreateRoom(room="x", title="t" * 200)),
    ("a long emoji", "member", React(room="hall", id="m-owner", emoji="\U0001f469\u200d\u2764\ufe0f\u200d\U0001f468", on=True)),
    ("by its seq", "member", React(room="hall", id="m-owner", of=8, emoji="x", on=True)),
    ("direct with a group", "owner", CreateRoom(room="x", kind="direct", with_=[f"u{n}" for n in range(50)])),
]


@pytest.mark.parametrize(("user", "command"), [case[1:] for case in ALLOWED], ids=[case[0] for case in ALLOWED])
def test_borderline_and_allowed(user: str, command: Command) -> None:
    """What stands just inside the limits is carried out."""
    assert codes(cast().do(user, command)) == "ok"


REPEATED: list[tuple[str, str, Command]] = [
    ("join again", "member", JoinRoom(room="hall")),
    ("invite the invited", "owner", Invite(room="den", user="invited")),
    ("invite a member", "owner", Invite(room="den", user="member")),
    ("invite oneself", "owner", Invite(room="den", user="owner")),
    ("the role he has", "owner", SetRole(room="hall", user="moderator", role="moderator")),
    ("no reaction taken back", "owner", React(room="hall", id="m-member", emoji="x", on=False)),
    ("read backwards", "owner", MarkRead(room="hall", seq=0)),
]


@pytest.mark.parametrize(("user", "command"), [case[1:] for case in REPEATED], ids=[case[0] for case in REPEATED])
def test_what_is_already_so(user: str, command: Command) -> None:
    """A wish that holds already is answered ok without an event: nobody hears of it, no `seq` is spent."""
    world = cast()
    before = world.view.dump()
    assert isinstance(world.judge(user, command), Applied)
    assert world.view.dump() == before


def test_a_kicked_user_may_come_back_to_a_public_room_only() -> None:
    """A kick ends the membership and bars nobody from a public room; a private one takes another invitation."""
    world = cast()
    assert codes(world.do("kicked", JoinRoom(room="hall"))) == "ok"
    assert codes(world.do("kicked", JoinRoom(room="den"))) == "room_not_found"
    assert codes(world.do("owner", Invite(room="den", user="kicked"))) == "ok"
    assert codes(world.do("kicked", JoinRoom(room="den"))) == "ok"


def test_a_withdrawn_invitation() -> None:
    """Kicking the invited takes the invitation back: the private room is gone for him, and he hears of it."""
    world = cast()
    must(world, "moderator", Kick(room="den", user="invited"))
    assert "invited" in world.hearers()
    assert codes(world.do("invited", JoinRoom(room="den"))) == "room_not_found"


def test_the_owners_heir() -> None:
    """When the owner leaves, the longest-standing moderator owns the room, then the longest-standing member, then who joins first."""
    world = cast()
    for owner, heir in (("owner", "moderator"), ("moderator", "member"), ("member", "other")):
        assert world.roles("hall")[owner] == "owner"
        must(world, owner, LeaveRoom(room="hall"))
        assert world.roles("hall").get(heir) == "owner"
        assert world.deliveries()[0].payload["owner"] == heir
    must(world, "other", LeaveRoom(room="hall"))
    assert world.roles("hall") == {}
    must(world, "stranger", JoinRoom(room="hall"))
    assert world.roles("hall") == {"stranger": "owner"}


def test_standing_counts_from_the_last_joining() -> None:
    """Who left and came back stands behind who stayed."""
    world = World()
    must(world, "a", CreateRoom(room="r"))
    for user in ("b", "c"):
        must(world, user, JoinRoom(room="r"))
    must(world, "b", LeaveRoom(room="r"))
    must(world, "b", JoinRoom(room="r"))
    must(world, "a", LeaveRoom(room="r"))
    assert world.roles("r") == {"c": "owner", "b": "member"}


def test_handing_over() -> None:
    """`owner` is handed over: the old one stays as a moderator, and there is one owner at any time."""
    world = cast()
    must(world, "owner", SetRole(room="den", user="member", role="owner"))
    assert world.roles("den") == {"owner": "moderator", "moderator": "moderator", "member": "owner", "other": "member"}
    assert codes(world.do("owner", SetRole(room="den", user="other", role="owner"))) == "forbidden"


def test_who_hears_of_a_leaving() -> None:
    """Who left and who was kicked hear it too; who was invited hears of the room."""
    world = cast()
    must(world, "owner", Kick(room="hall", user="other"))
    assert world.hearers() == {"owner", "moderator", "member", "other"}
    assert world.effects[:1] == [Exited("other", "hall")]
    assert world.deliveries()[0].payload["by"] == "owner"
    must(world, "member", LeaveRoom(room="hall"))
    assert world.hearers() == {"owner", "moderator", "member"}
    must(world, "owner", Invite(room="hall", user="newcomer"))
    assert world.hearers() == {"owner", "moderator", "newcomer"}
    must(world, "newcomer", JoinRoom(room="hall"))
    assert world.effects[:1] == [Entered("newcomer", "hall")]


def test_ids_belong_to_author_and_room() -> None:
    """A repeated send gives the first one's seq and time; the same id of another author, or in another room, is another message."""
    world = cast()
    first = must(world, "member", SendMessage(room="hall", text="one", id="x"))
    again = must(world, "member", SendMessage(room="hall", text="two", id="x"))
    assert (again.seq, again.at, again.duplicate, first.duplicate) == (first.seq, first.at, True, False)
    assert must(world, "owner", SendMessage(room="hall", text="mine", id="x")).seq == first.seq + 1
    assert not must(world, "member", SendMessage(room="den", text="there", id="x")).duplicate


def test_a_repeat_by_who_has_left() -> None:
    """The author learns that his message stands even when he was put out before he could ask again."""
    world = cast()
    assert must(world, "left", SendMessage(room="den", text="of left", id="m-left")).duplicate
    assert codes(world.do("left", SendMessage(room="den", text="new", id="m-new"))) == "room_not_found"


def test_a_lost_send_may_be_sent_again() -> None:
    """A message that was refused is not taken for sent: the same id goes once its author is in."""
    world = cast()
    lost = MessagePosted(id="raced", at=1, by="stranger", room="hall", message="x", text="early")
    assert codes(world.append(lost)) == "not_a_member"
    must(world, "stranger", JoinRoom(room="hall"))
    sent = must(world, "stranger", SendMessage(room="hall", text="now", id="x"))
    assert not sent.duplicate
    message = world.view.message("hall", sent.seq)
    assert message is not None
    assert message.text == "now"


def test_whose_message_an_id_means() -> None:
    """One's own comes first, else the first under that id; `of` is exact, so that nobody hides behind another's id."""
    world = cast()
    spam = must(world, "member", SendMessage(room="hall", text="spam", id="m-owner")).seq
    must(world, "member", EditMessage(room="hall", id="m-owner", text="more spam"))
    assert world.deliveries()[0].payload["of"] == spam
    must(world, "moderator", DeleteMessage(room="hall", id="m-owner", of=spam))
    assert world.deliveries()[0].payload["of"] == spam
    must(world, "moderator", React(room="hall", id="m-owner", emoji="x", on=True))
    assert world.deliveries()[0].payload["of"] < spam


@pytest.mark.parametrize(
    "command",
    [
        EditMessage(room="hall", id="m-member", text="x"),
        DeleteMessage(room="hall", id="m-member"),
        React(room="hall", id="m-member", emoji="x", on=True),
    ],
)
def test_a_deleted_message_stays_deleted(command: Command) -> None:
    """Nothing is done to a deleted message; its text and reactions are gone from the state, and its place stays."""
    world = cast()
    must(world, "other", React(room="hall", id="m-member", emoji="x", on=True))
    must(world, "moderator", DeleteMessage(room="hall", id="m-member"))
    assert codes(world.do("member", command)) == "message_not_found"
    message = world.view.find_message("hall", "m-member")
    assert message is not None
    assert (message.text, message.reactions, message.deleted_by) == ("", {}, "moderator")
    assert must(world, "member", SendMessage(room="hall", text="back", id="m-member")).duplicate


def test_limits_of_rooms_and_messages() -> None:
    """A full room takes nobody in, invited included; a message takes so many different reactions, and more of those it has."""
    world = World(Limits(room_members=3, reactions_per_message=2))
    must(world, "a", CreateRoom(room="r"))
    must(world, "b", JoinRoom(room="r"))
    must(world, "a", Invite(room="r", user="c"))
    assert world.do("a", Invite(room="r", user="d")) == Refused("too_large", "a room takes 3 members and invited users", "room")
    must(world, "c", JoinRoom(room="r"))
    assert codes(world.do("d", JoinRoom(room="r"))) == "too_large"
    must(world, "a", SendMessage(room="r", text="x", id="m"))
    for user, emoji, expected in (("a", "1", "ok"), ("a", "2", "ok"), ("a", "3", "too_large"), ("b", "2", "ok")):
        assert codes(world.do(user, React(room="r", id="m", emoji=emoji, on=True))) == expected
    must(world, "a", React(room="r", id="m", emoji="1", on=False))
    assert codes(world.do("c", React(room="r", id="m", emoji="3", on=True))) == "ok"


def test_odd_rooms_in_the_log() -> None:
    """A log may hold what `decide` would never write: `apply` takes it all the same, with one role for each user."""
    world = World()
    odd = RoomCreated(
        id="e", at=-1, by="", room="\0 Ö", title="\x00\n", kind="direct", members=("a", "a", ""), invited=("a", "b", "")
    )
    assert codes(world.append(odd)) == "ok"
    assert world.roles("\0 Ö") == {"": "owner", "a": "member"}
    assert codes(world.append(MemberJoined(id="j", at=0, by="b", room="\0 Ö"))) == "forbidden"


def test_scopes() -> None:
    """A token without `scope` may chat and nothing else; one with a scope may what it names."""
    bare = Principal(user="a", expires_at=1)
    named = Principal(user="a", expires_at=1, scopes=frozenset({"admin"}))
    assert (bare.allows("chat"), bare.allows("admin"), named.allows("chat"), named.allows("admin")) == (True, False, False, True)
