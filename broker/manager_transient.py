"""What need not last, between the managers of a channel: over an exclusive queue of each, bound to the buckets in which it has a member."""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence

from broker.batch import MOST_RECORDS, Batch, decode_body, encode_batch
from broker.manager_counts import Counts
from broker.manager_interest import Interest
from broker.manager_stream import Settings
from broker.manager_wire import buckets_of
from broker.rabbitmq_channel import Channel, Inbox, LinkLost
from broker.rabbitmq_link import Link
from broker.together import together
from broker.topology import SIGNALS, to_bucket_of

MOST_WAITING = 2_000  # records; what is more is dropped, the newest first: the broker is slower than we are
MOST_AT_ONCE_BYTES = 256 * 1024
TAKEN_AT_ONCE = 50  # messages
MOST_COME = 10_000  # messages that have come and are not delivered yet; nothing holds up who sends them
MOST_COME_BYTES = 16 * 1024 * 1024
TELL_EVERY_S = 30.0
UNBIND_AFTER_S = 10.0  # a bucket in which nobody is any more: often somebody is again
PAUSE_S = 0.2


class Transients:
    """`receive` is given records as they come. Without `interest` nothing is listened to."""

    def __init__(
        self,
        settings: Settings,
        node: str,
        counts: Counts,
        interest: Interest | None,
        log: Callable[[], logging.Logger],
        receive: Callable[[Iterable[bytes]], Awaitable[None]],
    ) -> None:
        self._urls, self._channel, self._node, self._counts = settings.urls, settings.channel, node, counts
        self._interest, self._log, self._receive = interest, log, receive
        self._tell_at = 0.0
        self._link: Link | None = None
        self._waiting: list[tuple[bytes, bytes]] = []  # the addresses and the record
        self._more, self._changed = asyncio.Event(), asyncio.Event()
        if interest is not None:
            interest.changed = self._changed.set
        self.bound: frozenset[int] = frozenset()  # the buckets that the queue is bound to now

    def publish(self, addresses: bytes, record: bytes) -> None:
        """Send a record to who is bound to a bucket of it. It is dropped while the broker is away, or too much waits."""
        if self._link is None or not self._link.up or len(self._waiting) >= MOST_WAITING:
            self._counts.transient_dropped += 1
            return
        self._counts.sent += 1
        self._waiting.append((addresses, record))
        self._more.set()

    async def run(self) -> None:
        """Send, receive and keep the bindings, until cancelled."""
        link = self._link = Link(self._urls, f"tidegate {self._channel} transient {self._node[:8]}")
        await together([link.run(), self._keep(link)])

    async def _keep(self, link: Link) -> None:
        while True:
            try:
                async with link.channel() as channel:
                    await self._use(channel)
            except LinkLost:
                self.bound = frozenset()
                await asyncio.sleep(PAUSE_S)

    async def _use(self, channel: Channel) -> None:
        if self._interest is None:
            await channel.make_exchange(SIGNALS)
            await self._send(channel)
        else:
            # a name of its own for each connection: the old queue may still be there for a while
            queue = f"{SIGNALS}.{self._channel}.{self._node[:8]}.{secrets.token_hex(4)}"
            await channel.make_own_queue(queue, SIGNALS, [])
            inbox = await channel.consume(queue, inbox=Inbox(most=MOST_COME, most_bytes=MOST_COME_BYTES, dropped=self._missed))
            await together([self._send(channel), self._take(inbox), self._bind(channel, queue, self._interest)])

    async def _send(self, channel: Channel) -> None:
        """What waits leaves together, by its buckets; a record of several comes once all the same."""
        while True:
            await self._more.wait()
            self._more.clear()
            waiting, self._waiting = self._waiting, []
            by_buckets: dict[tuple[int, ...], list[bytes]] = {}
            for addresses, record in waiting:
                by_buckets.setdefault(tuple(buckets_of(addresses)), []).append(record)
            for buckets, records in by_buckets.items():
                first, *others = (to_bucket_of(self._channel, bucket) for bucket in buckets)
                for some in _parted(records):
                    await channel.publish(SIGNALS, first, encode_batch(some), sender=self._node, id="", others=others)

    async def _take(self, inbox: Inbox) -> None:
        while True:
            for delivery in await inbox.take(TAKEN_AT_ONCE):
                body = decode_body(delivery.body)
                if isinstance(body, Batch):
                    self._counts.heard += len(body.records)
                    await self._receive(body.records)

    def _missed(self) -> None:
        self._counts.transient_missed += 1
        if (now := asyncio.get_running_loop().time()) >= self._tell_at:
            self._tell_at = now + TELL_EVERY_S
            self._log().warning("transient events come faster than they can be delivered: some are dropped")

    async def _bind(self, channel: Channel, queue: str, interest: Interest) -> None:
        """Bind at once what is wanted, unbind what has not been wanted for a while."""
        loop = asyncio.get_running_loop()
        unwanted: dict[int, float] = {}  # since when
        while True:
            self._changed.clear()
            wanted, now = interest.buckets, loop.time()
            for bucket in wanted - self.bound:
                await channel.bind(queue, SIGNALS, to_bucket_of(self._channel, bucket))
                self.bound |= {bucket}
            unwanted = {bucket: unwanted.get(bucket, now) for bucket in self.bound - wanted}
            for bucket in [bucket for bucket, since in unwanted.items() if now - since >= UNBIND_AFTER_S]:
                await channel.unbind(queue, SIGNALS, to_bucket_of(self._channel, bucket))
                self.bound -= {bucket}
                del unwanted[bucket]
            with contextlib.suppress(TimeoutError):  # not `wait_for`, which on 3.11 may swallow a cancel
                async with asyncio.timeout(UNBIND_AFTER_S / 2):
                    await self._changed.wait()


def _parted(records: Sequence[bytes]) -> list[list[bytes]]:
    """The records in messages that are not too large, unless one is by itself."""
    parts: list[list[bytes]] = []
    size = 0
    for record in records:
        if not parts or len(parts[-1]) == MOST_RECORDS or size + len(record) > MOST_AT_ONCE_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(record)
        size += len(record)
    return parts
