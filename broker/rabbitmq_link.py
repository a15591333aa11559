"""One connection to RabbitMQ, to whichever of its hosts answers: made again by itself, and watched.

aio-pika's robust connection is not used: it knows nothing of a stream's offsets, and loses or repeats what it reads on from.
With `rabbitmq_channel.py` the only place that knows aio-pika; everything that goes wrong leaves it as `LinkLost`.
"""

import asyncio
import contextlib
import contextvars
import logging
import os
import random
import ssl
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any
from urllib.parse import unquote

import aio_pika
from aio_pika.connection import make_url
from aiormq.connection import DEFAULT_PORTS, TCPTransportFactory, TLSTransportFactory, TransportFactory
from aiormq.exceptions import InvalidFrameError
from yarl import URL

from broker.rabbitmq_channel import Channel, LinkLost, faults_as_lost, within

CONNECT_LIMIT_S = 2.0
WATCH_EVERY_S = 1.0
WATCH_LIMIT_S = 2.0  # a frozen broker answers nothing and closes nothing
SLOWEST_BYTES_PER_S = 1024 * 1024  # what is large may take its time, and so may what stands behind it
CLOSE_LIMIT_S = 1.0
FIRST_PAUSE_S, MOST_PAUSE_S = 0.1, 0.25
LASTED_S = 1.0  # a connection that ended sooner is as good as none
HEARTBEAT_S = 10  # for the broker to notice that we are gone; we notice by the watch


_ours: contextvars.ContextVar[bool] = contextvars.ContextVar("ours", default=False)  # in all that runs for a connection of ours


class _ToldByUs(logging.Filter):
    """Keeps out of aiormq's log why a connection of ours was not made or has ended: `Link.why` says it, and its user tells it in a line.

    aiormq says it at each attempt, in a page. Nothing of other connections in this process is kept out, and nothing else of ours.
    """

    _BEGINNINGS = (
        "error when creating transport",
        "Cancelling cause reader exited abnormally",
        "Unexpected connection close from remote",
    )

    def filter(self, record: logging.LogRecord) -> bool:
        return not (_ours.get() and isinstance(record.msg, str) and record.msg.startswith(self._BEGINNINGS))


_told_by_us = _ToldByUs()


class LinkClosed(LinkLost):
    """The link was closed by us: there will be no other connection."""


