"""A chat in plain dictionaries, written from PROTOCOL section 6 and not from the core: what the core is held to."""

from dataclasses import dataclass, field

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

STRENGTH = {"owner": 3, "moderator": 2, "member": 1}


@dataclass
class Said:
    """One message."""

    author: str
    id: str
    text: str
    deleted: bool = False
    reactions: set[tuple[str, str]] = field(default_factory=set)


@dataclass
class Place:
    """One room."""

    kind: str
    roles: dict[str, str]
    since: dict[str, int]
    invited: set[str]
    seq: int = 1
    said: dict[int, Said] = field(default_factory=dict)
    read: dict[str, int] = field(default_factory=dict)


@dataclass
class Expected:
    """What a command must come to: its code, the event that everyone in `hears` gets, its seq (None: no event is sent)."""

    code: str
    event: str | None = None
    seq: int | None = None
    hears: frozenset[str] = frozenset()
    duplicate: bool = False


QUIET = Expected("ok")


class ChatModel:
    """All rooms. `do` changes them and says what is to be seen from outside."""

    def __init__(self) -> None:
        self.places: dict[str, Place] = {}

    def do(self, user: str, command: Command) -> Expected:
        name = command.room
        if isinstance(command, CreateRoom):
            return self._create(user, command)
        place = self.places.get(name)
        if isinstance(command, SendMessage) and place is not None:
            for seq, said in place.said.items():
                if (said.author, said.id) == (user, command.id):
                    return Expected("ok", seq=seq, duplicate=True)
        if place is None or (place.kind != "public" and user not in place.roles and user not in place.invited):
            return Expected("room_not_found")
        if isinstance(command, JoinRoom):
            return self._join(user, place)
        if user not in place.roles:
            return Expected("not_a_member")
        match command:
            case LeaveRoom() | Invite() | Kick() | SetRole():
                return Expected("forbidden") if place.kind == "direct" else self._membership(user, command, place)
            case SendMessage():
                return self._send(user, command, place)
            case MarkRead(seq=seq):
                return self._read(user, seq, place)
            case EditMessage() | DeleteMessage() | React():
                return self._change(user, command, place)

    def _membership(self, user: str, command: LeaveRoom | Invite | Kick | SetRole, place: Place) -> Expected:
        match command:
            case LeaveRoom():
                return self._leave(user, place)
            case Invite(user=other):
                return self._invite(user, other, place)
            case Kick(user=other):
                return self._kick(user, other, place)
            case SetRole(user=other, role=role):
                return self._set_role(user, other, role, place)

    def _send(self, user: str, command: SendMessage, place: Place) -> Expected:
        if command.reply_to is not None and all(said.id != command.reply_to for said in place.said.values()):
            return Expected("message_not_found")
        place.said[place.seq + 1] = Said(user, command.id or "", command.text)
        return self._tell(place, "message")

    def _read(self, user: str, seq: int, place: Place) -> Expected:
        if seq > place.seq:
            return Expected("bad_request")
        if seq <= place.read.get(user, 0):
            return QUIET
        place.read[user] = seq
        return Expected("ok", "read", None, frozenset(place.roles))

    def meant(self, user: str, room: str, id: str) -> int | None:
        """The seq of the message that a user means by an id."""
        place = self.places.get(room)
        found = sorted((said.author != user, seq) for seq, said in place.said.items() if said.id == id) if place else []
        return found[0][1] if found else None

    def _tell(self, place: Place, event: str, *also: str) -> Expected:
        place.seq += 1
        return Expected("ok", event, place.seq, frozenset({*place.roles, *also}))

    def _create(self, user: str, command: CreateRoom) -> Expected:
        others = [other for other in command.with_ if other != user]
        if command.kind == "direct" and not others:
            return Expected("bad_request")
        if command.room in self.places:
            return Expected("room_exists")
        direct = command.kind == "direct"
        inside = [user, *(others if direct else [])]
        roles = {one: "owner" if one == user else "member" for one in inside}
        invited = set() if direct else set(others)
        self.places[command.room] = Place(command.kind, roles, dict.fromkeys(inside, 1), invited)
        return Expected("ok", "room", 1, frozenset({user, *others}))

    def _join(self, user: str, place: Place) -> Expected:
        if user in place.roles:
            return QUIET
        place.roles[user] = "member" if place.roles else "owner"
        place.since[user] = place.seq + 1
        place.invited.discard(user)
        return self._tell(place, "joined")

    def _leave(self, user: str, place: Place) -> Expected:
        role = place.roles.pop(user)
        if role == "owner" and place.roles:
            heir = min(place.roles, key=lambda one: (-STRENGTH[place.roles[one]], place.since[one], one))
            place.roles[heir] = "owner"
        return self._tell(place, "left", user)

    def _invite(self, user: str, other: str, place: Place) -> Expected:
        if place.kind == "private" and place.roles[user] == "member":
            return Expected("forbidden")
        if other in place.roles or other in place.invited:
            return QUIET
        place.invited.add(other)
        return self._tell(place, "room", other)

    def _kick(self, user: str, other: str, place: Place) -> Expected:
        if other == user:
            return Expected("bad_request")
        if other not in place.roles and other not in place.invited:
            return Expected("not_a_member")
        strength = STRENGTH[place.roles[user]]
        if strength < 2 or (other in place.roles and STRENGTH[place.roles[other]] >= strength):
            return Expected("forbidden")
        place.roles.pop(other, None)
        place.invited.discard(other)
        return self._tell(place, "left", other)

    def _set_role(self, user: str, other: str, role: str, place: Place) -> Expected:
        if place.roles[user] != "owner":
            return Expected("forbidden")
        if other not in place.roles:
            return Expected("not_a_member")
        if place.roles[other] == role:
            return QUIET
        if other == user:
            return Expected("forbidden")
        place.roles[other] = role
        if role == "owner":
            place.roles[user] = "moderator"
        return self._tell(place, "room")

    def _change(self, user: str, command: EditMessage | DeleteMessage | React, place: Place) -> Expected:
        seq = command.of if command.of is not None else self.meant(user, command.room, command.id)
        said = place.said.get(seq) if seq is not None else None
        if said is None or said.deleted or said.id != command.id:
            return Expected("message_not_found")
        match command:
            case EditMessage(text=text):
                if said.author != user:
                    return Expected("forbidden")
                said.text = text
                return self._tell(place, "edited")
            case DeleteMessage():
                if said.author != user and place.roles[user] == "member":
                    return Expected("forbidden")
                said.text, said.deleted, said.reactions = "", True, set()
                return self._tell(place, "deleted")
            case React(emoji=emoji, on=on):
                if ((emoji, user) in said.reactions) == on:
                    return QUIET
                said.reactions ^= {(emoji, user)}
                return self._tell(place, "reacted")
