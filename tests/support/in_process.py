"""A whole node in the test's own process, whose clock and timers move only when the test says so; clients speak ASGI with it.

Everything of the node is real: its log in memory, its read model in a file, tokens and keys, Engine.IO and Socket.IO. The test has
the two clocks in hand: `World.now` is the wall clock, `SteppedLoop.now` the event loop's, by which timers go.
"""

import asyncio
import json
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec

from broker.address import MemoryAddress
from broker.memory import MemoryBroker, MemoryLog
from node.app import Node
from node.config import Settings
from node.core.events import Event, decode
from node.flow.store import open_store
from tests.support.stepped_loop import SteppedLoop
from tests.support.tokens import SECRET

_STEP_MS = 50


class Wrote(msgspec.Struct, frozen=True):
    """The node handed a packet to a transport, when its clock said `at`."""

    at: int
    line: "Line"
    packet: str


class Kept(msgspec.Struct, frozen=True):
    """The log took an event, when the node's clock said `at`."""

    at: int
    event: Event


class _Log(MemoryLog):
    """The log in memory; says what it takes."""

    def __init__(self, partitions: int, told: Callable[[Event], None]) -> None:
        super().__init__(partitions)
        self._told = told

    async def append(self, partition: int, data: bytes) -> None:
        await super().append(partition, data)
        self._told(decode(data))


class World:
    """One node, both its clocks, and a journal of what it wrote to transports and into its log."""

    def __init__(self, folder: Path, now: int, settings: Settings) -> None:
        self.now, self.loop = now, SteppedLoop()
        self.journal: list[Wrote | Kept] = []
        self.faults: list[str] = []
        self.loop.set_exception_handler(lambda _, context: self.faults.append(repr(context)))
        self._stack = AsyncExitStack()
        self.node: Node = self.loop.run_until_complete(self._start(folder, settings))
        self.gateway = self.node.gateway
        self.app = self.gateway.asgi(None)

    async def _start(self, folder: Path, settings: Settings) -> Node:
        broker = MemoryBroker(settings.partitions + 1)
        broker.log = _Log(settings.partitions + 1, lambda event: self.journal.append(Kept(self.now, event)))
        store = await self._stack.enter_async_context(open_store(folder / "n1.db", epoch=broker.log.epoch))
        node = Node(settings, broker, store, clock=lambda: self.now)
        self._stack.push_async_callback(node.aclose)
        for part in (node.projector.run(), node.committer.run(), node.gateway.run()):
            _ = self.run(part)
        await node.projector.ready.wait()
        return node

    def run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin a task; an exception of it is one of `faults`."""
        task = self.loop.create_task(work)
        task.add_done_callback(lambda done: None if done.cancelled() or not done.exception() else self.faults.append(repr(done)))
        return task

    def pass_time(self, ms: int, look: Callable[[], None]) -> None:
        """Let both clocks go on evenly, as they do when nothing is wrong; `look` after each small step."""
        while ms > 0:
            step = min(ms, _STEP_MS)
            ms -= step
            self.now += step
            self.loop.now += step / 1000
            self.loop.settle()
            look()

    def close(self) -> None:
        """End the node and whatever still speaks with it."""
        self.loop.run_until_complete(self._stack.aclose())
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self.loop.close()


def free_node(**changed: Any) -> Settings:
    """A node that limits nobody, and whose heartbeats are too far apart to end anything."""
    plenty: dict[str, Any] = {"handshake_rate": 1e6, "handshake_burst": 1_000_000, "ping_interval_seconds": 3_600.0}
    return Settings(log=MemoryAddress(), partitions=1, jwt_secret={None: SECRET}, **(plenty | changed))


class Line:
    """The client's end of one Engine.IO connection."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.over = False  # the server has ended it
        self.code: int | str | None = None  # with what: a WebSocket's close code, a poll's error

    def put(self, *packets: str, token: str | None = None) -> None:
        """Send Engine.IO packets."""
        raise NotImplementedError

    def hang_up(self) -> None:
        """Go away."""
        raise NotImplementedError

    def _wrote(self, packet: str) -> None:
        self.world.journal.append(Wrote(self.world.now, self, packet))

    def _request(self, kind: str, method: str, transport: str, token: str | None, **query: str) -> dict[str, Any]:
        asked = {"EIO": "4", "transport": transport} | query
        headers = [(b"host", b"test")] + ([(b"authorization", f"Bearer {token}".encode())] if token is not None else [])
        text = "&".join(f"{name}={value}" for name, value in asked.items())
        return {"type": kind, "method": method, "path": "/socket.io/", "query_string": text.encode(), "headers": headers}


class SocketLine(Line, asyncio.Transport):
    """A WebSocket. `reading` says whether the client takes what the server writes, or lets it wait after the first packet."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._inbox.put_nowait({"type": "websocket.connect"})
        self.reading = asyncio.Event()
        self.reading.set()
        scope = self._request("websocket", "GET", "websocket", None) | {"tidegate.transport": self}
        self.task = world.run(world.app(scope, self._inbox.get, self._send))

    def put(self, *packets: str, token: str | None = None) -> None:
        for packet in packets:
            self._inbox.put_nowait({"type": "websocket.receive", "text": packet})

    def hang_up(self) -> None:
        self._end(None)

    async def _send(self, event: dict[str, Any]) -> None:
        if event["type"] == "websocket.close":
            self._end(event["code"])
        elif event["type"] == "websocket.send" and not self.over:
            self._wrote(event["text"])
            await self.reading.wait()

    def _end(self, code: int | None) -> None:
        if not self.over:
            self.over, self.code = True, code
            self._inbox.put_nowait({"type": "websocket.disconnect"})
            self.reading.set()

    # The TCP connection, as the server of HTTP hands it on: what is closed without the peer ends here.

    def is_closing(self) -> bool:
        return self.over

    def get_write_buffer_size(self) -> int:
        return 0 if self.reading.is_set() else 1

    def abort(self) -> None:
        self._end(1006)

    def close(self) -> None:
        self._end(1006)


class PollingLine(Line):
    """Long-polling: `poll` asks for what there is, or waits for it. The client asks again when the test says so."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._sid = ""
        self.poll()
        world.loop.settle()
        self._sid = json.loads(world.journal.pop().packet[1:])["sid"]  # type: ignore[union-attr]

    @property
    def waiting(self) -> bool:
        """Whether a poll waits for something to be sent."""
        return not self.task.done()

    def poll(self, token: str | None = None) -> None:
        """Begin a GET."""
        self.task = self.world.run(self._ask("GET", b"", token))

    def put(self, *packets: str, token: str | None = None) -> None:
        _ = self.world.run(self._ask("POST", "\x1e".join(packets).encode(), token))

    def hang_up(self) -> None:
        self.put("1")

    async def _ask(self, method: str, body: bytes, token: str | None) -> None:
        sid = {"sid": self._sid} if self._sid else {}
        status = 0

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(event: dict[str, Any]) -> None:
            nonlocal status
            status = event.get("status", status)
            if event["type"] != "http.response.body":
                return
            if status != 200:
                self.over, self.code = True, json.loads(event["body"])["error"]["code"]
            elif method == "GET":
                for packet in event["body"].decode().split("\x1e"):
                    self._wrote(packet)

        await self.world.app(self._request("http", method, "polling", token, **sid), receive, send)
