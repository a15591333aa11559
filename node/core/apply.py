"""Fold one event into the state, and say what is to be done about it. Total: every node does the same with every record.

An event is judged by `rules` once more, at its place in the log: what lost a race changes nothing, anywhere, and says so (`Lost`).
"""

from typing import Any, assert_never

import msgspec

from node.core import rules
from node.core.apply_control import apply_control
from node.core.effects import Applied, Deliver, Effect, Entered, Exited, Lost
from node.core.errors import Refused
from node.core.events import (
    Event,
    MemberInvited,
    MemberJoined,
    MemberKicked,
    MemberLeft,
    MessageDeleted,
    MessageEdited,
    MessagePosted,
    ReactionSet,
    ReadMarked,
    Role,
    RoleChanged,
    RoomCreated,
    RoomEvent,
)
from node.core.rules import Holds
from node.core.view import LOST, Member, Message, Room, TimelineEntry, View

_replace = msgspec.structs.replace


def idempotency_key(event: Event) -> str:
    """Events with the same key are one event: the first in the log counts.

    A message's key is its room, id and author, so that a client's repeat and a node's retry are alike; any other event's is its id.
    """
    return message_key(event.room, event.message, event.by) if isinstance(event, MessagePosted) else event.id


def message_key(room: str, message: str, author: str) -> str:
    """The idempotency key of a message."""
    return f"{room}\0{message}\0{author}"


def apply(view: View, event: Event) -> list[Effect]:
    """Change `view` by `event`; returns the effects in the order in which to perform them. Never raises for a decoded event.

    A repeat of an event that lost its race has no effect, not even `Lost`: its answer was given the first time.
    """
    key = idempotency_key(event)
    first = view.seen(key) or (view.seen(event.id) if key != event.id else None)
    if first is not None:
        return [Applied(event=event.id, seq=first[0], at=first[1], duplicate=True)] if first[0] != LOST else []
    if not isinstance(event, RoomEvent):
        effects = apply_control(view, event)
        view.put_seen(key, 0, event.at)
        return [*effects, Applied(event=event.id, seq=0, at=event.at)]
    outcome = _apply_room(view, event)
    if isinstance(outcome, Refused):
        view.put_seen(event.id, LOST, event.at)  # by its own id: the author may post under the message's again
        return [Lost(event=event.id, refused=outcome)]
    if isinstance(outcome, Holds):
        view.put_seen(event.id, outcome.seq, event.at)
        return [Applied(event=event.id, seq=outcome.seq, at=event.at)]
    seq, effects = outcome
    view.put_seen(key, seq, event.at)
    effects.append(Applied(event=event.id, seq=seq, at=event.at))
    return effects


_Outcome = tuple[int, list[Effect]] | Holds | Refused


def _apply_room(view: View, event: RoomEvent) -> _Outcome:
    match event:
        case MessagePosted():
            return _post(view, event)
        case MessageEdited() | MessageDeleted() | ReactionSet():
            return _change(view, event)
        case ReadMarked():
            return _read(view, event)
        case RoomCreated():
            return _create(view, event)
        case MemberJoined():
            return _join(view, event)
        case MemberLeft():
            return _leave(view, event)
        case MemberInvited():
            return _invite(view, event)
        case MemberKicked():
            return _kick(view, event)
        case RoleChanged():
            return _set_role(view, event)
        case _:
            assert_never(event)


def _sequence(
    view: View, room: Room, event: RoomEvent, name: str, fields: dict[str, Any], *also: str
) -> tuple[int, list[Effect]]:
    """Give the event the room's next `seq`, keep it in the timeline, deliver it."""
    seq = room.seq + 1
    payload = {"room": room.name, "seq": seq, **fields}
    view.put_room(
        Room(
            name=room.name,
            title=room.title,
            kind=room.kind,
            created_by=room.created_by,
            created_at=room.created_at,
            seq=seq,
            changed_at=event.at,
        )
    )
    view.put_timeline(room.name, TimelineEntry(seq=seq, name=name, payload=payload))
    return seq, [Deliver(room=room.name, name=name, payload=payload, seq=seq, also=also)]


def _create(view: View, event: RoomCreated) -> _Outcome:
    refused = rules.create(view, event.room)
    if refused is not None:
        return refused
    room = Room(
        name=event.room,
        title=event.title,
        kind=event.kind,
        created_by=event.by,
        created_at=event.at,
        seq=0,
        changed_at=event.at,
    )
    fields = {"title": event.title, "kind": event.kind, "at": event.at, "change": "created", "by": event.by}
    seq, effects = _sequence(view, room, event, "room", fields, *event.invited)
    view.put_member(event.room, Member(user=event.by, role="owner", joined=seq))
    for user in event.members:
        if user != event.by:
            view.put_member(event.room, Member(user=user, role="member", joined=seq))
    for user in event.invited:
        if user != event.by and user not in event.members:
            view.put_member(event.room, Member(user=user, joined=seq, invited_by=event.by))
    entered: list[Effect] = [Entered(user, event.room) for user in dict.fromkeys((event.by, *event.members))]
    return seq, entered + effects


def _join(view: View, event: MemberJoined) -> _Outcome:
    room = rules.join(view, event.room, event.by)
    if isinstance(room, Holds | Refused):
        return room
    before = view.member(event.room, event.by)
    has_owner = any(member.role == "owner" for member in view.members(event.room).values())
    fields = {"user": event.by, "at": event.at}
    if not has_owner:
        fields["owner"] = event.by
    seq, effects = _sequence(view, room, event, "joined", fields)
    role: Role = "member" if has_owner else "owner"
    view.put_member(event.room, Member(user=event.by, role=role, joined=seq, read=before.read if before else 0))
    return seq, [Entered(event.by, event.room), *effects]


