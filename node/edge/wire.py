"""Socket.IO 5 packets and command payloads: bytes to values and back. Pure; each outgoing event is encoded once.

Strict where the protocol's reference suite is: whatever is not a packet raises `Malformed`, and ends the connection.
"""

import json
import re
from collections.abc import Mapping
from enum import IntEnum
from typing import Any, TypeVar

import msgspec

from node.auth.denied import Denied
from node.core.commands import NAMES, Command, CreateRoom, MarkRead, Notice, Query, SendMessage
from node.core.effects import Applied
from node.core.errors import Refused

_T = TypeVar("_T")


class Malformed(Exception):
    """Not a packet of the protocol. The message says why and repeats nothing of it."""


class Type(IntEnum):
    """Socket.IO packet types."""

    CONNECT = 0
    DISCONNECT = 1
    EVENT = 2
    ACK = 3
    CONNECT_ERROR = 4
    BINARY_EVENT = 5
    BINARY_ACK = 6


class Packet(msgspec.Struct, kw_only=True):
    """One decoded packet; `attachments` is how many binary frames follow it."""

    type: Type
    namespace: str
    id: int | None
    data: Any
    attachments: int = 0


_HEAD = re.compile(r"([0-6])(?:([0-9]{1,3})-)?(?:(/[^,]*)(?:,|\Z))?([0-9]{1,15})?(.*)\Z", re.DOTALL)
_MOST_ATTACHMENTS = 16  # no command takes any; a bound on what one packet can make us hold
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
NO_TEXT = object()
_json = msgspec.json.Decoder()
_encode = msgspec.json.encode


def decode_packet(text: str) -> Packet:
    """The packet in an Engine.IO message. Raises `Malformed`."""
    match = _HEAD.match(text)
    if match is None:
        raise Malformed("unknown packet type")
    kind = Type(int(match[1]))
    binary = kind in (Type.BINARY_EVENT, Type.BINARY_ACK)
    if (match[2] is not None) != binary:
        raise Malformed("attachments belong to binary packets only")
    attachments = int(match[2] or 0)
    if attachments > _MOST_ATTACHMENTS:
        raise Malformed(f"more than {_MOST_ATTACHMENTS} attachments")
    packet = Packet(
        type=kind,
        namespace=(match[3] or "/").partition("?")[0],
        id=int(match[4]) if match[4] is not None else None,
        data=_payload(match[5]),
        attachments=attachments,
    )
    _check_shape(packet)
    return packet


def _payload(text: str) -> Any:
    if not text:
        return None
    try:
        data = _json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        data = _half_a_character(text)
    if data is None:
        raise Malformed("no packet has the payload null")
    return data


def _half_a_character(text: str) -> Any:
    """An event of which a string holds half of a surrogate pair, as JavaScript writes a cut emoji: JSON, but no text. Raises `Malformed`.

    Its arguments are `NO_TEXT`, which no command takes: it is answered rather than the end of its connection.
    """
    try:
        data = json.loads(text, parse_constant=_not_json) if _SURROGATE.search(text) else None
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, list) or not data or not isinstance(data[0], str):
        raise Malformed("the payload is not JSON")
    return [data[0] if data[0].isprintable() else "", NO_TEXT]


def _not_json(constant: str) -> Any:
    raise ValueError(constant)


def _check_shape(packet: Packet) -> None:
    data = packet.data
    match packet.type:
        case Type.CONNECT:
            valid = data is None or isinstance(data, dict)
        case Type.DISCONNECT:
            valid = data is None
        case Type.EVENT | Type.BINARY_EVENT:
            valid = isinstance(data, list) and bool(data) and type(data[0]) in (str, int, float) and data[0] not in _RESERVED
        case Type.ACK | Type.BINARY_ACK:
            valid = isinstance(data, list) and packet.id is not None
        case Type.CONNECT_ERROR:
            valid = False  # only servers send it
    if not valid:
        raise Malformed(f"not the payload of {packet.type.name}")


