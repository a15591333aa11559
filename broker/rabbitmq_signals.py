"""Signals between nodes over an exclusive queue of each, and the canary by which a node notices that it is deaf."""

import asyncio
import contextlib
import secrets
import threading
from collections import deque
from collections.abc import Callable, Mapping

import msgspec

from broker.batch import UNREADABLE
from broker.rabbitmq_channel import Channel, Inbox, LinkLost
from broker.rabbitmq_link import Link
from broker.together import together
from broker.topology import SIGNALS, TO_ALL

CANARY_EVERY_S = 1.0
DEAF_S = 3.5  # three canaries and a half
LARGEST = 65_536  # bytes of one signal
LAST_WORDS_S = 0.5  # which they may take at the end: a broker that is busy takes them one after the other
MOST_WAITING = 2_000  # signals; what is more is dropped: they need not last
KEPT_S = (
    1.5  # what has waited for longer is not said any more: that someone types, or was asked to do something, is not so for ever
)
PAUSE_S = 0.2
_CANARY, _SIGNAL = "canary", "signal"


class Canary(msgspec.Struct, frozen=True):
    """What a node says to all, itself included: when it said so (by its own clock), and how far it has read the log."""

    sent: float
    offsets: dict[int, int]


_canaries: msgspec.msgpack.Decoder[Canary] = msgspec.msgpack.Decoder(Canary)


class RabbitSignals:
    """See `broker.log.Signals`; what waits while the broker is away is sent if it is back within `KEPT_S`.

    `offsets` is asked how far the log was read, `heard` told how far another node has, `canary` how long our own took.
    """

    def __init__(
        self,
        link: Link,
        name: str,
        *,
        offsets: Callable[[], Mapping[int, int]],
        heard: Callable[[Mapping[int, int]], None],
        canary: Callable[[float], None],
    ) -> None:
        self._link, self._offsets, self._tell_heard, self._tell_canary = link, offsets, heard, canary
        self._own = f"{name}-{secrets.token_hex(4)}"
        self._receive: Callable[[bytes], None] | None = None
        self._waiting: deque[tuple[float, str, bytes]] = deque(maxlen=MOST_WAITING)  # since when, its kind, the signal
        self._more = asyncio.Event()
        self._all_sent = asyncio.Event()
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        self._closed = False
        self._bound_at: float | None = None  # since when our queue is bound and read
        self.bound = asyncio.Event()  # set once, when others can be heard for the first time
        self._heard_at = self._loop.time()

    @property
    def deaf(self) -> str | None:
        """Why what others say may not reach this node; None while it hears itself. Another connection alone does not mend it."""
        silent_s = self._loop.time() - self._heard_at
        return f"no signal has come through the broker for {silent_s:.1f} s" if silent_s > DEAF_S else None

    def publish(self, data: bytes) -> None:
        if len(data) > LARGEST or self._closed:
            return
        self._waiting.append((self._loop.time(), _SIGNAL, data))
        if threading.get_ident() == self._thread:
            self._more.set()
        else:
            with contextlib.suppress(RuntimeError):  # the loop has been closed
                self._loop.call_soon_threadsafe(self._more.set)

    def subscribe(self, receive: Callable[[bytes], None]) -> None:
        self._receive = receive

    async def last_words(self) -> None:
        """Return once the broker has all that was published, or soon where it does not answer."""
        if self._bound_at is None:
            return
        self._all_sent.clear()
        self._more.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S):
                await self._all_sent.wait()

    async def run(self) -> None:
        """Send, receive and listen for our own canary, until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep())
                tasks.create_task(self._sing())
        finally:
            self._closed = True

    async def _keep(self) -> None:
        while True:
            try:
                async with self._link.channel() as channel:
                    queue = f"{SIGNALS}.{self._own}.{secrets.token_hex(4)}"  # the old one may still be there for a while
                    await channel.make_own_queue(queue, SIGNALS, [TO_ALL])
                    inbox = await channel.consume(queue)
                    self._bound_at = self._loop.time()
                    self.bound.set()
                    self._say_canary()
                    await together([self._send(channel), self._take(inbox)])
            except LinkLost:
                self._bound_at = None
                await asyncio.sleep(PAUSE_S)

    async def _send(self, channel: Channel) -> None:
        while True:
            await self._more.wait()
            while self._waiting:
                since, kind, body = self._waiting.popleft()
                if self._loop.time() - since <= KEPT_S:
                    await channel.publish(SIGNALS, TO_ALL, body, sender=self._own, id=kind)
            self._more.clear()
            self._all_sent.set()

    async def _take(self, inbox: Inbox) -> None:
        while True:
            for delivery in await inbox.take(MOST_WAITING):
                if delivery.id == _CANARY:
                    self._hear(delivery.body, own=delivery.sender == self._own)
                elif delivery.id == _SIGNAL and delivery.sender != self._own and self._receive is not None:
                    self._receive(delivery.body)

    def _hear(self, body: bytes, *, own: bool) -> None:
        try:
            canary = _canaries.decode(body)
        except UNREADABLE:
            return  # a stranger's
        if own:
            self._heard_at = self._loop.time()
            self._tell_canary(max(0.0, self._heard_at - canary.sent))
        else:
            self._tell_heard(canary.offsets)

    async def _sing(self) -> None:
        """A canary a second; where none comes back, the connection is deaf, whatever it answers: take another."""
        while True:
            await asyncio.sleep(CANARY_EVERY_S)
            if self._bound_at is None:
                continue
            if self._loop.time() - max(self._heard_at, self._bound_at) > DEAF_S:
                self._bound_at = None
                self._link.drop("no canary came back")
            else:
                self._say_canary()

    def _say_canary(self) -> None:
        """Before what has waited while nothing could be sent."""
        now = self._loop.time()
        self._waiting.appendleft((now, _CANARY, msgspec.msgpack.encode(Canary(now, dict(self._offsets())))))
        self._more.set()