class Link:
    """A connection by the name `name`, kept for as long as `run` runs. `lost(why)` is called each time that one ends.

    The hosts are tried in turn, beginning with one that the name chooses, so that many nodes do not all begin with the first. There is
    a pause before each further connection, between half and whole as `random` says, so that they do not all come back together, either.
    """

    def __init__(
        self,
        urls: Sequence[str],
        name: str,
        *,
        lost: Callable[[str], None] = lambda _: None,
        random: Callable[[], float] = random.random,
    ) -> None:
        first = zlib.crc32(name.encode()) % len(urls)
        self._urls = [_named(url, name) for url in [*urls[first:], *urls[:first]]]
        self._name, self._tell_lost, self._random = name, lost, random
        self._connection: _Connection | None = None
        self._changed = asyncio.Event()
        self._closed = False
        self._carried = 0  # bytes
        self.why = "not connected yet"  # for people; no secret in it
        self.refused = False  # by name, password, vhost or certificate: trying again will hardly help

    @property
    def has_others(self) -> bool:
        """Whether another connection may go to another host."""
        return len(self._urls) > 1

    @property
    def up(self) -> bool:
        """Whether there is a connection now."""
        return self._connection is not None

    async def run(self) -> None:
        """Connect, watch, and connect again, until cancelled."""
        logging.getLogger("aiormq.connection").addFilter(_told_by_us)  # the same one each time, which is once
        loop = asyncio.get_running_loop()
        pause_s, turn = FIRST_PAUSE_S, 0
        try:
            while True:
                connection = await self._connect(self._urls[turn % len(self._urls)])
                turn += 1
                if connection is not None:
                    came_at = loop.time()
                    try:
                        await self._keep(connection)
                        if loop.time() - came_at >= LASTED_S:
                            pause_s = FIRST_PAUSE_S
                    finally:
                        await connection.end()
                    self._tell_lost(self.why)
                await asyncio.sleep(pause_s * (1 + self._random()) / 2)
                pause_s = min(2 * pause_s, MOST_PAUSE_S)
        finally:
            self._closed, self.why = True, "closed"
            self._change()

    @contextlib.asynccontextmanager
    async def channel(self, *, confirms: bool = False) -> AsyncIterator[Channel]:
        """A channel of its own on the connection; waits for one. Raises `LinkLost` at once where a new channel is not to be had."""
        while self._connection is None:
            if self._closed:
                raise LinkClosed(self.why)
            await self._changed.wait()
        connection = self._connection
        channel = await connection.open_channel(confirms=confirms)
        try:
            yield channel
        finally:
            await channel.close()

    @contextlib.contextmanager
    def carrying(self, size: int) -> Iterator[None]:
        """So many bytes are on their way: the watch is not answered before they have arrived, and waits for so much longer."""
        self._carried += size
        try:
            yield
        finally:
            self._carried -= size

    async def changed(self, limit_s: float) -> None:
        """Return when a connection was made or lost, or after `limit_s`."""
        with contextlib.suppress(TimeoutError):  # not `wait_for`, which on 3.11 may swallow a cancel
            async with asyncio.timeout(limit_s):
                await self._changed.wait()

    def drop(self, why: str) -> None:
        """Something that only its user sees is wrong with this connection: take another."""
        if self._connection is not None:
            self._connection.drop(why)

    async def _connect(self, url: URL) -> "_Connection | None":
        connection = _Connection(url)
        context = contextvars.copy_context()
        context.run(_ours.set, True)
        connecting = asyncio.create_task(connection.connect(), context=context)
        try:
            with faults_as_lost():
                await within(CONNECT_LIMIT_S, connecting, connection.abort)
        except LinkLost as error:
            words, refused = _words(url, error)
            self.why, self.refused = f"{url.host}:{url.port or DEFAULT_PORTS[url.scheme]}: {words}", refused
            await connection.end()
            return None
        except BaseException:
            connection.abort()
            connecting.cancel()
            raise
        return connection

    async def _keep(self, connection: "_Connection") -> None:
        """Return once the connection has ended, or does not answer any more."""
        self._connection, self.refused = connection, False
        self.why = ""
        self._change()
        why = "the broker closed the connection"
        try:
            channel = await connection.open_channel(confirms=False)
            while not await connection.ended_within(WATCH_EVERY_S):
                await channel.ask(WATCH_LIMIT_S + self._carried / SLOWEST_BYTES_PER_S)
        except LinkLost as error:
            why = str(error)
        finally:
            self._connection = None
            self.why = connection.dropped_for or why
            self._change()

    def _change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class _Transport(TransportFactory):
    """Keeps the writer of a connection: a frozen broker takes no farewell, and a connection to it can only be cut."""

    def __init__(self, *, tls: bool) -> None:
        self._factory = TLSTransportFactory() if tls else TCPTransportFactory()
        self._writer: asyncio.StreamWriter | None = None

    async def create(self, url: URL, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, self._writer = await self._factory.create(url, **kwargs)
        return reader, self._writer

    def abort(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()


class _Connection(aio_pika.Connection):
    """An aio-pika connection that can be cut."""

    def __init__(self, url: URL) -> None:
        super().__init__(url)
        self._transport = self.kwargs["transport_factory"] = _Transport(tls=url.scheme == "amqps")
        self._ended = asyncio.Event()
        self.dropped_for = ""  # why we gave it up ourselves
        self.close_callbacks.add(lambda *_: self._ended.set())

    async def open_channel(self, *, confirms: bool) -> Channel:
        with faults_as_lost():
            channel = self.channel(publisher_confirms=confirms, on_return_raises=False)
            opening = asyncio.ensure_future(channel.initialize())
            try:
                await within(WATCH_LIMIT_S, opening, self.abort)
            except asyncio.CancelledError:
                with contextlib.suppress(LinkLost), faults_as_lost():  # a loss is no answer to who was cancelled
                    await within(CLOSE_LIMIT_S, opening, self.abort)  # nobody else would give it back
                    await within(CLOSE_LIMIT_S, channel.close(), self.abort)
                raise
            return Channel(await channel.get_underlay_channel(), channel, self.abort, self.drop)

    async def ended_within(self, limit_s: float) -> bool:
        """Whether the connection ends within this time, or has."""
        with contextlib.suppress(TimeoutError):  # not `wait_for`, which on 3.11 may swallow a cancel
            async with asyncio.timeout(limit_s):
                await self._ended.wait()
        return self._ended.is_set()

    def drop(self, why: str) -> None:
        """Cut it, since it is of no use any more."""
        self.dropped_for = self.dropped_for or why
        self.abort()

    def abort(self) -> None:
        """Cut it: what waits on it fails at once."""
        self._ended.set()
        self._transport.abort()

    async def end(self) -> None:
        """Say goodbye where the other side listens, and cut it in any case. Idempotent."""
        try:
            with contextlib.suppress(LinkLost), faults_as_lost():
                await within(CLOSE_LIMIT_S, self.close(), self.abort)
        finally:
            self.abort()


def _named(url: str, name: str) -> URL:
    given = make_url(url, name=name)
    return given if "heartbeat" in given.query else make_url(given, heartbeat=HEARTBEAT_S)


def _words(url: URL, error: LinkLost) -> tuple[str, bool]:
    """Why no connection came about, for people, where the libraries have no good words; and whether we were refused."""
    cause = error.__cause__
    if isinstance(cause, InvalidFrameError) and "Connection.Close" in str(cause):  # instead of the vhost's door being opened
        return f"the vhost {unquote(url.path[1:]) or '/'} is missing, or not open to this user", True
    for name in ("cafile", "certfile", "keyfile"):
        if (path := url.query.get(name)) is not None and not os.access(path, os.R_OK):
            return f"{name} {path} cannot be read", True
    behind = cause
    while behind is not None:
        if isinstance(behind, ssl.SSLError) and not isinstance(behind, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return f"TLS: {(behind.reason or str(behind)).replace('_', ' ').lower()}", True
        behind = behind.__cause__
    if (
        url.scheme == "amqps"
        and cause is not None
        and isinstance(cause.__cause__, ConnectionResetError | asyncio.IncompleteReadError)
    ):
        return f"{error} (the broker may want a certificate of ours, or not trust the one it got)", error.refused
    return str(error), error.refused
