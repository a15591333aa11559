"""A chat client that costs as little as can be: one asyncio protocol that cuts WebSocket frames by hand and decodes no JSON it need not."""

import asyncio
import base64
import json
import os
import struct
import time
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import urlsplit

_TEXT_AT = b'"text":"'
_ANSWER_S = 10.0


class LeanClient(asyncio.Protocol):
    """A user on one node. The text of a message is the moment when it was due, by the machine's monotonic clock."""

    def __init__(self, *, delivered: Callable[[float, float], None], acked: Callable[[float, float, bool], None]) -> None:
        self._delivered, self._acked = delivered, acked
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._open = False
        self._next_id = 0
        self._due: dict[int, float] = {}
        self._waiting: dict[bytes, asyncio.Future[bytes]] = {}
        self.lost: str | None = None

    # Setting up

    @classmethod
    async def connect(cls, url: str, token: str, **heard: Any) -> "LeanClient":
        """A client that has been welcomed."""
        client, address = cls(**heard), urlsplit(url)
        loop = asyncio.get_running_loop()
        assert address.hostname is not None and address.port is not None
        await loop.create_connection(lambda: client, address.hostname, address.port)
        begun = client.next_packet(b"0")
        assert client._transport is not None
        key = base64.b64encode(os.urandom(16)).decode()
        client._transport.write(
            f"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {address.netloc}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        await asyncio.wait_for(begun, _ANSWER_S)
        welcomed = client.next_packet(b'42["welcome"')
        client.send(b"40" + json.dumps({"token": token}).encode())
        await asyncio.wait_for(welcomed, _ANSWER_S)
        return client

    async def ask(self, name: str, payload: dict[str, Any]) -> dict[str, Any]:
        """A command and its ack."""
        number, self._next_id = self._next_id, self._next_id + 1
        answer = self.next_packet(b"43%d[" % number)
        self.send(b"42%d" % number + json.dumps([name, payload]).encode())
        packet = await asyncio.wait_for(answer, _ANSWER_S)
        (found,) = json.loads(packet[packet.index(b"[") :])
        assert isinstance(found, dict)
        return found

    def next_packet(self, beginning: bytes) -> "asyncio.Future[bytes]":
        """The next packet that begins so."""
        return self._waiting.setdefault(beginning, asyncio.get_running_loop().create_future())

    # The measured path

    def say(self, room: bytes, due: float) -> None:
        """Send a message to a room; `acked` hears of its answer."""
        number, self._next_id = self._next_id, self._next_id + 1
        self._due[number] = due
        self.send(b'42%d["message:send",{"room":"%b","text":"%.6f"}]' % (number, room, due))

    def send(self, packet: bytes) -> None:
        """One masked text frame; the mask is nought, so the payload stays as it is."""
        size = len(packet)
        head = struct.pack(">BB", 0x81, 0x80 | size) if size < 126 else struct.pack(">BBH", 0x81, 0x80 | 126, size)
        assert self._transport is not None
        self._transport.write(head + b"\0\0\0\0" + packet)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one, and does not say so

    def data_received(self, data: bytes) -> None:
        """Cut frames; a server's frames are not masked."""
        buffer = self._buffer
        buffer += data
        if not self._open:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            if not buffer.startswith(b"HTTP/1.1 101 "):
                self.lost = bytes(buffer[:200]).decode(errors="replace")
                return
            del buffer[: end + 4]
            self._open = True
        at = 0
        while (frame := frame_of(buffer, at)) is not None:
            code, start, at = frame
            if code == 0x81:
                self._take(bytes(buffer[start:at]))
            elif code == 0x88:
                self.lost = f"closed by the server: {bytes(buffer[start:at])!r}"
        del buffer[:at]

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self.lost = self.lost or f"connection lost: {exc}"

    def _take(self, packet: bytes) -> None:
        now = time.monotonic()
        if packet.startswith(b'42["message",'):
            start = packet.index(_TEXT_AT) + len(_TEXT_AT)
            self._delivered(float(packet[start : packet.index(b'"', start)]), now)
            return
        if packet == b"2":
            self.send(b"3")
            return
        if self._waiting:
            for beginning, future in list(self._waiting.items()):
                if packet.startswith(beginning):
                    del self._waiting[beginning]
                    future.set_result(packet)
                    return
        if packet.startswith(b"43"):
            number, _, answer = packet[2:].partition(b"[")
            self._acked(self._due.pop(int(number)), now, answer.startswith(b'{"ok":true'))

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()


def frame_of(buffer: bytearray, at: int) -> tuple[int, int, int] | None:
    """The first byte of the frame at `at`, where its payload begins and where it ends; None while it is not whole."""
    if len(buffer) < at + 2:
        return None
    size, start = buffer[at + 1], at + 2
    if size > 125:
        width = 2 if size == 126 else 8
        if len(buffer) < start + width:
            return None
        size = int.from_bytes(buffer[start : start + width], "big")
        start += width
    return (buffer[at], start, start + size) if len(buffer) >= start + size else None
