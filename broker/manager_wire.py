"""What the managers of one channel tell each other, as bytes. Pure.

A record says in its first bytes whom it is for, so that who has none of them reads no further:

    n | n times 4 bytes | 8 bytes | msgpack

`n` rooms by their hashes (little-endian: the first byte of each is its bucket), 0 for more rooms than fit, which is for everyone to
look at; the number of the record among its sender's, from 1 on; what it says. The arguments of an event are the JSON text that
its packet will have on the wire, written once by who emits, with the attachments beside it.
"""

import json
import string
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from broker.topology import BUCKETS, hash_of

MOST_ROOMS = 255
_NUMBER = struct.Struct("<Q")
_ADDRESS = struct.Struct("<I")
_SUFFIXES = [a + b for a in string.ascii_lowercase for b in string.ascii_lowercase + string.digits]
# CRC-32 is affine: two suffixes of one length change the hash by the same difference, whatever stands before them
_SUFFIX_BY_DIFFERENCE = {(hash_of(suffix) ^ hash_of(_SUFFIXES[0])) % BUCKETS: suffix for suffix in _SUFFIXES}

Room = str | int | float | bool | None  # None is everyone in a namespace


class Asked(msgspec.Struct, frozen=True, array_like=True):
    """Who waits for the answer to an emit, and by which number he knows it."""

    node: str
    number: int


class Emit(msgspec.Struct, frozen=True, array_like=True, tag="emit"):
    """An event for the members of a room, or of several."""

    namespace: str
    room: Room | list[Room]
    skip: list[str]
    text: str  # JSON: [event, argument, …]
    attachments: list[bytes]
    asked: Asked | None = None

    def packet(self, id: int | None = None) -> str:
        """The Socket.IO packet, which its attachments follow; with the id of an ack where one is wanted."""
        kind = f"5{len(self.attachments)}-" if self.attachments else "2"
        namespace = "" if self.namespace == "/" else f"{self.namespace},"
        return f"{kind}{namespace}{'' if id is None else id}{self.text}"


class Answer(msgspec.Struct, frozen=True, array_like=True, tag="answer"):
    """A client's ack of an emit, for who asked."""

    asked: Asked
    text: str  # JSON: [argument, …]
    attachments: list[bytes]


class Disconnect(msgspec.Struct, frozen=True, array_like=True, tag="disconnect"):
    """A client is to leave a namespace."""

    sid: str
    namespace: str


class Enter(msgspec.Struct, frozen=True, array_like=True, tag="enter"):
    """A client is to be in a room."""

    sid: str
    namespace: str
    room: Room


class Leave(msgspec.Struct, frozen=True, array_like=True, tag="leave"):
    """A client is to be in a room no more."""

    sid: str
    namespace: str
    room: Room


class Close(msgspec.Struct, frozen=True, array_like=True, tag="close"):
    """Nobody is to be in a room."""

    namespace: str
    room: Room


Said = Emit | Answer | Disconnect | Enter | Leave | Close
_encoder = msgspec.msgpack.Encoder()
_said: msgspec.msgpack.Decoder[Said] = msgspec.msgpack.Decoder(Said)


def encode_said(said: Said) -> bytes:
    """The body of a record. Raises `TypeError` for a room or a sid that cannot be told."""
    return _encoder.encode(said)


def decode_said(record: bytes) -> Said:
    """What a record says. Raises `msgspec.DecodeError` for junk."""
    return _said.decode(memoryview(record)[9 + 4 * record[0] :] if record else b"")


def address_of(namespace: str, room: Room) -> bytes:
    """The hash of a room of a namespace. Rooms that are equal in Python have the same: 1, 1.0 and True.

    Raises `TypeError` for a room that other processes cannot be told: text with half a surrogate pair, a whole number past 64 bits.
    """
    if isinstance(room, int) and not -(2**63) <= room < 2**64:
        raise TypeError(f"a room cannot be a whole number of more than 64 bits: {room}")
    name = room if isinstance(room, str) else "" if room is None else f"\0{hash(room)}"
    try:
        return _ADDRESS.pack(hash_of(f"{namespace},{name}"))
    except UnicodeEncodeError:
        raise TypeError(f"a room cannot be text with half a surrogate pair: {room!a}") from None


