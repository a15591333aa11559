"""A proxy in front of a broker that understands AMQP as far as needed to break single connections in ways that TCP alone does not."""

import asyncio
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from tests.support.held_port import HOST

_METHOD, _HEADER, _BODY = 1, 2, 3
_HEAD_BYTES = 7  # of a frame: type, channel, size
_DELIVER, _ACK = (60, 60), (60, 80)  # class and method
_CHUNK = 64 * 1024


class Pace:
    """How fast everything goes through, from now on."""

    def __init__(self) -> None:
        self.bytes_per_s = math.inf  # to the broker
        self.confirm_s = 0.0  # a broker that writes slowly confirms so much later; what it says behind that waits, too


class Passage:
    """One connection that goes through. `name` is what the client calls it; empty until it has said so."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter, deaf: set[str], pace: Pace) -> None:
        self._client, self._server, self._deaf_ones = client, server, deaf
        self._going = asyncio.Event()
        self._going.set()
        self._left: int | None = None  # bytes that may still go to the broker
        self._hangs_up = False
        self.ended = asyncio.Event()
        self._pace = pace
        self.deaf = False
        self.name = ""

    def hold(self, *, hold: bool = True) -> None:
        """Pass nothing on in either direction, as if the way were gone; or go on with what waits."""
        if hold:
            self._going.clear()
        else:
            self._going.set()

    def cut_after(self, size: int) -> None:
        """Let this many more bytes to the broker, then cut it."""
        self._left = size

    def hang_up(self) -> None:
        """Close the client's side together with the broker's next frame, as a broker does that has nothing more to say."""
        self._hangs_up = True

    def close(self) -> None:
        """End it in order where it hung up, and cut it elsewhere."""
        if self._hangs_up:
            self._server.close()
        else:
            self.cut()

    def cut(self) -> None:
        """Cut both sides at once."""
        self.ended.set()
        for writer in (self._client, self._server):
            writer.transport.abort()

    async def to_broker(self, reader: asyncio.StreamReader) -> None:
        """Pass on what the client says."""
        began = bytearray()
        while data := await reader.read(_CHUNK):
            await self._going.wait()
            if not self.name:
                began += data
                self.name = _name_in(bytes(began))
                self.deaf = not self._deaf_ones.isdisjoint(self.name.split())
            if self._left is not None and len(data) >= self._left:
                self._server.write(data[: self._left])
                await self._server.drain()
                self.cut()
                return
            if self._left is not None:
                self._left -= len(data)
            await asyncio.sleep(len(data) / self._pace.bytes_per_s)
            self._server.write(data)
            await self._server.drain()

    async def to_client(self, reader: asyncio.StreamReader) -> None:
        """Pass on what the broker says, but for deliveries where it is deaf."""
        skipping: set[int] = set()
        while True:
            head = await reader.readexactly(_HEAD_BYTES)
            payload = await reader.readexactly(int.from_bytes(head[3:]) + 1)
            await self._going.wait()
            kind, channel = head[0], int.from_bytes(head[1:3])
            if kind == _METHOD:
                skipping.discard(channel)
                if self.deaf and _method(payload) == _DELIVER:
                    skipping.add(channel)
            if kind == _METHOD and _method(payload) == _ACK:
                await asyncio.sleep(self._pace.confirm_s)
            if channel in skipping and kind in (_METHOD, _HEADER, _BODY):
                continue
            self._client.write(head + payload)
            if self._hangs_up:
                self._client.close()
                return
            await self._client.drain()


class AmqpProxy:
    """Passes everything on to the broker at `broker_port`, until it is told otherwise of connections whose names have a word in them."""

    def __init__(self, broker_port: int) -> None:
        self._broker_port = broker_port
        self._passages: list[Passage] = []
        self._serving: set[asyncio.Task[None]] = set()
        self._deaf: set[str] = set()  # words of connections that are to be deaf when they come
        self.pace = Pace()
        self.port = 0
        self.refuses = False

    def named(self, word: str) -> Iterator[Passage]:
        """The open connections with this word in their names."""
        return (passage for passage in list(self._passages) if word in passage.name.split())

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["AmqpProxy"]:
        """Serve for as long as the block runs; then cut everything."""
        server = await asyncio.start_server(self._accept, HOST, 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.refuses = True
            for passage in list(self._passages):
                passage.cut()
            await asyncio.gather(*self._serving, return_exceptions=True)

    def cut(self, word: str = "tidegate") -> None:
        """Cut those that are open; others may come."""
        for passage in self.named(word):
            passage.cut()

    def deafen(self, word: str, *, later: bool = False) -> None:
        """Bring no delivery to those that are open, as if there were none; with `later` to none that will be open, either."""
        for passage in self.named(word):
            passage.deaf = True
        if later:
            self._deaf.add(word)

    def hear(self, word: str) -> None:
        """Those that come from now on are not deaf."""
        self._deaf.discard(word)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, client_reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        try:
            if self.refuses:
                raise ConnectionRefusedError
            server_reader, server = await asyncio.open_connection(HOST, self._broker_port)
        except OSError:
            client.transport.abort()
            return
        passage = Passage(client, server, self._deaf, self.pace)
        self._passages.append(passage)
        ways = [asyncio.create_task(passage.to_broker(client_reader)), asyncio.create_task(passage.to_client(server_reader))]
        ended = asyncio.create_task(passage.ended.wait())
        try:
            await asyncio.wait([*ways, ended], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._passages.remove(passage)
            for task in (*ways, ended):
                task.cancel()
            await asyncio.gather(*ways, ended, return_exceptions=True)
            passage.close()


def _method(payload: bytes) -> tuple[int, int]:
    return int.from_bytes(payload[:2]), int.from_bytes(payload[2:4])


def _name_in(began: bytes) -> str:
    """The name that a client gives its connection in its first method, once that is there whole."""
    key = b"connection_nameS"
    at = began.find(key)
    if at < 0:
        return ""
    start = at + len(key) + 4
    size = int.from_bytes(began[start - 4 : start])
    name = began[start : start + size]
    return name.decode() if len(name) == size else ""
