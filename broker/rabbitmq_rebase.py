"""When a stream of the log was lost: whether it holds a position, and how to go on from a snapshot that does."""

import asyncio
import zlib
from collections.abc import Awaitable, Callable

from broker.batch import Head, decode_body
from broker.log import LogDiverged, Position
from broker.rabbitmq_channel import Delivery, NoSuchQueue
from broker.rabbitmq_follower import ARRIVAL_S, Anchor, Start
from broker.rabbitmq_genesis import give_head
from broker.rabbitmq_link import Link


async def holds(link: Link, stream: str, at: Start, epoch: str) -> bool:
    """Whether a follower that starts at `at` finds what it has read, or the log's own beginning. Raises `LinkLost`."""
    first = await _first(link, stream, at.offset if isinstance(at, Anchor) else at)
    if first is None:
        return False
    if isinstance(at, Anchor):
        return first.offset == at.offset and at.fits(first)
    return first.offset == 0 and decode_body(first.body) == Head(epoch)


async def rebase(
    link: Link, stream: str, epoch: str, position: Position, ended: Callable[[], Awaitable[bool]] | None
) -> Position:
    """See `broker.log.Log.rebase`; `ended` tells whether the stream has nothing behind `position`, None that it must not be made anew.

    Raises `LinkLost`, `LogDiverged`.
    """
    wanted = Head(epoch, f"{position.offset}:{position.checksum:08x}")
    first = await _first(link, stream, "first")
    head = decode_body(first.body) if first is not None and first.offset == 0 else None
    if first is not None and head == wanted:
        return _behind(first)
    if first is not None and first.offset > 0:
        raise LogDiverged(f"{stream} begins at message {first.offset}: the snapshot is too old for it, take a newer one")
    if isinstance(head, Head) and head.epoch == epoch:
        if head.based:
            raise LogDiverged(f"{stream} was made anew for another snapshot, take that one or a newer one")
        if ended is None or not await ended():
            raise LogDiverged(f"{stream} has events that the snapshot does not have")
    if ended is None:
        raise LogDiverged(f"{stream} does not hold what the snapshot has read: it was lost and can only be made anew")
    async with link.channel() as channel:
        await channel.remove_stream(stream)
    first = await give_head(link, stream, wanted)
    if decode_body(first.body) != wanted:
        raise LogDiverged(f"{stream} was made anew by someone else at the same time")
    return _behind(first)


def _behind(head: Delivery) -> Position:
    return Position(0, zlib.crc32(head.body))


async def _first(link: Link, stream: str, offset: int | str) -> Delivery | None:
    """The first message from an offset on; None where there is none, or no stream."""
    async with link.channel() as channel:
        try:
            inbox = await channel.consume(stream, offset=offset, prefetch=10)
        except NoSuchQueue:
            return None
        try:
            async with asyncio.timeout(ARRIVAL_S):
                while True:
                    for delivery in await inbox.take(1):
                        await channel.acknowledge(delivery.tag)
                        if not isinstance(offset, int) or delivery.offset >= offset:
                            return delivery
        except TimeoutError:
            return None
