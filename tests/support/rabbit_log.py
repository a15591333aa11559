"""What the tests of the RabbitMQ log share: a bare link beside it, a follower that notes what it gets, an observer that counts."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

from broker.log import START, Log, LogDiverged, Position, Record
from broker.rabbitmq_link import Link
from tests.support.wait import wait_until

PATIENCE_S = 20.0


class Counting:
    """Counts what a log has to tell."""

    def __init__(self) -> None:
        self.lost_for: list[str] = []
        self.canaries: list[float] = []

    def lost(self, why: str) -> None:
        self.lost_for.append(why)

    def canary(self, seconds: float) -> None:
        self.canaries.append(seconds)


class Reading:
    """What a follower was given so far, and what it ended with."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.diverged: str | None = None

    @property
    def texts(self) -> list[str]:
        return [record.data.decode() for record in self.records]

    @property
    def first_appearances(self) -> list[str]:
        """As whoever drops what he knows already sees them."""
        return list(dict.fromkeys(self.texts))

    async def got(self, *texts: str, within_s: float = PATIENCE_S) -> None:
        """Wait until all of these have come."""
        await wait_until(lambda: set(texts) <= set(self.texts) or self.diverged, within_s, f"{len(texts)} records come")
        assert self.diverged is None

    async def ended(self, within_s: float = PATIENCE_S) -> str:
        """Wait until the log has diverged; returns its words."""
        await wait_until(lambda: self.diverged is not None, within_s, "the follower is told that the log has diverged")
        assert self.diverged is not None
        return self.diverged


@asynccontextmanager
async def reading(log: Log, partition: int = 0, after: Position = START) -> AsyncIterator[Reading]:
    """Follow a partition for as long as the block runs."""
    notes = Reading()

    async def follow() -> None:
        try:
            async with aclosing(log.follow(partition, after)) as batches:
                async for batch in batches:
                    notes.records += batch
        except LogDiverged as error:
            notes.diverged = str(error)

    task = asyncio.create_task(follow())
    try:
        yield notes
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() or task.exception() is None, task.exception()


@asynccontextmanager
async def bare_link(url: str) -> AsyncIterator[Link]:
    """A link of nobody's log."""
    link = Link([url], f"bare {secrets.token_hex(4)}")
    task = asyncio.create_task(link.run())
    try:
        yield link
    finally:
        task.cancel()
        await asyncio.wait([task])


async def put(url: str, stream: str, *bodies: bytes) -> None:
    """Put messages on a stream, as anyone may."""
    async with bare_link(url) as link, link.channel(confirms=True) as channel:
        for body in bodies:
            await channel.append(stream, body, secrets.token_hex(8), limit_s=5.0)


async def make_anew(url: str, stream: str, *bodies: bytes) -> None:
    """Delete a stream, and make it again with these messages."""
    async with bare_link(url) as link, link.channel() as channel:
        await channel.remove_stream(stream)
        await channel.make_stream(stream, {"x-queue-type": "stream"})
    await put(url, stream, *bodies)
