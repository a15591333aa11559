"""Judge a command on the state as it is now: an event to append, an answer that needs none, or a refusal.

The state may be a moment old. That is harmless: `apply` judges again, in the order of the log.
"""

import unicodedata
from typing import assert_never

from node.core import rules
from node.core.apply import message_key
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
from node.core.effects import Applied
from node.core.errors import Refused
from node.core.events import (
    MemberInvited,
    MemberJoined,
    MemberKicked,
    MemberLeft,
    MessageDeleted,
    MessageEdited,
    MessagePosted,
    ReactionSet,
    ReadMarked,
    RoleChanged,
    RoomCreated,
    RoomEvent,
)
from node.core.identity import Principal
from node.core.limits import Limits
from node.core.rules import Holds
from node.core.view import View

_MOST_DIRECT = 50  # a direct room is a conversation; more people want a room with roles


def decide(
    view: View, command: Command, principal: Principal, *, now: int, event_id: str, limits: Limits
) -> RoomEvent | Applied | Refused:
    """What a command comes to: the event to append, `Applied` when it is already so, or `Refused`. Never raises."""
    verdict = _judge(view, command, principal.user, now, event_id, limits)
    return Applied(event=event_id, seq=verdict.seq, at=now) if isinstance(verdict, Holds) else verdict


def _judge(view: View, command: Command, by: str, at: int, id: str, limits: Limits) -> RoomEvent | Applied | Holds | Refused:
    room = command.room
    match command:
        case CreateRoom():
            return _create(view, command, by, at, id, limits)
        case JoinRoom():
            found = rules.join(view, room, by)
            if isinstance(found, Holds | Refused):
                return found
            full = view.member_count(room) >= limits.room_members
            return (
                _too_large("room", f"a room takes {limits.room_members} members")
                if full
                else MemberJoined(id=id, at=at, by=by, room=room)
            )
        case LeaveRoom():
            return _unless(rules.leave(view, room, by), MemberLeft(id=id, at=at, by=by, room=room))
        case Invite(user=user):
            return _invite(view, command, MemberInvited(id=id, at=at, by=by, room=room, user=user), limits)
        case Kick(user=user):
            return _unless(rules.kick(view, room, by, user), MemberKicked(id=id, at=at, by=by, room=room, user=user))
        case SetRole(user=user, role=role):
            event = RoleChanged(id=id, at=at, by=by, room=room, user=user, role=role)
            return _unless(rules.set_role(view, room, by, user, role), event)
        case SendMessage():
            return _send(view, command, by, at, id, limits)
        case EditMessage() | DeleteMessage() | React():
            return _change(view, command, by, at, id, limits)
        case MarkRead(seq=seq):
            return _unless(rules.read(view, room, by, seq), ReadMarked(id=id, at=at, by=by, room=room, seq=seq))
        case _:
            assert_never(command)


def _unless(found: object, event: RoomEvent) -> RoomEvent | Holds | Refused:
    return found if isinstance(found, Holds | Refused) else event


def _create(view: View, command: CreateRoom, by: str, at: int, id: str, limits: Limits) -> RoomEvent | Refused:
    title = command.title if command.title else command.room
    others = tuple(dict.fromkeys(user for user in command.with_ if user != by))
    direct = command.kind == "direct"
    refused = _text_fault("title", title, limits.title_chars)
    if refused is None and _unfit(title):
        refused = Refused("bad_request", "a title is one line", "title")
    if refused is None and direct and not others:
        refused = Refused("bad_request", "a direct room is with at least one other user", "with")
    if refused is None and len(others) > _MOST_DIRECT:
        refused = _too_large("with", f"at most {_MOST_DIRECT} users at once")
    refused = refused or next(filter(None, (_name_fault("with", user, limits.user_chars) for user in others)), None)
    refused = refused or rules.create(view, command.room)
    if refused is not None:
        return refused
    return RoomCreated(
        id=id,
        at=at,
        by=by,
        room=command.room,
        title=title,
        kind=command.kind,
        members=others if direct else (),
        invited=() if direct else others,
    )


