"""Reading one stream: every message in its order, over any number of connections, with no gap that is not noticed."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Literal

import msgspec

from broker.log import LogDiverged
from broker.rabbitmq_channel import Channel, Delivery, Inbox, LinkLost, NoSuchQueue
from broker.rabbitmq_link import Link, LinkClosed

PREFETCH = 200  # messages on their way: of 256 KiB at most, but for a record that is longer by itself
AT_ONCE = 50
ARRIVAL_S = 1.0  # a message that is there comes within milliseconds: past this it is asked whether the stream is shorter
MOST_NOTES = 4  # offsets between two messages that the broker may take for itself
GONE_S = 6.0  # a broker that starts may not know its streams for a moment
FIRST_PAUSE_S, MOST_PAUSE_S = 0.1, 0.5


class Anchor(msgspec.Struct, frozen=True):
    """The message that was read last: reading on begins with it, to see that it is still the one it was."""

    offset: int
    fits: Callable[[Delivery], bool]


Start = Literal["first", "next"] | Anchor


class Follower:
    """One reader of one stream. `last_offset` asks for the offset of the stream's end now, and may raise `LinkLost`.

    With "first" the first message must be that of offset 0; with "next" whatever comes next is right.
    """

    def __init__(self, link: Link, stream: str, start: Start, last_offset: Callable[[], Awaitable[int]]) -> None:
        self._link, self._stream, self._at, self._last_offset = link, stream, start, last_offset
        self._inbox: Inbox | None = None
        self._again = False  # the anchor has been given, and only has to be found again
        self.offset = -1  # of the last message that was given

    @property
    def waits(self) -> bool:
        """Whether everything that came has been taken: the next message would be seen at once."""
        return self._inbox is not None and self._inbox.is_empty

    async def deliveries(self) -> AsyncGenerator[list[Delivery], None]:
        """Messages as they come, for ever, the first of them the anchor's own.

        Raises `LogDiverged` when the stream is not the one that was read, or does not have everything behind the anchor any more;
        `LinkClosed` when the link was closed.
        """
        pause_s, missed_since = FIRST_PAUSE_S, None
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with self._link.channel() as channel:
                    inbox = self._inbox = await self._consume(channel)
                    anchored, unacknowledged = not isinstance(self._at, Anchor), 0
                    while True:
                        some = await inbox.take(AT_ONCE)
                        unacknowledged += len(some)
                        if unacknowledged >= PREFETCH // 4:
                            await channel.acknowledge(some[-1].tag)
                            unacknowledged = 0
                        if not anchored:
                            found = self._from_anchor(some)
                            anchored, some = found is not None, found or []
                        if some:
                            self._check_order(some)
                            pause_s = FIRST_PAUSE_S
                            yield some
            except LinkClosed:
                raise
            except LinkLost as error:
                missed_since = (missed_since or loop.time()) if isinstance(error, NoSuchQueue) else None
                if missed_since is not None and loop.time() - missed_since > GONE_S:
                    raise LogDiverged(f"{self._stream} is gone") from None
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, MOST_PAUSE_S)
            finally:
                self._inbox = None

    async def _consume(self, channel: Channel) -> Inbox:
        """Begin to read. A stream that ends before the anchor says nothing, for ever: then its end is looked for."""
        at = self._at
        if not isinstance(at, Anchor):
            return await channel.consume(self._stream, offset=at, prefetch=PREFETCH)
        inbox = await channel.consume(self._stream, offset=at.offset, prefetch=PREFETCH)
        try:
            async with asyncio.timeout(ARRIVAL_S):
                await inbox.arrival()
        except TimeoutError:
            end = await self._last_offset()
            if end <= at.offset:
                raise LogDiverged(
                    f"{self._stream} ends at message {end} and was read up to {at.offset}: it was made anew"
                ) from None
            raise LinkLost("the stream has more, and does not give it") from None
        return inbox

    def _from_anchor(self, some: list[Delivery]) -> list[Delivery] | None:
        """What there is to give once the anchor has come; None as long as it has not."""
        at = self._at
        assert isinstance(at, Anchor)
        while some and some[0].offset < at.offset:  # a broker may begin with the chunk that holds it
            some = some[1:]
        if not some:
            return None
        if some[0].offset != at.offset:
            raise LogDiverged(
                f"{self._stream} begins at message {some[0].offset} and was read up to {at.offset}: it was truncated"
            )
        if not at.fits(some[0]):
            raise LogDiverged(f"{self._stream} has another message at {at.offset} than the one that was read")
        self.offset = at.offset - 1
        if not self._again:
            return some
        self.offset = at.offset
        return some[1:]

    def _check_order(self, some: list[Delivery]) -> None:
        """They continue what was given; then the last of them is the anchor of the next connection.

        A broker keeps notes of its own in a stream, one at the beginning of each segment, and they take offsets. It cannot pass over
        a segment: a reader whose next one is gone gets nothing any more, and finds out at the next connection.
        """
        expected = self.offset + 1 if self._at != "next" else some[0].offset
        for delivery in some:
            if delivery.offset > 0 and expected == 0:
                raise LogDiverged(f"{self._stream} begins at message {delivery.offset}: what stood before was truncated")
            if not expected <= delivery.offset <= expected + MOST_NOTES:
                raise LogDiverged(f"{self._stream} goes on with message {delivery.offset} where {expected} should stand")
            expected = delivery.offset + 1
        last = some[-1]
        self.offset, self._again = last.offset, True
        self._at = Anchor(last.offset, lambda delivery: delivery.body == last.body)
