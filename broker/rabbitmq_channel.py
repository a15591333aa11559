"""A channel of RabbitMQ as the log, the signals and the manager use it; see `rabbitmq_link.py`."""

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import aiormq
import msgspec
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import (
    CONNECTION_EXCEPTIONS,
    AuthenticationError,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    DeliveryError,
    ProbableAuthenticationError,
)
from aiormq.abc import AbstractChannel as UnderlayChannel
from aiormq.abc import DeliveredMessage
from aiormq.exceptions import ConnectionNotAllowed

ANSWER_LIMIT_S = 2.5  # for the answer to a declare or a consume: a stream's leader may just be chosen
CLOSE_LIMIT_S = 1.0  # for what was given up to end with its connection
_LONGEST_REASON = 200
_REFUSALS = (AuthenticationError, ProbableAuthenticationError, ConnectionNotAllowed)

_T = TypeVar("_T")


class LinkLost(Exception):
    """The connection or the channel is not to be used any more; the message says why, without secrets.

    `refused`: the broker does not let us in.
    """

    refused = False


class NoSuchQueue(LinkLost):
    """The queue, stream or exchange is not there (or not yet, or not now: a broker that starts says so too)."""


class NoReplica(LinkLost):
    """The broker has no copy of the stream, or none that runs already; another one may."""


class NotConfirmed(LinkLost):
    """The broker has not said in time whether it took the message."""


class NotTaken(LinkLost):
    """The broker did not take the message: returned, since its stream is not there, or refused. The channel is as it was."""


@contextlib.contextmanager
def faults_as_lost() -> Iterator[None]:
    """What aio-pika raises, as `LinkLost`. It ends what waits on a closed connection with a `CancelledError` too, which is no cancel."""
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise LinkLost("the connection was closed") from None
    except ChannelNotFoundEntity as error:
        raise NoSuchQueue(_reason(error)) from error
    except ChannelPreconditionFailed as error:
        raise (NoReplica if "replica" in str(error) else LinkLost)(_reason(error)) from error
    except TimeoutError:
        raise LinkLost("no answer in time") from None
    except CONNECTION_EXCEPTIONS as error:
        lost = LinkLost(_reason(error))
        lost.refused = isinstance(error, _REFUSALS)
        raise lost from error
    except Exception as error:
        if type(error) is not Exception:
            raise
        raise LinkLost("the broker hung up") from error  # as bare as that, where it said nothing and just closed


async def within(limit_s: float, work: Awaitable[_T], abort: Callable[[], None]) -> _T:
    """The result of `work`; where it takes too long the connection is cut and `LinkLost` raised.

    A call of aiormq does not bear to be cancelled: it may wait for the writer, which for a frozen broker is for ever, and its channel's
    number may be taken again too early, which ends the connection. So it goes on by itself where we are cancelled, and ends with
    the connection at the latest; only after that was cut it is cancelled.
    """
    task = asyncio.ensure_future(work)
    task.add_done_callback(_looked_at)  # it may fail when nobody waits for it any more
    await asyncio.wait({task}, timeout=limit_s)
    if task.done():
        return task.result()
    abort()
    try:
        await asyncio.wait({task}, timeout=CLOSE_LIMIT_S)
    finally:
        task.cancel()
    raise LinkLost(f"no answer within {limit_s:g} s")


def _looked_at(task: "asyncio.Future[Any]") -> None:
    """What becomes of a call that nobody waits for any more is nobody's business."""
    if not task.cancelled():
        task.exception()


def _reason(error: BaseException) -> str:
    return " ".join((str(error) or type(error).__name__).split())[:_LONGEST_REASON]


class Delivery(msgspec.Struct, frozen=True):
    """A message as it comes. `offset` is its place in a stream, -1 elsewhere."""

    body: bytes
    offset: int
    id: str
    sender: str
    tag: int


class Inbox:
    """What a consumer has been given and nobody has taken yet. It ends with its consumer.

    What comes when `most` messages or `most_bytes` wait is dropped, which `dropped` is told of each time.
    """

    def __init__(
        self, *, most: float = math.inf, most_bytes: float = math.inf, dropped: Callable[[], None] = lambda: None
    ) -> None:
        self._most, self._most_bytes, self._dropped = most, most_bytes, dropped
        self._waiting: deque[Delivery] = deque()
        self._bytes = 0
        self._more = asyncio.Event()
        self._ended: str | None = None

    @property
    def is_empty(self) -> bool:
        return not self._waiting

    def put(self, delivery: Delivery) -> None:
        """Called by the channel."""
        if len(self._waiting) >= self._most or self._bytes >= self._most_bytes:
            self._dropped()
            return
        self._waiting.append(delivery)
        self._bytes += len(delivery.body)
        self._more.set()

    def end(self, why: str) -> None:
        """Called by the channel: nothing more will come."""
        self._ended = self._ended or why
        self._more.set()

    async def arrival(self) -> None:
        """Return when there is something to take. Raises `LinkLost` when nothing will ever come."""
        while not self._waiting:
            if self._ended is not None:
                raise LinkLost(self._ended)
            self._more.clear()
            await self._more.wait()

    async def take(self, most: int) -> list[Delivery]:
        """At least one, and no more than `most`. Raises `LinkLost` once what came has been taken and no more will come."""
        await self.arrival()
        taken = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
        self._bytes -= sum(len(delivery.body) for delivery in taken)
        return taken


