"""The facts in the log: frozen, past tense, a closed union. What is written here is read for ever.

Encoded as JSON with the type's name under `type`; fields may be added with a default, never removed or re-used.
`tests/unit/test_event_bytes.py` holds golden bytes of every version. Times (`at`, `until`, …) are milliseconds since the Unix epoch.
"""

from typing import Annotated, Literal

import msgspec

RoomKind = Literal["public", "private", "direct"]
Role = Literal["owner", "moderator", "member"]
# What any reader of JSON and any store hold exactly: a record with a larger number is no event.
Int = Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)]
EndReason = Literal["token_expired", "revoked", "client", "transport", "timeout", "slow", "draining", "node_lost"]


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    id: str  # unique for this event: a retry after a lost confirm appends the same id again, and the second is dropped
    at: Int  # when the command was accepted, by the clock of the node that accepted it
    by: str  # the acting user; for the life of sessions the user whose session it is; for a node, its id
    trace: str | None = None  # the W3C's `traceparent`, where the command was traced; it says nothing of what happened


class _RoomEvent(_Event, frozen=True, kw_only=True):
    room: str


class RoomCreated(_RoomEvent, frozen=True, kw_only=True, tag="room_created"):
    title: str
    kind: RoomKind
    members: tuple[str, ...] = ()  # besides `by`, who owns it: the others of a direct room
    invited: tuple[str, ...] = ()  # of a public or private one


class MemberJoined(_RoomEvent, frozen=True, kw_only=True, tag="member_joined"):
    pass


class MemberLeft(_RoomEvent, frozen=True, kw_only=True, tag="member_left"):
    pass


class MemberInvited(_RoomEvent, frozen=True, kw_only=True, tag="member_invited"):
    user: str


class MemberKicked(_RoomEvent, frozen=True, kw_only=True, tag="member_kicked"):
    user: str


class RoleChanged(_RoomEvent, frozen=True, kw_only=True, tag="role_changed"):
    user: str
    role: Role


class MessagePosted(_RoomEvent, frozen=True, kw_only=True, tag="message_posted"):
    message: str  # the message's id: unique for its author in its room
    text: str
    reply_to: str | None = None  # the id of a message of the room


class MessageEdited(_RoomEvent, frozen=True, kw_only=True, tag="message_edited"):
    of: Int  # the message, by its seq in the room
    text: str


class MessageDeleted(_RoomEvent, frozen=True, kw_only=True, tag="message_deleted"):
    of: Int


class ReactionSet(_RoomEvent, frozen=True, kw_only=True, tag="reaction_set"):
    of: Int
    emoji: str
    on: bool


class ReadMarked(_RoomEvent, frozen=True, kw_only=True, tag="read_marked"):
    seq: Int  # everything up to it is read; not sequenced itself


RoomEvent = (
    MessagePosted  # first, since most events are, and `isinstance` asks in this order
    | RoomCreated
    | MemberJoined
    | MemberLeft
    | MemberInvited
    | MemberKicked
    | RoleChanged
    | MessageEdited
    | MessageDeleted
    | ReactionSet
    | ReadMarked
)


class NodeStarted(_Event, frozen=True, kw_only=True, tag="node_started"):
    """Node `by` began to serve: whatever sessions it still had open in the log ended with its last process."""


class SessionOpened(_Event, frozen=True, kw_only=True, tag="session_opened"):
    session: str
    node: str
    namespace: str
    transport: str  # "websocket" or "polling", at the time of the handshake
    expires_at: Int
    issued_at: Int | None = None
    jti: str | None = None
    resumes: str | None = None  # the session it carries on


class SessionRenewed(_Event, frozen=True, kw_only=True, tag="session_renewed"):
    session: str
    expires_at: Int
    issued_at: Int | None = None
    jti: str | None = None


class SessionClosed(_Event, frozen=True, kw_only=True, tag="session_closed"):
    session: str
    reason: EndReason


class TokensRevoked(_Event, frozen=True, kw_only=True, tag="tokens_revoked"):
    """Withdrawn by `by`: exactly one of `user` (tokens issued before `before`), `jti` or `session`.

    `until` is when no token that it touches can be valid any more, as far as who appended it knew; None: never.
    """

    before: Int
    user: str | None = None
    jti: str | None = None
    session: str | None = None
    until: Int | None = None


class UserSuspended(_Event, frozen=True, kw_only=True, tag="user_suspended"):
    """No token of `user` is accepted until `until`; None: until another event says otherwise; `until` in the past lifts it."""

    user: str
    until: Int | None = None


ControlEvent = NodeStarted | SessionOpened | SessionRenewed | SessionClosed | TokensRevoked | UserSuspended
Event = RoomEvent | ControlEvent

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def encode(event: Event) -> bytes:
    """The event's bytes in the log."""
    return _encoder.encode(event)


def decode(data: bytes) -> Event:
    """The event of a record's bytes. Raises `msgspec.DecodeError` (`ValidationError` among them) for what is not one."""
    return _decoder.decode(data)
