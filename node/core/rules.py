"""Who may do what, on the state as it is: the one place for the rules, asked by `decide` before an event and by `apply` after it.

A rule answers with what it found (a room, a member, a message), with `Holds` when the wish is already so, or with `Refused`.
None looks at a limit or a clock: `apply` must come to the same answer on every node, for ever.
"""

from collections.abc import Iterable

import msgspec

from node.core.errors import Refused
from node.core.events import Role
from node.core.view import Member, Message, Room, View


class Holds(msgspec.Struct, frozen=True):
    """The wish is already so, since the event with this `seq`."""

    seq: int


RANK: dict[Role | None, int] = {None: 0, "member": 1, "moderator": 2, "owner": 3}
_NO_ROOM = Refused("room_not_found", "no such room", "room")
_NOT_IN = Refused("not_a_member", "you are not a member of this room")
_NO_MESSAGE = Refused("message_not_found", "no such message", "id")
_DIRECT = Refused("forbidden", "the members of a direct room are fixed")


def see(view: View, name: str, user: str) -> tuple[Room, Member | None] | Refused:
    """The room and what it knows of the user; a private one is not there for who is neither in it nor invited."""
    room = view.room(name)
    if room is None:
        return _NO_ROOM
    member = view.member(name, user)
    if room.kind != "public" and (member is None or (member.role is None and member.invited_by is None)):
        return _NO_ROOM
    return room, member


def be_in(view: View, name: str, user: str) -> tuple[Room, Member] | Refused:
    """The room and the user's membership."""
    seen = see(view, name, user)
    if isinstance(seen, Refused):
        return seen
    room, member = seen
    return (room, member) if member is not None and member.role is not None else _NOT_IN


def create(view: View, name: str) -> None | Refused:
    """Names are global, private ones too."""
    return Refused("room_exists", "a room of this name exists", "room") if view.room(name) is not None else None


def join(view: View, name: str, user: str) -> Room | Holds | Refused:
    """Public rooms are open, to who was kicked too: a kick ends a membership and bars nobody. Private ones are open to the invited."""
    seen = see(view, name, user)
    if isinstance(seen, Refused):
        return seen
    room, member = seen
    if member is not None and member.role is not None:
        return Holds(member.joined)
    return _DIRECT if room.kind == "direct" else room


def leave(view: View, name: str, user: str) -> tuple[Room, Member] | Refused:
    """Everyone may leave but from a direct room."""
    found = be_in(view, name, user)
    return _DIRECT if not isinstance(found, Refused) and found[0].kind == "direct" else found


def invite(view: View, name: str, by: str, user: str) -> Room | Holds | Refused:
    """Any member of a public room, owner and moderators of a private one."""
    found = be_in(view, name, by)
    if isinstance(found, Refused):
        return found
    room, inviter = found
    if room.kind == "direct":
        return _DIRECT
    if room.kind == "private" and RANK[inviter.role] < RANK["moderator"]:
        return Refused("forbidden", "only the owner and moderators invite to a private room")
    target = view.member(name, user)
    if target is not None and (target.role is not None or target.invited_by is not None):
        return Holds(target.joined)
    return room


def kick(view: View, name: str, by: str, user: str) -> tuple[Room, Member] | Refused:
    """The owner anyone else, moderators plain members; of the invited, the invitation is withdrawn."""
    found = be_in(view, name, by)
    if isinstance(found, Refused):
        return found
    room, kicker = found
    if room.kind == "direct":
        return _DIRECT
    if user == by:
        return Refused("bad_request", "to go yourself, leave the room", "user")
    target = view.member(name, user)
    if target is None or (target.role is None and target.invited_by is None):
        return Refused("not_a_member", "this user is not a member of the room", "user")
    if RANK[kicker.role] < RANK["moderator"] or RANK[kicker.role] <= RANK[target.role]:
        return Refused("forbidden", "your role in this room does not allow it")
    return room, target


def set_role(view: View, name: str, by: str, user: str, role: Role) -> tuple[Room, Member, Member] | Holds | Refused:
    """Only the owner; `owner` itself is handed over."""
    found = be_in(view, name, by)
    if isinstance(found, Refused):
        return found
    room, owner = found
    if room.kind == "direct":
        return _DIRECT
    if owner.role != "owner":
        return Refused("forbidden", "only the owner gives roles")
    target = view.member(name, user)
    if target is None or target.role is None:
        return Refused("not_a_member", "this user is not a member of the room", "user")
    if target.role == role:
        return Holds(target.joined)
    if user == by:
        return Refused("forbidden", "the owner stays owner until another one takes over", "user")
    return room, owner, target


def heir(members: Iterable[Member], leaving: str) -> Member | None:
    """Who owns a room when its owner leaves: the longest-standing moderator, else the longest-standing member."""
    rest = [member for member in members if member.role is not None and member.user != leaving]
    return min(rest, key=lambda member: (-RANK[member.role], member.joined, member.user), default=None)


def post(view: View, name: str, by: str, reply_to: str | None) -> tuple[Room, Member] | Refused:
    """Any member; a reply names a message of the room."""
    found = be_in(view, name, by)
    if not isinstance(found, Refused) and reply_to is not None and not view.has_message(name, reply_to):
        return Refused("message_not_found", "there is no such message to reply to", "reply_to")
    return found


def named(view: View, room: Room, user: str, id: str, of: int | None) -> Message | Refused:
    """The message that a user means by an id: the one at the seq `of`, else his own, else the first that anyone posted under it."""
    if of is not None:
        message = _at(view, room, of)
        return message if message is not None and message.id == id else _NO_MESSAGE
    return view.find_message(room.name, id, user) or view.find_message(room.name, id) or _NO_MESSAGE


def _at(view: View, room: Room, seq: int) -> Message | None:
    return view.message(room.name, seq) if 0 < seq <= room.seq else None


def _standing(view: View, name: str, by: str, seq: int) -> tuple[Room, Member, Message] | Refused:
    found = be_in(view, name, by)
    if isinstance(found, Refused):
        return found
    message = _at(view, found[0], seq)
    return (*found, message) if message is not None and message.deleted_at is None else _NO_MESSAGE


def edit(view: View, name: str, by: str, seq: int) -> tuple[Room, Member, Message] | Refused:
    """Only its author."""
    found = _standing(view, name, by, seq)
    if not isinstance(found, Refused) and found[2].author != by:
        return Refused("forbidden", "only its author edits a message")
    return found


def delete(view: View, name: str, by: str, seq: int) -> tuple[Room, Member, Message] | Refused:
    """Its author, the owner and moderators."""
    found = _standing(view, name, by, seq)
    if isinstance(found, Refused):
        return found
    if found[2].author != by and RANK[found[1].role] < RANK["moderator"]:
        return Refused("forbidden", "only its author, the owner and moderators delete a message")
    return found


def react(view: View, name: str, by: str, seq: int, emoji: str, on: bool) -> tuple[Room, Member, Message] | Holds | Refused:
    """Any member."""
    found = _standing(view, name, by, seq)
    if isinstance(found, Refused):
        return found
    return Holds(seq) if (by in found[2].reactions.get(emoji, ())) is on else found


def read(view: View, name: str, by: str, seq: int) -> tuple[Room, Member] | Holds | Refused:
    """A member's own mark; it only moves forward."""
    found = be_in(view, name, by)
    if isinstance(found, Refused):
        return found
    if seq > found[0].seq:
        return Refused("bad_request", "the room is not that far", "seq")
    return Holds(found[1].read) if seq <= found[1].read else found
