"""Engine.IO 4 and Socket.IO 5 packets as a client of the namespace `/` sends and gets them, and the shapes of what they carry. Pure.

Everything here is this client's own view of the protocol: it knows only what it reads, and passes over fields that it does not.
"""

from typing import Annotated, Any, TypeAlias, Union

import msgspec

PONG = b"3"
EVENT = b"42"  # what an event's packet begins with
PASSING = frozenset({"read", "typing", "presence"})  # the events that this client makes nothing of
SEQUENCED = frozenset(
    {"message", "edited", "deleted", "reacted", "joined", "left", "room"}
)  # the events with a `seq` of their room


class Malformed(ValueError):
    """The server sent what is no packet, or not of the shape that the protocol gives it."""


# Packets


class Opened(msgspec.Struct, frozen=True, rename="camel"):
    """The Engine.IO handshake; times in ms."""

    ping_interval: int
    ping_timeout: int


class Ping(msgspec.Struct, frozen=True):
    """To be answered with `PONG`."""


class Connected(msgspec.Struct, frozen=True):
    """The namespace has taken the CONNECT; `welcome` follows."""


class Refusal(msgspec.Struct, frozen=True):
    """CONNECT was refused. `retry_after` in ms, None where the server does not say."""

    code: str
    retry_after: int | None


class Disconnected(msgspec.Struct, frozen=True):
    """The server ended the namespace: no stock client comes back from that by itself."""


class Closed(msgspec.Struct, frozen=True):
    """The server closes the transport."""


class Event(msgspec.Struct, frozen=True):
    """An event and its one payload, which is not decoded where this client reads nothing of it."""

    name: str
    payload: "RoomEvent | Welcome | Replay | Resync | Draining | Revoked | msgspec.Raw"


class Acked(msgspec.Struct, frozen=True):
    """The ack to the command with this number."""

    number: int
    answer: "Answer"


Packet: TypeAlias = Event | Acked | Ping | Opened | Connected | Refusal | Disconnected | Closed


# What they carry; times in ms

Seq = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]


class RoomAt(msgspec.Struct, frozen=True):
    """A room of `welcome`, and its last `seq`."""

    room: str
    seq: int


class Welcome(msgspec.Struct, frozen=True, kw_only=True):
    """See the protocol."""

    session: str
    node: str
    user: str
    expires_at: int
    resumed: bool
    ticket: str
    rooms: list[RoomAt]


class RoomEvent(msgspec.Struct, kw_only=True):
    """A sequenced event. `event`, its name, is in what was replayed; of a live one the packet has it."""

    room: str
    seq: Seq
    event: str = ""
    id: str = ""
    author: str = msgspec.field(default="", name="from")
    user: str = ""
    by: str = ""
    change: str = ""
    text: str = ""
    at: int = 0


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """What was missed of a room: every event over `after`, up to `to`; `complete`: `to` is its last."""

    room: str
    after: int
    to: int
    complete: bool
    events: list[RoomEvent]


class Resync(msgspec.Struct, frozen=True, kw_only=True):
    """Events of this room over `after` were kept back: they are to be asked for."""

    room: str
    after: int


class Draining(msgspec.Struct, frozen=True, kw_only=True):
    """The node is about to stop."""

    retry_after: int


class Revoked(msgspec.Struct, frozen=True, kw_only=True):
    """Access has been withdrawn."""

    code: str


class Error(msgspec.Struct, frozen=True, kw_only=True):
    """Why a command was refused."""

    code: str
    message: str = ""
    retry_after: int | None = None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The ack to any command: `ok` and what the command adds, or `error`."""

    ok: bool
    error: Error | None = None
    seq: Seq = 0
    expires_at: int = 0
    events: list[RoomEvent] = []
    complete: bool = True


class _Data(msgspec.Struct, frozen=True):
    code: str = "disconnected"
    retry_after: int | None = None


class _Refused(msgspec.Struct, frozen=True):
    data: _Data = _Data()


_PAYLOADS: dict[str, type] = {
    **dict.fromkeys(SEQUENCED, RoomEvent),
    **dict.fromkeys(("auth:expiring", "auth:expired", *sorted(PASSING)), msgspec.Raw),
    "welcome": Welcome,
    "replay": Replay,
    "resync": Resync,
    "draining": Draining,
    "auth:revoked": Revoked,
}


def _named(name: str, payload: type) -> type:
    """An array of this name and such a payload: several of them make a union, which is decoded in one go by what stands first."""
    return msgspec.defstruct(name.replace(":", "_"), [("payload", payload)], tag=name, array_like=True, frozen=True)


_event = msgspec.json.Decoder(Union[tuple(_named(name, payload) for name, payload in _PAYLOADS.items())])  # noqa: UP007 - made at run time
_unread = msgspec.json.Decoder(tuple[str, msgspec.Raw])
_answer = msgspec.json.Decoder(tuple[Answer])
_opened = msgspec.json.Decoder(Opened)
_refused = msgspec.json.Decoder(_Refused)
_encode = msgspec.json.Encoder().encode


def parse(packet: bytes) -> Packet:
    """The packet of one text frame. Raises `Malformed`, for what it carries, too."""
    try:
        match packet[:2]:
            case b"42":
                return _event_of(packet[2:])
            case b"43":
                start = packet.index(b"[")
                return Acked(int(packet[2:start]), *_answer.decode(packet[start:]))
            case b"2":
                return Ping()
            case b"40":
                return Connected()
            case b"41":
                return Disconnected()
            case b"1":
                return Closed()
            case b"44":
                data = _refused.decode(packet[2:]).data
                return Refusal(data.code, data.retry_after)
            case _ if packet[:1] == b"0":
                return _opened.decode(packet[1:])
    except (ValueError, msgspec.MsgspecError) as error:
        raise Malformed(f"{error}: {packet[:200]!r}") from None
    raise Malformed(f"no packet for a client: {packet[:200]!r}")


def _event_of(array: bytes) -> Event:
    try:
        found = _event.decode(array)
    except msgspec.ValidationError:
        name, payload = _unread.decode(array)
        if name in _PAYLOADS:
            raise
        return Event(name, payload)
    name, payload = found.__struct_config__.tag, found.payload
    if type(payload) is RoomEvent:
        payload.event = name
    return Event(name, payload)


def connect(auth: dict[str, Any]) -> bytes:
    """CONNECT with this `auth`."""
    return b"40" + _encode(auth)


def command(number: int, name: str, payload: dict[str, Any]) -> bytes:
    """A command that is to be acked under this number."""
    return b"42%d%b" % (number, _encode([name, payload]))
