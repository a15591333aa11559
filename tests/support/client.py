"""A plain Socket.IO client for tests of the protocol: every packet in sight, nothing done behind the test's back but pongs."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.support.wait import wait_until

Payload = dict[str, Any]
PATIENCE_S = 5.0  # for an answer of a node on a machine that is busy with other tests


def engine_url(url: str, transport: str = "websocket", **query: str) -> str:
    """The URL of an Engine.IO request; `http` becomes `ws` for WebSockets."""
    base = url.replace("http", "ws", 1) if transport == "websocket" else url
    return f"{base}/socket.io/?" + "&".join(f"{k}={v}" for k, v in ({"EIO": "4", "transport": transport} | query).items())


@asynccontextmanager
async def websocket(url: str, *, receive_buffer: int = 0, **query: str) -> AsyncIterator[ClientConnection]:
    """An open Engine.IO WebSocket, before its handshake packet was read; nothing answers its pings.

    `receive_buffer` is how many bytes the kernel may hold for a client that does not read (0: what it likes).
    """
    with socket.socket() as tcp:
        if receive_buffer:
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        parts = urlsplit(url)
        tcp.setblocking(False)
        await asyncio.get_running_loop().sock_connect(tcp, (parts.hostname, parts.port))
        address = engine_url(url, **query)
        async with connect(address, sock=tcp, compression=None, ping_interval=None, close_timeout=1, max_size=None) as opened:
            yield opened


async def close_code(opened: ClientConnection) -> int:
    """Read to the end of a WebSocket that is being closed, and return the code of the close."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                await opened.recv()
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else 1006


class ConnectRefused(Exception):
    """A CONNECT_ERROR; `data` is the packet's object."""

    def __init__(self, data: Payload) -> None:
        super().__init__(str(data))
        self.data = data

    @property
    def code(self) -> str:
        return str(self.data["data"]["code"])