def _invite(view: View, command: Invite, event: MemberInvited, limits: Limits) -> RoomEvent | Holds | Refused:
    found = rules.invite(view, command.room, event.by, command.user)
    if isinstance(found, Holds | Refused):
        return found
    known = sum(1 for one in view.members(command.room).values() if one.role is not None or one.invited_by is not None)
    full = known >= limits.room_members
    fault = _too_large("room", f"a room takes {limits.room_members} members and invited users") if full else None
    return fault or _name_fault("user", command.user, limits.user_chars) or event


def _send(view: View, command: SendMessage, by: str, at: int, id: str, limits: Limits) -> RoomEvent | Applied | Refused:
    first = view.seen(message_key(command.room, command.id, by)) if command.id is not None else None
    if first is not None:  # before any rule, as in `apply`: who has left since still learns that his message stands
        return Applied(event=id, seq=first[0], at=first[1], duplicate=True)
    found = rules.post(view, command.room, by, command.reply_to)
    refused = found if isinstance(found, Refused) else _text_fault("text", command.text, limits.text_chars)
    if refused is None and command.id is not None:
        refused = _name_fault("id", command.id, limits.id_chars)
    if refused is not None:
        return refused
    message = command.id if command.id is not None else id
    return MessagePosted(id=id, at=at, by=by, room=command.room, message=message, text=command.text, reply_to=command.reply_to)


def _change(
    view: View, command: EditMessage | DeleteMessage | React, by: str, at: int, id: str, limits: Limits
) -> RoomEvent | Holds | Refused:
    room = command.room
    inside = rules.be_in(view, room, by)
    message = inside if isinstance(inside, Refused) else rules.named(view, inside[0], by, command.id, command.of)
    if isinstance(message, Refused):
        return message
    of = message.seq
    match command:
        case EditMessage(text=text):
            fault = _text_fault("text", text, limits.text_chars)
            return fault or _unless(
                rules.edit(view, room, by, of), MessageEdited(id=id, at=at, by=by, room=room, of=of, text=text)
            )
        case DeleteMessage():
            return _unless(rules.delete(view, room, by, of), MessageDeleted(id=id, at=at, by=by, room=room, of=of))
        case React(emoji=emoji, on=on):
            fault = _emoji_fault(emoji, limits)
            if fault is None and on and emoji not in message.reactions:
                full = len(message.reactions) >= limits.reactions_per_message
                fault = _too_large("emoji", "too many different reactions") if full else None
            event = ReactionSet(id=id, at=at, by=by, room=room, of=of, emoji=emoji, on=on)
            return fault or _unless(rules.react(view, room, by, of, emoji, on), event)
        case _:
            assert_never(command)


def _too_large(field: str, message: str) -> Refused:
    return Refused("too_large", message, field)


def _unfit(text: str) -> bool:
    """Whether it has characters that no store, terminal or line of a log should see: controls and lone surrogates."""
    return any(unicodedata.category(char) in ("Cc", "Cs") for char in text)


def _name_fault(field: str, name: str, most: int) -> Refused | None:
    if len(name) > most:
        return _too_large(field, f"{field} takes at most {most} characters")
    return Refused("bad_request", f"{field} has a character that a name cannot have", field) if _unfit(name) else None


def _text_fault(field: str, text: str, most: int) -> Refused | None:
    if len(text) > most:
        return _too_large(field, f"{field} takes at most {most} characters")
    if not text.strip():
        return Refused("bad_request", f"{field} is empty", field)
    if any(char == "\0" or "\ud800" <= char <= "\udfff" for char in text):
        return Refused("bad_request", f"{field} has a character that is not text", field)
    return None


def _emoji_fault(emoji: str, limits: Limits) -> Refused | None:
    if len(emoji) > limits.emoji_chars:
        return _too_large("emoji", f"emoji takes at most {limits.emoji_chars} characters")
    if _unfit(emoji) or any(char.isspace() for char in emoji):
        return Refused("bad_request", "not an emoji", "emoji")
    return None
