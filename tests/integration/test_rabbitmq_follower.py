"""Reading a stream of a real broker over its segments."""

import asyncio
from contextlib import aclosing

import pytest

from broker.rabbitmq_follower import Follower
from broker.rabbitmq_genesis import make_stream
from broker.rabbitmq_link import Link
from broker.topology import log_arguments

pytestmark = pytest.mark.anyio

MESSAGES = 150
LIMIT_S = 30.0


async def test_a_stream_of_several_segments(rabbit_url: str) -> None:
    """RabbitMQ leaves out an offset at the beginning of each segment: nothing is missing there, and the reader does not take it for that."""
    link = Link([rabbit_url], "test")
    running = asyncio.create_task(link.run())
    async with asyncio.timeout(LIMIT_S):
        await make_stream(link, "segments", log_arguments() | {"x-stream-max-segment-size-bytes": 1_000_000})
        async with link.channel(confirms=True) as channel:
            for number in range(MESSAGES):
                await channel.append("segments", b"%d " % number + b"x" * 20_000, str(number), limit_s=5)
        read: list[int] = []

        async def nobody_asks() -> int:
            raise AssertionError("there is no anchor")

        async with aclosing(Follower(link, "segments", "first", nobody_asks).deliveries()) as deliveries:
            async for some in deliveries:
                read += [int(delivery.body.split()[0]) for delivery in some]
                if len(read) >= MESSAGES:
                    break
        assert read == list(range(MESSAGES))
        assert some[-1].offset > MESSAGES - 1  # it was more than one segment
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