class Client:
    """A Socket.IO client on one WebSocket, in one or more namespaces.

    `packets` has all Socket.IO packets as they came, `events` the events among them, of all namespaces, as `(name, payload)`.
    """

    def __init__(self, opened: ClientConnection) -> None:
        self._socket = opened
        self.packets: list[str] = []
        self.events: list[tuple[str, Payload]] = []
        self.close_code: int | None = None
        self._taken = 0
        self._acks: dict[int, list[Any]] = {}
        self._next_id = 0
        self._reader: asyncio.Task[None] | None = None
        self._may_read = asyncio.Event()
        self._may_read.set()

    # Connecting

    async def begin(self) -> None:
        """Read Engine.IO's handshake and start to read."""
        async with asyncio.timeout(PATIENCE_S):
            assert str(await self._socket.recv()).startswith("0")
        self._reader = asyncio.create_task(self._read())

    async def join_namespace(self, auth: Payload | None, namespace: str = "/") -> Payload:
        """CONNECT, and wait for `welcome`. Raises `ConnectRefused`."""
        prefix = "" if namespace == "/" else f"{namespace},"
        await self.send(f"40{prefix}{json.dumps(auth) if auth is not None else ''}")
        seen = len(self.packets)
        await wait_until(lambda: self._verdict(prefix, seen) or self.closed, PATIENCE_S, f"an answer to CONNECT {namespace}")
        verdict = self._verdict(prefix, seen)
        assert verdict is not None, f"closed with {self.close_code} instead of an answer to CONNECT"
        if verdict.startswith("44"):
            raise ConnectRefused(json.loads(verdict[2 + len(prefix) :]))
        return await self.expect("welcome")

    def _verdict(self, prefix: str, since: int) -> str | None:
        return next((p for p in self.packets[since:] if p.startswith((f"40{prefix}", f"44{prefix}"))), None)

    # Asking

    async def ask(self, name: str, *arguments: Any, namespace: str = "/") -> Payload:
        """Send an event and wait for its ack's one argument."""
        ack = await self.begin_ask(name, *arguments, namespace=namespace)
        await wait_until(lambda: ack in self._acks or self.closed, PATIENCE_S, f"an ack to {name}")
        assert ack in self._acks, f"closed with {self.close_code} instead of an ack to {name}"
        (answer,) = self._acks.pop(ack)
        assert isinstance(answer, dict)
        return answer

    async def begin_ask(self, name: str, *arguments: Any, namespace: str = "/") -> int:
        """Send an event that wants an ack; returns its id, for `acked`."""
        ack, self._next_id = self._next_id, self._next_id + 1
        prefix = "" if namespace == "/" else f"{namespace},"
        await self.send(f"42{prefix}{ack}{json.dumps([name, *arguments])}")
        return ack

    def acked(self, ack: int) -> list[Any] | None:
        """The arguments of the ack with this id, if it has come."""
        return self._acks.get(ack)

    async def send(self, packet: str | bytes) -> None:
        """Send one Engine.IO packet as it is."""
        await self._socket.send(packet)

    # Seeing

    async def expect(self, name: str, **fields: Any) -> Payload:
        """The next event with this name and these fields, of those that no `expect` has passed; earlier ones are passed by."""
        found: list[tuple[int, Payload]] = []

        def look() -> bool:
            for place in range(self._taken, len(self.events)):
                event, payload = self.events[place]
                if event == name and all(payload.get(field) == value for field, value in fields.items()):
                    found.append((place, payload))
                    return True
            return False

        try:
            await wait_until(look, PATIENCE_S, f"event {name} {fields}")
        except AssertionError as late:
            raise AssertionError(f"{late}; closed {self.close_code}; since then: {self.events[self._taken :]}") from None
        self._taken = found[0][0] + 1
        return found[0][1]

    def named(self, name: str) -> list[Payload]:
        """All events of this name so far."""
        return [payload for event, payload in self.events if event == name]

    @property
    def closed(self) -> bool:
        return self.close_code is not None

    async def wait_closed(self, deadline_s: float = PATIENCE_S) -> int:
        """Wait for the server to close; returns the WebSocket close code."""
        await wait_until(lambda: self.closed, deadline_s, "the server closes the connection")
        assert self.close_code is not None
        return self.close_code

    def stop_reading(self) -> None:
        """Leave what comes in the socket's buffers, which are small: a client that cannot keep up."""
        self._may_read.clear()

    def read_again(self) -> None:
        """The end of `stop_reading`."""
        self._may_read.set()

    async def aclose(self) -> None:
        """Close the WebSocket and stop reading."""
        self._may_read.set()
        await self._socket.close()
        if self._reader is not None:
            await self._reader

    async def _read(self) -> None:
        try:
            while await self._may_read.wait():
                packet = await self._socket.recv()
                if packet == "2":
                    await self._socket.send("3")
                elif isinstance(packet, str) and packet.startswith("4"):
                    self.packets.append(packet)
                    self._take(packet[1:])
        except ConnectionClosed as closed:
            self.close_code = closed.rcvd.code if closed.rcvd else 1006

    def _take(self, packet: str) -> None:
        kind, rest = packet[0], packet[1:]
        if rest.startswith("/"):
            rest = rest.partition(",")[2]
        if kind == "2":
            name, payload = json.loads(rest)
            self.events.append((name, payload))
        elif kind == "3":
            ack, bracket, arguments = rest.partition("[")
            self._acks[int(ack)] = json.loads(bracket + arguments)


@asynccontextmanager
async def raw_client(url: str, *, receive_buffer: int = 0, **query: str) -> AsyncIterator[Client]:
    """A client after Engine.IO's handshake, in no namespace yet."""
    async with websocket(url, receive_buffer=receive_buffer, **query) as opened:
        client = Client(opened)
        await client.begin()
        try:
            yield client
        finally:
            await client.aclose()


@asynccontextmanager
async def chat_client(url: str, token: str, *, resume: Payload | None = None) -> AsyncIterator[Client]:
    """A client in `/`, welcomed; `welcome` is the first of its `events`."""
    auth: Payload = {"token": token}
    async with raw_client(url) as client:
        await client.join_namespace(auth if resume is None else auth | {"resume": resume})
        yield client


def ok(answer: Payload) -> Payload:
    """The ack of a command that was carried out, without its `ok`."""
    assert answer.get("ok") is True, answer
    return {name: value for name, value in answer.items() if name != "ok"}


def error(answer: Payload) -> Payload:
    """The error of a refused command's ack."""
    assert answer.get("ok") is False, answer
    assert set(answer) == {"ok", "error"}, answer
    found = answer["error"]
    assert isinstance(found, dict), answer
    assert set(found) <= {"code", "message", "field", "retry_after"}, answer
    return found


async def code_of(url: str, bearer: str, **auth: Any) -> str:
    """The code with which a CONNECT is refused; `welcome` where it is not."""
    async with raw_client(url) as client:
        try:
            await client.join_namespace({"token": bearer} | auth)
        except ConnectRefused as refused:
            return refused.code
        return "welcome"
