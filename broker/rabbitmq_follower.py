"""Reading one stream: every message in its order, over any number of connections, with no gap that is not noticed.

A broker that has just come back may not be as far as its reader. Then it gives whatever comes next: a beginning that is too late is
none, unless the stream's own is.

Offsets have holes: where a segment begins, RabbitMQ may write something of its own. A reader that was overtaken by retention sees
the same. So at each gap the stream is read again from the message before it: if that is still there, and the same one comes
behind it, nothing was between them.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Literal

import msgspec

from broker.log import LogDiverged
from broker.rabbitmq_channel import Channel, Delivery, Inbox, LinkLost, NoReplica, NoSuchQueue
from broker.rabbitmq_ends import ARRIVAL_S, LateBeginnings
from broker.rabbitmq_link import Link, LinkClosed

PREFETCH = 200  # messages on their way: of 256 KiB at most, but for a record that is longer by itself
AT_ONCE = 50
SLOW_S = 5.0  # it is not, and the broker is just slow
APART_S = 3.0  # a broker that has just come back may not have its copy yet; one that has none is of no use
GONE_S = 6.0  # a broker that starts may not know its streams for a moment
FIRST_PAUSE_S, MOST_PAUSE_S = 0.05, 0.2


class Anchor(msgspec.Struct, frozen=True):
    """The message that was read last: reading on begins with it, to see that it is still the one it was."""

    offset: int
    fits: Callable[[Delivery], bool]


Start = Literal["first", "oldest"] | Anchor


class _Gap(Exception):
    """What comes does not continue what was given: to be read once more from there on."""


class Follower:
    """One reader of one stream. `last_offset` puts a message on the stream's end, returns its offset, and may raise `LinkLost`.

    With "first" the first message must be that of offset 0; with "oldest" whatever is there is right.
    """

    def __init__(
        self, link: Link, stream: str, start: Start, last_offset: Callable[[], Awaitable[int]], *, prefetch: int = PREFETCH
    ) -> None:
        self._prefetch = prefetch
        self._link, self._stream, self._at, self._last_offset = link, stream, start, last_offset
        self._inbox: Inbox | None = None
        self._late = LateBeginnings()
        self._why = ""  # what the last attempt to read ended with
        self._giving = False  # what came is with whoever asked for it
        self._again = False  # the anchor has been given, and only has to be found again
        self._hole: tuple[int, int] | None = None  # the messages around the last gap
        self.offset = -1  # of the last message that was given

    @property
    def waits(self) -> bool:
        """Whether everything that came has been taken, and dealt with: the next message would be seen at once."""
        return self._inbox is not None and self._inbox.is_empty and not self._giving

    @property
    def kept_out(self) -> str | None:
        """Why it does not read although there is a connection; None while it does, or there is none."""
        return (self._why or "no answer yet") if self._inbox is None and self._link.up else None

    async def deliveries(self) -> AsyncGenerator[list[Delivery], None]:
        """Messages as they come, for ever, the first of them the anchor's own.

        Raises `LogDiverged` when the stream is not the one that was read, or does not have everything behind the anchor any more;
        `LinkClosed` when the link was closed.
        """
        loop = asyncio.get_running_loop()
        pause_s, gone_since, apart_since = FIRST_PAUSE_S, None, None
        while True:
            try:
                async with self._link.channel() as channel:
                    inbox = self._inbox = await self._consume(channel)
                    gone_since = apart_since = None
                    anchored, unacknowledged = not isinstance(self._at, Anchor), 0
                    late_at = loop.time() + ARRIVAL_S
                    while True:
                        some = await inbox.take(AT_ONCE)
                        unacknowledged += len(some)
                        if unacknowledged >= self._prefetch // 4:
                            await channel.acknowledge(some[-1].tag)
                            unacknowledged = 0
                        if not anchored:
                            found = await self._from_anchor(some)
                            anchored, some = found is not None, found or []
                            if not anchored and loop.time() > late_at:
                                await self._look_for_end()
                                late_at = loop.time() + SLOW_S
                        if ready := self._in_order(some):
                            pause_s = FIRST_PAUSE_S
                            self._giving = True
                            yield ready
                            self._giving = False
                        if len(ready) < len(some):
                            raise _Gap
            except _Gap:
                continue
            except LinkClosed:
                raise
            except LinkLost as error:
                self._why = str(error)
                gone_since = (gone_since or loop.time()) if isinstance(error, NoSuchQueue) else None
                if gone_since is not None and loop.time() - gone_since > GONE_S:
                    raise LogDiverged(f"{self._stream} is gone") from None
                apart_since = (apart_since or loop.time()) if isinstance(error, NoReplica) else None
                if apart_since is not None and loop.time() - apart_since > APART_S and self._link.has_others:
                    apart_since = None
                    self._link.drop(str(error))
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, MOST_PAUSE_S)
            finally:
                self._inbox, self._giving = None, False

    async def _consume(self, channel: Channel) -> Inbox:
        """Begin to read. A stream that has nothing from there on says nothing, for ever: then its end is looked for."""
        at = self._at
        offset = at.offset if isinstance(at, Anchor) else "first" if at == "oldest" else at
        inbox = await channel.consume(self._stream, offset=offset, prefetch=self._prefetch)
        if not await _arrives(inbox, ARRIVAL_S):
            await self._look_for_end()
            if not await _arrives(inbox, SLOW_S):
                raise LinkLost("the stream has more, and does not give it")
        return inbox

    async def _look_for_end(self) -> None:
        """Raises `LogDiverged` where the stream is too short for the anchor; what is there now, or is made by this, is to come."""
        try:
            end = await self._last_offset()
        except LinkLost as error:  # nothing comes, not even a mark: another connection may be better
            self._link.drop(f"{self._stream}: {error}")
            raise
        if isinstance(self._at, Anchor) and end <= self._at.offset:
            raise LogDiverged(f"{self._stream} ends at message {end} and was read up to {self._at.offset}: it was made anew")

    async def _from_anchor(self, some: list[Delivery]) -> list[Delivery] | None:
        """What there is to give once the anchor has come; None as long as it has not."""
        at = self._at
        assert isinstance(at, Anchor)
        while some and some[0].offset < at.offset:  # a broker may begin with the chunk that holds it
            some = some[1:]
        if not some:
            return None
        if (begins := some[0].offset) != at.offset:
            self._inbox, self._why = None, "the broker is not as far yet as was read"
            if await self._late.is_final(self._link, self._stream, at.offset, begins):
                raise LogDiverged(f"{self._stream} begins at message {begins} and was read up to {at.offset}: it was truncated")
            raise LinkLost(self._why)
        if not at.fits(some[0]):
            raise LogDiverged(f"{self._stream} has another message at {at.offset} than the one that was read")
        self.offset, self._late = at.offset - 1, LateBeginnings()
        if not self._again:
            return some
        self.offset = at.offset
        return some[1:]

    def _in_order(self, some: list[Delivery]) -> list[Delivery]:
        """The beginning of them that continues what was given; then the last of that is the anchor of the next connection."""
        expected = some[0].offset if some and self._at == "oldest" else self.offset + 1
        for index, delivery in enumerate(some):
            if delivery.offset != expected and (expected - 1, delivery.offset) != self._hole:
                self._judge_gap(expected, delivery.offset)
                some = some[:index]
                break
            expected = delivery.offset + 1
        if some:
            last = some[-1]
            self.offset, self._again = last.offset, True
            self._at = Anchor(last.offset, lambda delivery: delivery.body == last.body)
        return some

    def _judge_gap(self, expected: int, offset: int) -> None:
        """Raises `LogDiverged` where it cannot be a hole."""
        if expected == 0:
            raise LogDiverged(f"{self._stream} begins at message {offset}: what stood before was truncated")
        if offset < expected:
            raise LogDiverged(f"{self._stream} goes on with message {offset} where {expected} should stand")
        self._hole = expected - 1, offset


async def _arrives(inbox: Inbox, limit_s: float) -> bool:
    """Whether something comes within this time. Raises `LinkLost`."""
    try:
        async with asyncio.timeout(limit_s):
            await inbox.arrival()
    except TimeoutError:
        return False
    return True
