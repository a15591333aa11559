"""A node that only plays: it lets in who comes, and sends messages of rooms at a steady pace, to one member after the other as a node does.

`python -m bench.scripted_node CONNECTIONS EVENTS_A_SECOND SECONDS` says on its first line on which port it listens, begins a second after
everybody is there, says at the end how many events it sent, and closes all connections. Nothing that comes behind the CONNECT is looked at.
"""

import asyncio
import base64
import hashlib
import json
import struct
import sys
import time
from typing import Any, cast

MEMBERS = 20  # of a room; each connection is in one
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_OPENED = b'0{"sid":"kJ3sVn0c1yQmTzqAAAAB","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":65536}'
_REST_S = 1.0


class _Connection(asyncio.Protocol):
    """One of them: the upgrade, then a packet of the client's that is taken for its CONNECT."""

    def __init__(self, crowd: list["_Connection"], wanted: int, complete: "asyncio.Future[None]") -> None:
        self._crowd, self._wanted, self._complete = crowd, wanted, complete
        self._transport: asyncio.Transport | None = None
        self._asked, self._upgraded, self._here = b"", False, False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one, and does not say so

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if not self._upgraded:
            self._asked += data
            if b"\r\n\r\n" in self._asked:
                self._upgrade()
        elif not self._here:
            self._here = True
            room = {"room": room_of(len(self._crowd)), "seq": 0}
            ends = int((time.time() + 3600) * 1000)
            told = {"session": "s" * 22, "node": "n1", "user": "u", "expires_at": ends, "resumed": False, "ticket": "t" * 120}
            self.write(frame(b'40{"sid":"s"}') + frame(event("welcome", told | {"rooms": [room]})))
            self._crowd.append(self)
            if len(self._crowd) == self._wanted:
                self._complete.set_result(None)

    def _upgrade(self) -> None:
        headers = dict(line.lower().partition(b":")[::2] for line in self._asked.split(b"\r\n"))
        assert headers[b"upgrade"].strip() == b"websocket"
        key = next(line for line in self._asked.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key:")).partition(b":")[
            2
        ]
        accept = base64.b64encode(hashlib.sha1(key.strip() + _GUID).digest())
        answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        self.write(answer + accept + b"\r\n\r\n" + frame(_OPENED))
        self._upgraded, self._asked = True, b""

    def write(self, data: bytes) -> None:
        """Send this."""
        assert self._transport is not None
        self._transport.write(data)

    def close(self) -> None:
        """Close the connection."""
        assert self._transport is not None
        self._transport.close()


def room_of(number: int) -> str:
    """The room of the connection that came as this one."""
    return f"load-{number // MEMBERS}"


def event(name: str, payload: dict[str, Any]) -> bytes:
    """Its packet."""
    return b"42" + json.dumps([name, payload], separators=(",", ":")).encode()


def frame(packet: bytes) -> bytes:
    """A text frame of a server's."""
    size = len(packet)
    return (struct.pack(">BB", 0x81, size) if size < 126 else struct.pack(">BBH", 0x81, 126, size)) + packet


async def play(connections: int, events_per_s: float, seconds: float) -> None:
    """All of it."""
    crowd, complete = list[_Connection](), asyncio.get_running_loop().create_future()
    server = await asyncio.get_running_loop().create_server(
        lambda: _Connection(crowd, connections, complete), "127.0.0.1", 0, backlog=connections
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await complete
    await asyncio.sleep(_REST_S)
    rooms = [crowd[start : start + MEMBERS] for start in range(0, connections, MEMBERS)]
    began, sent, number = time.monotonic(), 0, 0
    while (now := time.monotonic()) < began + seconds:
        await asyncio.sleep(max(0.0, began + sent / events_per_s - now))
        place, seq = number % len(rooms), number // len(rooms) + 1
        said = {
            "room": room_of(place * MEMBERS),
            "seq": seq,
            "id": f"193a6cf25f0-{number}",
            "from": f"load-talker-{number % 300}",
        }
        text = f"{time.time():.6f} the quick brown fox jumps over the lazy dog"
        packet = frame(event("message", said | {"text": text, "at": int(time.time() * 1000)}))
        for member in rooms[place]:
            member.write(packet)
        sent, number = sent + len(rooms[place]), number + 1
    await asyncio.sleep(_REST_S)
    print(sent, flush=True)
    for connection in crowd:
        connection.close()


if __name__ == "__main__":
    asyncio.run(play(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])))