_RESERVED = frozenset({"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"})


def encode_event(namespace: str, name: str, payload: Any) -> str:
    """The Engine.IO message packet of an event."""
    return f"42{_prefix(namespace)}{_encode([name, payload]).decode()}"


def encode_ack(namespace: str, id: int, answer: Any) -> str:
    """The Engine.IO message packet of an ack with one argument."""
    return f"43{_prefix(namespace)}{id}[{_encode(answer).decode()}]"


def encode_connect(namespace: str, sid: str) -> str:
    """The Engine.IO message packet that accepts a CONNECT."""
    return f"40{_prefix(namespace)}{_encode({'sid': sid}).decode()}"


def encode_connect_error(namespace: str, message: str, data: dict[str, Any] | None = None) -> str:
    """The Engine.IO message packet that refuses a CONNECT."""
    error: dict[str, Any] = {"message": message}
    if data is not None:
        error["data"] = data
    return f"44{_prefix(namespace)}{_encode(error).decode()}"


def encode_disconnect(namespace: str) -> str:
    """The Engine.IO message packet that ends a namespace for good."""
    return f"41{_prefix(namespace)}"


def _prefix(namespace: str) -> str:
    return "" if namespace == "/" else f"{namespace},"


def denial_data(denied: Denied) -> dict[str, Any]:
    """A denial as CONNECT_ERROR's `data`."""
    data: dict[str, Any] = {"code": denied.code}
    if denied.retry_after is not None:
        data["retry_after"] = denied.retry_after
    return data


def refusal(refused: Refused) -> dict[str, Any]:
    """A refused command's ack."""
    return {"ok": False, "error": msgspec.to_builtins(refused)}


_PATH = re.compile(r" - at `\$\.?([^`\[.]*)[^`]*`\Z")


_LONGEST_SHOWN = 64  # of what a client sent, in an answer to it


def decode_command(name: Any, arguments: list[Any]) -> Command | Query | Notice | Refused:
    """The command of namespace `/` that an event asks for, or `bad_request` with the field at fault. Never raises."""
    return decode_arguments(name, arguments, NAMES)


def decode_arguments(name: Any, arguments: list[Any], names: Mapping[str, type[_T]]) -> _T | Refused:
    """As `decode_command`, of the commands in `names`."""
    kind = names.get(name) if isinstance(name, str) else None
    if kind is None:
        shown = name if isinstance(name, str) and len(name) <= _LONGEST_SHOWN and name.isprintable() else "this"
        return Refused("bad_request", f"no such command: {shown}")
    if arguments and arguments[0] is NO_TEXT:
        return Refused("bad_request", "half of a surrogate pair is no text")
    if len(arguments) != 1 or not isinstance(arguments[0], dict):
        return Refused("bad_request", "a command takes one object")
    given = {field: value for field, value in arguments[0].items() if value is not None}  # null counts as left out
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        return _invalid(str(error))
    except (RecursionError, UnicodeEncodeError):
        return Refused("bad_request", "not a payload that any command takes")


def _invalid(text: str) -> Refused:
    where = _PATH.search(text)
    field = where[1] if where and where[1] else None
    missing = re.search(r"missing required field `(\w+)`", text)
    if missing:
        field = missing[1]
    return Refused("bad_request", _PATH.sub("", text), field)


def applied(command: Command, outcome: Applied) -> dict[str, Any]:
    """The ack of a command that took effect: PROTOCOL section 6's `ack adds`."""
    ack: dict[str, Any] = {"ok": True}
    match command:
        case SendMessage():
            ack |= {"id": command.id if command.id is not None else outcome.event, "seq": outcome.seq, "at": outcome.at}
            if outcome.duplicate:
                ack["duplicate"] = True
        case CreateRoom():
            ack |= {"room": command.room, "seq": outcome.seq}
        case MarkRead():
            pass
        case _:
            ack["seq"] = outcome.seq
    return ack
