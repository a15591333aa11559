"""What a client may ask: the fields of PROTOCOL section 6, one struct a command, validated as they are decoded.

Three closed unions: `Command` changes the log through `decide`; `Query` reads the view; `Notice` is passed on and forgotten.
Lengths are checked by `decide` (their code is `too_large`); shapes here (`bad_request`, with the field).
"""

from typing import Annotated

import msgspec

from node.core.events import Role, RoomKind

RoomName = Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9][a-z0-9._-]{0,63}\Z")]
Seq = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
Limit = Annotated[int, msgspec.Meta(ge=1)]  # more than the server takes counts as what it takes
UserName = Annotated[str, msgspec.Meta(min_length=1)]
MessageId = Annotated[str, msgspec.Meta(min_length=1)]


class _Asked(msgspec.Struct, frozen=True, kw_only=True):
    pass


class _InRoom(_Asked, frozen=True, kw_only=True):
    room: RoomName


class CreateRoom(_InRoom, frozen=True, kw_only=True):
    title: str | None = None
    kind: RoomKind = "public"
    with_: list[UserName] = msgspec.field(default_factory=list, name="with")


class JoinRoom(_InRoom, frozen=True, kw_only=True):
    pass


class LeaveRoom(_InRoom, frozen=True, kw_only=True):
    pass


class Invite(_InRoom, frozen=True, kw_only=True):
    user: UserName


class Kick(_InRoom, frozen=True, kw_only=True):
    user: UserName


class SetRole(_InRoom, frozen=True, kw_only=True):
    user: UserName
    role: Role


class SendMessage(_InRoom, frozen=True, kw_only=True):
    text: str
    id: MessageId | None = None
    reply_to: MessageId | None = None


class _OfMessage(_InRoom, frozen=True, kw_only=True):
    id: MessageId
    of: Seq | None = None  # its `seq`, for who must be exact: ids are unique for one author only


class EditMessage(_OfMessage, frozen=True, kw_only=True):
    text: str


class DeleteMessage(_OfMessage, frozen=True, kw_only=True):
    pass


class React(_OfMessage, frozen=True, kw_only=True):
    emoji: Annotated[str, msgspec.Meta(min_length=1)]
    on: bool


class MarkRead(_InRoom, frozen=True, kw_only=True):
    seq: Seq


Command = (
    CreateRoom | JoinRoom | LeaveRoom | Invite | Kick | SetRole | SendMessage | EditMessage | DeleteMessage | React | MarkRead
)


class ListRooms(_Asked, frozen=True, kw_only=True):
    query: str | None = None
    limit: Limit | None = None


class ListMembers(_InRoom, frozen=True, kw_only=True):
    pass


class History(_InRoom, frozen=True, kw_only=True):
    before: Seq | None = None
    after: Seq | None = None
    limit: Limit | None = None


class Replay(_InRoom, frozen=True, kw_only=True):
    after: Seq
    limit: Limit | None = None


class Search(_Asked, frozen=True, kw_only=True):
    query: Annotated[str, msgspec.Meta(min_length=1, max_length=1_000)]
    room: RoomName | None = None
    limit: Limit | None = None


class AskPresence(_InRoom, frozen=True, kw_only=True):
    pass


Query = ListRooms | ListMembers | History | Replay | Search | AskPresence


class Typing(_InRoom, frozen=True, kw_only=True):
    on: bool


Notice = Typing


#: The event name of each command on the wire.
NAMES: dict[str, type[Command] | type[Query] | type[Notice]] = {
    "room:create": CreateRoom,
    "room:join": JoinRoom,
    "room:leave": LeaveRoom,
    "room:invite": Invite,
    "room:kick": Kick,
    "room:role": SetRole,
    "room:list": ListRooms,
    "room:members": ListMembers,
    "message:send": SendMessage,
    "message:edit": EditMessage,
    "message:delete": DeleteMessage,
    "message:react": React,
    "history": History,
    "replay": Replay,
    "search": Search,
    "read": MarkRead,
    "typing": Typing,
    "presence": AskPresence,
}
