"""The stream of a channel as one manager has it: everything that may not be lost goes out over it, and comes in over it in one order."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from contextlib import aclosing, closing
from functools import partial

import msgspec

from broker.address import AmqpAddress
from broker.batch import Batch, decode_body
from broker.log import LogDiverged
from broker.manager_counts import Counts
from broker.manager_senders import Senders
from broker.manager_wire import number_of, to_record
from broker.rabbitmq_appender import Appender
from broker.rabbitmq_channel import Delivery, LinkLost
from broker.rabbitmq_ends import mark_end
from broker.rabbitmq_follower import Anchor, Follower, Start
from broker.rabbitmq_genesis import make_stream
from broker.rabbitmq_link import Link, LinkClosed
from broker.together import together
from broker.topology import Arguments, emits_of

LARGEST = 8 * 1024 * 1024  # RabbitMQ 4 refuses messages over 16 MiB, and whoever sends one has its channel closed
PREFETCH = 64  # messages on their way, and nearly as many in hand: of 256 KiB, but for a record that is longer by itself
PAUSE_S = 0.2
LOOK_EVERY_S = 0.5
AWAY_S = 1.0  # a connection that is made again sooner is no news
TELL_EVERY_S = 30.0
DEAF_S = 2.0


class Settings(msgspec.Struct, frozen=True):
    """Where the stream is, and what it may take. The URLs hold a password; `repr` does not."""

    urls: tuple[str, ...]
    channel: str
    arguments: Arguments  # what the stream is made with
    most: int  # records that wait while the broker is away
    most_bytes: int
    largest: int  # bytes of a record, without its head
    apart_s: float  # from one message to the next
    listen: bool

    def check_size(self, body: bytes) -> None:
        """Raises `ValueError` for a record that is too large."""
        if len(body) > self.largest:
            raise ValueError(f"what is emitted has {len(body)} bytes, and the manager takes {self.largest} at most")

    def __repr__(self) -> str:
        return f"Settings({str(AmqpAddress(self.urls))!r}, {self.channel!r})"


class EmitStream:
    """`receive` is given the new records of a message, in order, and carries out each before it asks for the next.

    Where it is cancelled, it is given again what it has not carried out whole.
    """

    def __init__(
        self,
        settings: Settings,
        node: str,
        counts: Counts,
        log: Callable[[], logging.Logger],
        receive: Callable[[Iterable[bytes]], Awaitable[None]],
    ) -> None:
        self._settings, self._node, self._counts, self._log, self._receive = settings, node, counts, log, receive
        self._stream = emits_of(settings.channel)
        appending = self._link("emit")
        self._appender = Appender(
            appending,
            self._stream,
            make=self._make,
            sender=node,
            most=settings.most,
            most_bytes=settings.most_bytes,
            apart_s=settings.apart_s,
        )
        self._senders = Senders()
        self._first: Delivery | None = None  # what reading began with
        self._last: Delivery | None = None  # what was read and carried out last
        self._placed = asyncio.Event()  # set once it is known where reading begins: what is sent from then on comes back
        self._returned, self._came = 0, asyncio.Event()
        self._number = 0
        self._follower: Follower | None = None
        self._away_since: float | None = None
        self._tell_at = 0.0
        self._deaf_since: float | None = None
        self._given_up = 0  # the last of our records for which a connection was left
        self._told_away = self._told_full = False

    # Out

    async def put(self, addresses: bytes, body: bytes) -> int:
        """Put a record into the buffer, waiting for room in it; returns its number. Raises `ValueError` for one that is too large."""
        self._settings.check_size(body)
        if self._appender.is_full:
            await self._wait_for_room()
        self._number += 1
        self._appender.leave(to_record(addresses, self._number, body))
        self._counts.sent += 1
        return self._number

    async def flushed(self) -> None:
        """Return once the broker has everything."""
        await self._appender.appended()

    @property
    def waiting(self) -> int:
        """How many records the broker does not have yet."""
        return self._appender.waiting

    @property
    def returned(self) -> int:
        """The number of the last of our own records that has come back and was carried out here."""
        return self._returned

    async def came_back(self, number: int) -> None:
        """Return once that record of ours has been carried out here, or the broker is away, which is known some seconds after it went."""
        while self._returned < number and not self._told_away:
            await self._came.wait()

    def _let_look(self) -> None:
        """Wake who waits in `came_back`."""
        self._came.set()
        self._came = asyncio.Event()

    async def finish(self, limit_s: float) -> None:
        """Where `run` has ended: send what is left, over a connection of its own. What is not taken in time is said and lost."""
        if not self._appender.waiting:
            return
        link = self._appender.link = self._link("last emits")
        tasks = [asyncio.create_task(link.run()), asyncio.create_task(self._appender.run())]
        try:
            async with asyncio.timeout(limit_s):
                await self._appender.appended()
        except TimeoutError:
            self._log().error("%d emits were not sent: %s", self.waiting, self._appender.why or link.why)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _wait_for_room(self) -> None:
        self._counts.waited += 1
        if not self._told_full:
            self._told_full = True
            self._log().warning("%d emits wait for RabbitMQ, and no more are taken: who emits waits", self.waiting)
        await self._appender.room()

    # Both ways

    async def run(self) -> None:
        """Send, and listen where that is wanted, until cancelled."""
        appending = self._appender.link = self._link("emit")
        following = self._link("listen") if self._settings.listen else None
        work = [appending.run(), self._append(), self._watch(appending, following)]
        if following is not None:
            work += [following.run(), self._follow(following, appending)]
        await together(work)

    async def _append(self) -> None:
        if self._settings.listen:
            await self._placed.wait()
        await self._appender.run()

    async def _make(self) -> None:
        await make_stream(self._appender.link, self._stream, self._settings.arguments)

    def _link(self, use: str) -> Link:
        return Link(self._settings.urls, f"tidegate {self._settings.channel} {use} {self._node[:8]}")

    # In

    async def _follow(self, following: Link, appending: Link) -> None:
        """Read for ever: from the last message on; where that is gone from the first that was read; else from whatever there is."""
        mark = partial(mark_end, self._stream, reading=following, writing=appending)
        if self._last is None:
            self._first = self._last = await self._place(mark)
        self._placed.set()
        way = 0
        while True:
            heard = self._counts.heard
            start: Start = _anchor((self._last, self._first)[way]) if way < 2 else "oldest"
            try:
                await self._read(following, start, mark)
            except LogDiverged as why:
                way = 1 if self._counts.heard > heard else min(2, way + 1)
                if way == 1:
                    self._missed(str(why))
                await asyncio.sleep(PAUSE_S)

    async def _read(self, following: Link, start: Start, mark: Callable[[], Awaitable[Delivery]]) -> None:
        async def end() -> int:
            return (await mark()).offset

        follower = self._follower = Follower(following, self._stream, start, end, prefetch=PREFETCH)
        async with aclosing(follower.deliveries()) as deliveries:
            async for some in deliveries:
                if start == "oldest":
                    self._first, start = some[0], _anchor(some[0])
                for delivery in some:
                    await self._take(delivery)
                    self._last = delivery

    def _missed(self, why: str) -> None:
        self._counts.diverged += 1
        self._log().error("%s; reading on with what is there", why)

    async def _take(self, delivery: Delivery) -> None:
        body = decode_body(delivery.body)
        if not isinstance(body, Batch):
            return
        fresh, missing = self._senders.fresh(delivery.sender, body.records)
        if missing:
            self._counts.lost += missing
            self._log().error("%d emits of another node never came", missing)
        self._counts.repeated += len(body.records) - len(fresh)
        with closing(self._one_by_one(delivery.sender, fresh)) as records:
            await self._receive(records)
        if delivery.sender == self._node:
            self._returned = max(self._returned, number_of(body.records[-1]))
            self._let_look()

    def _one_by_one(self, sender: str, records: Sequence[bytes]) -> Generator[bytes, None, None]:
        """The records; those behind which the next was asked for are known and counted, also where it ends before the last."""
        done = 0
        try:
            for record in records:
                yield record
                done += 1
        finally:
            self._counts.heard += done
            if done:
                self._senders.heard(sender, number_of(records[done - 1]))

    async def _place(self, mark: Callable[[], Awaitable[Delivery]]) -> Delivery:
        """Where the stream ends now; it is made where it is missing."""
        while True:
            try:
                await self._make()
                return await mark()
            except LinkClosed:
                raise
            except LinkLost:
                await asyncio.sleep(PAUSE_S)

    # Looking after it

    async def _watch(self, appending: Link, following: Link | None) -> None:
        """Say when the broker is away and when it is back; leave a connection over which nothing of ours comes back."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            now = asyncio.get_running_loop().time()
            self._look_whether_away(now, [appending, following] if following is not None else [appending])
            if following is not None:
                self._look_whether_deaf(now, following)

    def _look_whether_away(self, now: float, links: Sequence[Link]) -> None:
        down = next((link for link in links if not link.up), None)
        if down is None and not self._appender.failing:
            if self._told_away and self._away_since is not None:
                self._log().warning("RabbitMQ is back after %.1f s", now - self._away_since)
            self._away_since, self._told_away, self._told_full = None, False, False
            return
        if self._away_since is None:
            self._away_since, self._tell_at = now, now + AWAY_S
        if now >= self._tell_at:
            self._counts.away += not self._told_away
            self._told_away, self._tell_at = True, now + TELL_EVERY_S
            self._let_look()
            why = self._appender.why if down is None else down.why
            self._log().warning(
                "RabbitMQ is away (%s): %d emits wait for it, and up to %d are kept", why, self.waiting, self._settings.most
            )

    def _look_whether_deaf(self, now: float, following: Link) -> None:
        """What was confirmed comes back within milliseconds, unless there is so much before it that not all is carried out yet."""
        confirmed, follower = self._appender.appended_records, self._follower
        if follower is None or not follower.waits or confirmed <= max(self._returned, self._given_up):
            self._deaf_since = None
        elif self._deaf_since is None:
            self._deaf_since = now
        elif now - self._deaf_since > DEAF_S:
            self._deaf_since, self._given_up = None, confirmed
            self._log().warning("what was emitted does not come back from RabbitMQ: taking another connection")
            following.drop("what was appended does not come")


def _anchor(delivery: Delivery | None) -> Anchor:
    assert delivery is not None
    return Anchor(delivery.offset, lambda other: other.body == delivery.body)
