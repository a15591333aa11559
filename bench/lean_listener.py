"""A Socket.IO client of any server that costs as little as can be: it counts the events of one name, and keeps the last of them."""

import asyncio
import base64
import json
import os
import struct
import time
from typing import Any, cast
from urllib.parse import urlsplit

from bench.lean_client import frame_of

_ANSWER_S = 60.0


class LeanListener(asyncio.Protocol):
    """Counts the packets that begin with `42["tick"`."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._open = False
        self._next_id = 0
        self._connected: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._answers: dict[int, asyncio.Future[list[Any]]] = {}
        self._ticks: list[tuple[int, float]] | None = None
        self.count = 0
        self._awaited: tuple[int, asyncio.Future[None]] | None = None
        self.last_at = 0.0
        self.lost = False

    @classmethod
    async def connect(cls, url: str) -> "LeanListener":
        """One that is connected to the namespace `/`."""
        client, address = cls(), urlsplit(url)
        assert address.hostname is not None and address.port is not None
        await asyncio.get_running_loop().create_connection(lambda: client, address.hostname, address.port)
        assert client._transport is not None
        key = base64.b64encode(os.urandom(16)).decode()
        client._transport.write(
            f"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {address.netloc}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        await asyncio.wait_for(client._connected, _ANSWER_S)
        return client

    async def ask(self, event: str, *arguments: Any) -> list[Any]:
        """Emit an event; what it is acked with."""
        number, self._next_id = self._next_id, self._next_id + 1
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        self._send(b"42%d" % number + json.dumps([event, *arguments]).encode())
        return await asyncio.wait_for(answer, _ANSWER_S)

    def tell(self, event: str, *arguments: Any) -> None:
        """Emit an event that wants no answer."""
        self._send(b"42" + json.dumps([event, *arguments]).encode())

    def keep(self) -> list[tuple[int, float]]:
        """What comes from now on: the number of each event, and how many seconds it took where it says when it was sent."""
        ticks: list[tuple[int, float]] = []
        self._ticks = ticks
        return ticks

    async def heard(self, count: int) -> None:
        """Return once so many have come."""
        if self.count < count:
            self._awaited = count, asyncio.get_running_loop().create_future()
            await self._awaited[1]

    async def quiet(self, quiet_s: float) -> None:
        """Return once nothing has come for so long."""
        left_s = quiet_s
        while left_s > 0:
            await asyncio.sleep(left_s)
            left_s = self.last_at + quiet_s - time.monotonic()

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one, and does not say so

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self.lost = True

    def data_received(self, data: bytes) -> None:
        """Cut frames; a server's frames are not masked."""
        buffer = self._buffer
        buffer += data
        if not self._open:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            del buffer[: end + 4]
            self._open = True
        at = 0
        while (frame := frame_of(buffer, at)) is not None:
            code, start, at = frame
            if code == 0x81:
                self._take(buffer, start, at)
        del buffer[:at]

    def _take(self, buffer: bytearray, start: int, end: int) -> None:
        if buffer.startswith(b'42["tick"', start, end):
            self.count += 1
            self.last_at = time.monotonic()
            if self._awaited is not None and self.count >= self._awaited[0]:
                self._awaited[1].set_result(None)
                self._awaited = None
            if self._ticks is not None:
                tick = json.loads(buffer[start + 2 : end])[1]
                self._ticks.append((tick["number"], self.last_at - tick.get("at", self.last_at)))
            return
        packet = bytes(buffer[start:end])
        if packet == b"2":
            self._send(b"3")
        elif packet.startswith(b"0"):
            self._send(b"40")
        elif packet.startswith(b"40") and not self._connected.done():
            self._connected.set_result(None)
        elif packet.startswith(b"43"):
            number, _, answer = packet[2:].partition(b"[")
            self._answers.pop(int(number)).set_result(json.loads(b"[" + answer))

    def _send(self, packet: bytes) -> None:
        """One masked text frame; the mask is nought, so the payload stays as it is."""
        size = len(packet)
        head = struct.pack(">BB", 0x81, 0x80 | size) if size < 126 else struct.pack(">BBH", 0x81, 0x80 | 126, size)
        assert self._transport is not None
        self._transport.write(head + b"\0\0\0\0" + packet)
