"""The bodies of messages on a stream. Pure; their bytes are read for ever (`tests/unit/test_batch.py` has the golden ones).

The first byte says what a message is; what no version of ours has written is foreign, and everyone passes over it alike.

    H | msgpack {epoch, based}         the head: the first message of each stream of the log
    B | msgpack [bin, bin, …]          a batch of records, 1 to 4,095 of them
    M | 16 bytes                       a mark: carries nothing but its place
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

INDEX_BITS = 12
MOST_RECORDS = (1 << INDEX_BITS) - 1
_HEAD, _BATCH, _MARK = b"H", b"B", b"M"
_records: msgspec.msgpack.Decoder[list[bytes]] = msgspec.msgpack.Decoder(list[bytes])


class Head(msgspec.Struct, frozen=True):
    """The first message of a stream: of which log it is.

    `based` names the position of a snapshot where the stream was made anew for a log that had lost it: what stood before is there only.
    """

    epoch: str
    based: str = ""


class Batch(msgspec.Struct, frozen=True):
    """Records that left together."""

    records: list[bytes]


class Mark(msgspec.Struct, frozen=True):
    """A place in the stream, found again by its bytes."""

    name: bytes


UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # what a stranger's bytes may raise in a decoder
Body = Head | Batch | Mark | Literal["foreign"]
_heads: msgspec.msgpack.Decoder[Head] = msgspec.msgpack.Decoder(Head)


def encode_head(head: Head) -> bytes:
    """The body of a head."""
    return _HEAD + msgspec.msgpack.encode(head)


def encode_batch(records: Sequence[bytes]) -> bytes:
    """The body of 1 to `MOST_RECORDS` records."""
    if not 0 < len(records) <= MOST_RECORDS:
        raise ValueError(f"a batch has 1 to {MOST_RECORDS} records, not {len(records)}")
    return _BATCH + msgspec.msgpack.encode(records)


def encode_mark(name: bytes) -> bytes:
    """The body of a mark."""
    return _MARK + name


def decode_body(body: bytes) -> Body:
    """What the message is; never raises."""
    kind, rest = body[:1], memoryview(body)[1:]
    try:
        if kind == _BATCH:
            records = _records.decode(rest)
            return Batch(records) if 0 < len(records) <= MOST_RECORDS else "foreign"
        if kind == _HEAD:
            return _heads.decode(rest)
    except UNREADABLE:
        return "foreign"
    return Mark(bytes(rest)) if kind == _MARK else "foreign"


def to_position(message: int, index: int) -> int:
    """The offset of a record: the message's offset in its stream, and which of its records (from 1) it is; 0 is the message's head."""
    return message << INDEX_BITS | index


def of_position(offset: int) -> tuple[int, int]:
    """The message and the index of `to_position`."""
    return offset >> INDEX_BITS, offset & MOST_RECORDS