class Channel:
    """Every method raises `LinkLost`; a channel on which one did (but for `NotTaken`) is not to be used any more."""

    def __init__(
        self, channel: UnderlayChannel, owner: AbstractChannel, abort: Callable[[], None], drop: Callable[[str], None]
    ) -> None:
        self._channel, self._owner, self._abort, self._drop = channel, owner, abort, drop

    def drop(self, why: str) -> None:
        """Something that only its user sees is wrong with the connection that this channel is on: give that one up, and no other."""
        self._drop(why)

    def when_closed(self, call: Callable[[], None]) -> None:
        """Call this on the event loop once the channel is closed, by whomever; soon, if it is."""
        self._channel.closing.add_done_callback(lambda _: call())

    def check(self) -> None:
        """Raises `LinkLost` where the channel is closed."""
        if self._channel.is_closed:
            raise LinkLost("the channel was closed")

    async def ask(self, limit_s: float) -> None:
        """A question whose only use is that it is answered."""
        await self._call(self._channel.basic_qos(prefetch_count=1), limit_s)

    async def has_queue(self, name: str) -> None:
        """Raises `NoSuchQueue` where there is none by that name."""
        await self._call(self._channel.queue_declare(name, passive=True))

    async def make_stream(self, name: str, arguments: Mapping[str, Any]) -> None:
        """Declare a stream; the arguments must be those of one that is there."""
        await self._call(self._channel.queue_declare(name, durable=True, arguments=dict(arguments)))

    async def remove_stream(self, name: str) -> None:
        """Delete it with all that stands in it; one that is not there is gone already."""
        await self._call(self._channel.queue_delete(name))

    async def make_exchange(self, name: str) -> None:
        """Declare a durable topic exchange."""
        await self._call(self._channel.exchange_declare(name, exchange_type="topic", durable=True))

    async def make_own_queue(self, name: str, exchange: str, keys: list[str]) -> None:
        """A queue that goes with this connection, bound to `keys` of a durable topic exchange, which is made where it is missing."""
        await self.make_exchange(exchange)
        await self._call(self._channel.queue_declare(name, exclusive=True, auto_delete=True))
        for key in keys:
            await self.bind(name, exchange, key)

    async def bind(self, queue: str, exchange: str, key: str) -> None:
        """From the answer on, what is published under `key` comes to the queue."""
        await self._call(self._channel.queue_bind(queue, exchange, key))

    async def unbind(self, queue: str, exchange: str, key: str) -> None:
        """The opposite of `bind`."""
        await self._call(self._channel.queue_unbind(queue, exchange, key))

    async def consume(
        self, queue: str, *, offset: int | str | None = None, prefetch: int = 0, inbox: Inbox | None = None
    ) -> Inbox:
        """Have deliveries put into an inbox: of a stream from `offset` on (or `first`, `next`), to be acknowledged, `prefetch` at once.

        What need not be acknowledged comes as fast as the broker can send it: `inbox` is one with bounds.
        """
        inbox = inbox or Inbox()

        async def deliver(message: DeliveredMessage) -> None:
            properties = message.header.properties
            place = (properties.headers or {}).get("x-stream-offset", -1)
            given = (properties.message_id or "", properties.app_id or "", message.delivery_tag or 0)
            inbox.put(Delivery(message.body, int(place) if isinstance(place, int) else -1, *given))

        self.when_closed(lambda: inbox.end("the channel was closed"))
        self._channel.on_consumer_cancel_callbacks.add(lambda _: inbox.end("the queue or its leader has gone"))
        if prefetch:
            await self._call(self._channel.basic_qos(prefetch_count=prefetch))
        arguments: dict[str, Any] | None = {"x-stream-offset": offset} if offset is not None else None
        await self._call(self._channel.basic_consume(queue, deliver, no_ack=offset is None, arguments=arguments))
        return inbox

    async def acknowledge(self, tag: int) -> None:
        """Everything up to `tag` has been taken: the broker may send more."""
        with faults_as_lost():
            async with asyncio.timeout(ANSWER_LIMIT_S):  # nobody takes it, and nobody says so, where the writer has just ended
                await self._channel.basic_ack(tag, multiple=True, wait=False)

    async def append(self, stream: str, body: bytes, id: str, *, limit_s: float, sender: str | None = None) -> None:
        """Return once the broker has the message on a stream. Raises `NotTaken`, `NotConfirmed`."""
        properties = aiormq.spec.Basic.Properties(message_id=id, app_id=sender, delivery_mode=2)
        with faults_as_lost():
            try:
                confirmation = await self._channel.basic_publish(
                    body, routing_key=stream, properties=properties, mandatory=True, timeout=limit_s
                )
            except DeliveryError:
                raise NotTaken("refused by the broker") from None
            except TimeoutError:
                raise NotConfirmed(f"not confirmed within {limit_s:g} s") from None
        if not isinstance(confirmation, aiormq.spec.Basic.Ack):
            raise NotTaken(f"{stream} is not there")

    async def publish(self, exchange: str, key: str, body: bytes, *, sender: str, id: str, others: Sequence[str] = ()) -> None:
        """Hand a message to an exchange; what nobody is bound to is gone. A queue that is bound to several of its keys has it once."""
        headers: dict[str, Any] | None = {"CC": list(others)} if others else None
        properties = aiormq.spec.Basic.Properties(app_id=sender, message_id=id, delivery_mode=1, headers=headers)
        with faults_as_lost():
            await self._channel.basic_publish(body, exchange=exchange, routing_key=key, properties=properties)

    async def close(self) -> None:
        """Give the channel back. Never raises; idempotent."""
        with contextlib.suppress(LinkLost), faults_as_lost():
            await within(ANSWER_LIMIT_S, self._owner.close(), self._abort)

    async def _call(self, work: Awaitable[Any], limit_s: float = ANSWER_LIMIT_S) -> None:
        with faults_as_lost():
            await within(limit_s, work, self._abort)
