"""When a stream of the log was lost: whether it holds a position, and how to go on from a snapshot that does.

A stream is deleted here, so silence is never taken for emptiness: a mark at its end decides, and a stream that a broker does not know
has to stay unknown for longer than a start takes.
"""

import asyncio
import zlib
from collections.abc import Awaitable, Callable

from broker.batch import Head, decode_body
from broker.log import LogDiverged, Position
from broker.rabbitmq_channel import Delivery, NoSuchQueue
from broker.rabbitmq_ends import LateBeginnings, first_from, mark_end
from broker.rabbitmq_follower import GONE_S, Anchor, Start
from broker.rabbitmq_genesis import give_head
from broker.rabbitmq_link import Link

AGAIN_S = 0.2


async def holds(reading: Link, writing: Link, stream: str, at: Start, epoch: str) -> bool:
    """Whether a follower that starts at `at` finds what it has read, or the log's own beginning. Raises `LinkLost`."""
    first = await _first(reading, writing, stream, at.offset if isinstance(at, Anchor) else 0)
    if first is None:
        return False
    if isinstance(at, Anchor):
        return first.offset == at.offset and at.fits(first)
    return first.offset == 0 and decode_body(first.body) == Head(epoch)


async def rebase(
    reading: Link,
    writing: Link,
    stream: str,
    epoch: str,
    position: Position,
    is_empty: Callable[[], Awaitable[bool]] | None,
) -> Position:
    """See `broker.log.Log.rebase`; `is_empty` tells whether the stream has no event, None that it must not be made anew.

    Raises `LinkLost`, `LogDiverged`.
    """
    wanted = Head(epoch, f"{position.offset}:{position.checksum:08x}")
    first = await _first(reading, writing, stream, 0)
    head = decode_body(first.body) if first is not None and first.offset == 0 else None
    if first is not None and head == wanted:
        return _behind(first)
    if first is not None and first.offset > 0:
        raise LogDiverged(f"{stream} begins at message {first.offset}: the snapshot is too old for it, take a newer one")
    if isinstance(head, Head) and head.epoch == epoch:
        if head.based:
            raise LogDiverged(f"{stream} was made anew for another snapshot, take that one or a newer one")
        if is_empty is None or not await is_empty():
            raise LogDiverged(
                f"{stream} has events and not what the snapshot has read: take a snapshot that it continues, or delete it yourself"
            )
    if is_empty is None:
        raise LogDiverged(f"{stream} does not hold what the snapshot has read: it was lost and can only be made anew")
    async with writing.channel() as channel:
        await channel.remove_stream(stream)
    first = await give_head(writing, stream, wanted)
    if decode_body(first.body) != wanted:
        raise LogDiverged(f"{stream} was made anew by someone else at the same time")
    return _behind(first)


def _behind(head: Delivery) -> Position:
    return Position(0, zlib.crc32(head.body))


async def _first(reading: Link, writing: Link, stream: str, offset: int) -> Delivery | None:
    """The first message from an offset on; None where there certainly is none, or no stream. May raise `LinkLost`, and try on for ever."""
    loop = asyncio.get_running_loop()
    gone_since, late = None, LateBeginnings()
    while True:
        try:
            if (first := await first_from(reading, stream, offset)) is not None:
                if first.offset == offset or await late.is_final(reading, stream, offset, first.offset):
                    return first
            elif (await mark_end(stream, reading=reading, writing=writing)).offset <= offset:
                return None
            gone_since = None  # it has more than it gives: the broker is not so far yet
        except NoSuchQueue:
            gone_since = gone_since or loop.time()
            if loop.time() - gone_since > GONE_S:
                return None
        await asyncio.sleep(AGAIN_S)