def address_of_node(node: str) -> bytes:
    """The hash of a node, where a room's stands; no namespace begins like this."""
    return _ADDRESS.pack(hash_of(f"\0{node}"))


def to_addresses(addresses: Iterable[bytes]) -> bytes:
    """The head of a record for these rooms."""
    distinct = dict.fromkeys(addresses)
    return b"\0" if len(distinct) > MOST_ROOMS else bytes([len(distinct)]) + b"".join(distinct)


def to_record(addresses: bytes, number: int, body: bytes) -> bytes:
    """A whole record."""
    return addresses + _NUMBER.pack(number) + body


def number_of(record: bytes) -> int:
    """The number of a record among its sender's; 0 where it is none of ours."""
    at = 1 + 4 * record[0] if record else 0
    return _NUMBER.unpack_from(record, at)[0] if at and len(record) >= at + 8 else 0


def buckets_of(addresses: bytes) -> list[int]:
    """The distinct buckets of a head; all there are where it is for everyone."""
    return list(dict.fromkeys(addresses[1::4])) if addresses[0] else list(range(BUCKETS))


def sid_in_bucket(id: str, namespace: str, bucket: int) -> str:
    """`id`, lengthened so that the room that every socket is by itself lies in this bucket: all sockets of a node have one together."""
    difference = (hash_of(f"{namespace},{id}{_SUFFIXES[0]}") % BUCKETS) ^ bucket
    return id + _SUFFIX_BY_DIFFERENCE[difference]


# The arguments of an event, as python-socketio writes them


class _Binary(Exception):
    """There are bytes among the arguments."""


def _refuse(value: object) -> object:
    if isinstance(value, bytes | bytearray):
        raise _Binary
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


_plain = json.JSONEncoder(separators=(",", ":"), default=_refuse)


def encode_arguments(arguments: Sequence[Any], dumps: Callable[..., str] | None = None) -> tuple[str, list[bytes]]:
    """The JSON text with placeholders for what is binary, and that. `dumps` is another JSON module's. Raises what JSON raises."""
    values = list(arguments)
    if dumps is None:
        try:
            return _plain.encode(values), []
        except _Binary:
            pass
    attachments: list[bytes] = []
    text = (dumps or json.dumps)(_taken_apart(values, attachments), separators=(",", ":"))
    return text, attachments


def _taken_apart(value: Any, attachments: list[bytes]) -> Any:
    if isinstance(value, bytes | bytearray):
        attachments.append(bytes(value))
        return {"_placeholder": True, "num": len(attachments) - 1}
    if isinstance(value, list | tuple):
        return [_taken_apart(one, attachments) for one in value]
    if isinstance(value, dict):
        return {name: _taken_apart(one, attachments) for name, one in value.items()}
    return value


def decode_arguments(text: str, attachments: Sequence[bytes], loads: Callable[[str], Any] = json.loads) -> list[Any]:
    """What `encode_arguments` was given, as JSON has it. Raises `ValueError` for what it did not write."""
    values = loads(text)
    if not isinstance(values, list):
        raise ValueError("not a list of arguments")
    whole: list[Any] = _put_together(values, attachments) if attachments else values
    return whole


def _put_together(value: Any, attachments: Sequence[bytes]) -> Any:
    if isinstance(value, list):
        return [_put_together(one, attachments) for one in value]
    if isinstance(value, dict):
        if (
            value.get("_placeholder") is True
            and isinstance(number := value.get("num"), int)
            and number in range(len(attachments))
        ):
            return attachments[number]
        return {name: _put_together(one, attachments) for name, one in value.items()}
    return value
