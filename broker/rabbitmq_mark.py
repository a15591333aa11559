"""Where a stream ends now: a mark is appended to it and read back."""

import asyncio
import secrets

from broker.batch import Mark, decode_body, encode_mark
from broker.rabbitmq_appender import MARK_BYTES
from broker.rabbitmq_channel import Delivery, LinkLost
from broker.rabbitmq_link import Link

MARK_LIMIT_S = 2.0


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