def _leave(view: View, event: MemberLeft) -> _Outcome:
    found = rules.leave(view, event.room, event.by)
    if isinstance(found, Refused):
        return found
    room, member = found
    fields: dict[str, Any] = {"user": event.by, "at": event.at}
    heir = rules.heir(view.members(event.room).values(), event.by) if member.role == "owner" else None
    if heir is not None:
        fields["owner"] = heir.user
        view.put_member(event.room, _replace(heir, role="owner"))
    seq, effects = _sequence(view, room, event, "left", fields, event.by)
    view.put_member(event.room, _replace(member, role=None, left=seq))
    return seq, [Exited(event.by, event.room), *effects]


def _invite(view: View, event: MemberInvited) -> _Outcome:
    room = rules.invite(view, event.room, event.by, event.user)
    if isinstance(room, Holds | Refused):
        return room
    seq, effects = _tell_of(view, room, event, "invited", {"user": event.user}, event.user)
    before = view.member(event.room, event.user)
    invited = Member(user=event.user, joined=seq, invited_by=event.by)
    view.put_member(event.room, _replace(before, joined=seq, invited_by=event.by) if before else invited)
    return seq, effects


def _kick(view: View, event: MemberKicked) -> _Outcome:
    found = rules.kick(view, event.room, event.by, event.user)
    if isinstance(found, Refused):
        return found
    room, member = found
    fields = {"user": event.user, "at": event.at, "by": event.by}
    seq, effects = _sequence(view, room, event, "left", fields, event.user)
    was_in = member.role is not None
    view.put_member(event.room, _replace(member, role=None, invited_by=None, left=seq if was_in else member.left))
    return seq, [Exited(event.user, event.room), *effects]


def _set_role(view: View, event: RoleChanged) -> _Outcome:
    found = rules.set_role(view, event.room, event.by, event.user, event.role)
    if isinstance(found, Holds | Refused):
        return found
    room, owner, target = found
    view.put_member(event.room, _replace(target, role=event.role))
    if event.role == "owner":
        view.put_member(event.room, _replace(owner, role="moderator"))
    return _tell_of(view, room, event, "role", {"user": event.user, "role": event.role})


def _tell_of(
    view: View, room: Room, event: RoomEvent, change: str, fields: dict[str, Any], *also: str
) -> tuple[int, list[Effect]]:
    base = {"title": room.title, "kind": room.kind, "at": event.at, "change": change, "by": event.by}
    return _sequence(view, room, event, "room", base | fields, *also)


def _post(view: View, event: MessagePosted) -> _Outcome:
    found = rules.post(view, event.room, event.by, event.reply_to)
    if isinstance(found, Refused):
        return found
    fields: dict[str, Any] = {"id": event.message, "from": event.by, "text": event.text, "at": event.at}
    if event.reply_to is not None:
        fields["reply_to"] = event.reply_to
    seq, effects = _sequence(view, found[0], event, "message", fields)
    view.put_message(
        Message(
            room=event.room,
            seq=seq,
            id=event.message,
            author=event.by,
            text=event.text,
            at=event.at,
            reply_to=event.reply_to,
        )
    )
    return seq, effects


def _change(view: View, event: MessageEdited | MessageDeleted | ReactionSet) -> _Outcome:
    name, by = event.room, event.by
    match event:
        case MessageEdited():
            found = rules.edit(view, name, by, event.of)
        case MessageDeleted():
            found = rules.delete(view, name, by, event.of)
        case ReactionSet():
            judged = rules.react(view, name, by, event.of, event.emoji, event.on)
            if isinstance(judged, Holds):
                return judged
            found = judged
    if isinstance(found, Refused):
        return found
    room, _, message = found
    common = {"id": message.id, "of": message.seq, "at": event.at, "from": by}
    match event:
        case MessageEdited(text=text):
            view.put_message(_replace(message, text=text, edited_at=event.at))
            return _sequence(view, room, event, "edited", {**common, "text": text})
        case MessageDeleted():
            view.put_message(_replace(message, text="", reactions={}, deleted_at=event.at, deleted_by=by))
            return _sequence(view, room, event, "deleted", common)
        case ReactionSet(emoji=emoji, on=on):
            view.put_message(_replace(message, reactions=_reacted(message.reactions, emoji, by, on)))
            return _sequence(view, room, event, "reacted", {**common, "emoji": emoji, "on": on})
        case _:
            assert_never(event)


def _reacted(reactions: dict[str, tuple[str, ...]], emoji: str, user: str, on: bool) -> dict[str, tuple[str, ...]]:
    users = tuple(other for other in reactions.get(emoji, ()) if other != user)
    changed = {**reactions, emoji: (*users, user) if on else users}
    return {key: value for key, value in changed.items() if value}


def _read(view: View, event: ReadMarked) -> _Outcome:
    found = rules.read(view, event.room, event.by, event.seq)
    if isinstance(found, Holds | Refused):
        return found
    view.put_member(event.room, _replace(found[1], read=event.seq))
    payload = {"room": event.room, "user": event.by, "seq": event.seq}
    return 0, [Deliver(room=event.room, name="read", payload=payload, seq=None)]
