"""Where a stream begins, as a reader of it is told, and where it ends now: a mark is appended to it and read back."""

import asyncio
import secrets

from broker.batch import Mark, decode_body, encode_mark
from broker.rabbitmq_appender import MARK_BYTES
from broker.rabbitmq_channel import Delivery, LinkLost
from broker.rabbitmq_link import Link

MARK_LIMIT_S = 2.0
SAME_TIMES = 4  # tries in a row that begin at the same place, where it moves on in milliseconds
ARRIVAL_S = 1.0  # a message that is there comes within milliseconds: past this it is asked whether the stream is shorter


async def mark_end(stream: str, *, reading: Link, writing: Link) -> Delivery:
    """A new mark at the end of the stream, as it came back. Raises `LinkLost`."""
    name = secrets.token_bytes(MARK_BYTES)
    try:
        async with asyncio.timeout(MARK_LIMIT_S), reading.channel() as channel:
            inbox = await channel.consume(stream, offset="next", prefetch=100)
            async with writing.channel(confirms=True) as other:
                await other.append(stream, encode_mark(name), name.hex(), limit_s=MARK_LIMIT_S)
            while True:
                for delivery in await inbox.take(100):
                    await channel.acknowledge(delivery.tag)
                    if decode_body(delivery.body) == Mark(name):
                        return delivery
    except TimeoutError:
        raise LinkLost("a mark at the end of the stream did not come") from None


async def first_from(link: Link, stream: str, offset: int) -> Delivery | None:
    """What comes first to who asks for the messages from an offset on; None where nothing does. Raises `LinkLost`.

    From 0 on it is the first that the stream still has. From another offset on it may be a later one than the first that is there:
    a broker that is not so far yet, since it has just come back, gives what comes next, and means next at that moment.
    """
    async with link.channel() as channel:
        inbox = await channel.consume(stream, offset=offset or "first", prefetch=10)
        try:
            async with asyncio.timeout(ARRIVAL_S):
                while True:
                    for delivery in await inbox.take(1):
                        await channel.acknowledge(delivery.tag)
                        if delivery.offset >= offset:
                            return delivery
        except TimeoutError:
            return None


class LateBeginnings:
    """Tells a beginning that is too late for good from that of a broker which is not so far yet: of one reader's tries, one by one."""

    def __init__(self) -> None:
        self._begins, self._times = -1, 0

    async def is_final(self, link: Link, stream: str, offset: int, begins: int) -> bool:
        """Whether there is nothing at `offset` any more, where the messages from there on begin at `begins`. Raises `LinkLost`.

        What stood there was truncated where all that the stream has is behind it. Else the broker gave what came next: it begins further
        back, or further on, at the next try. Where it begins there time and again, no message has that place: the stream was made anew.
        """
        self._begins, self._times = begins, self._times + 1 if begins == self._begins else 1
        if self._times == SAME_TIMES:
            return True
        first = await first_from(link, stream, 0)
        return first is not None and first.offset > offset
