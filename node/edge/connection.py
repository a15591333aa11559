"""One Engine.IO connection: its outbox, and the transport that empties it, WebSocket or long-polling.

Takes the place of python-engineio's socket in its server's table. What differs: the outbox is counted in bytes
and filled without awaiting, packets arrive encoded, closing closes the transport itself, and what is
not a packet ends the connection.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Literal, Protocol

from node.core.events import EndReason

PING, PONG, PROBE, PROBE_ANSWER, UPGRADE, NOOP, CLOSE = "2", "3", "2probe", "3probe", "5", "6", "1"


class MalformedPacket(Exception):
    """Not an Engine.IO packet, or none that a client may send here."""


class Hearer(Protocol):
    """Whom a packet is for, where there is an end to what he may hear."""

    lineage: str

    def hears(self, now: int) -> bool:
        """Whether what was queued for him may be sent at `now`."""
        ...


class Parcel(Protocol):
    """What a packet is part of, for who wants to know what became of it.

    Up to the moment `until` a write is only counted: whoever writes adds to `count`, and the moment to `moments`. From it on `written`
    is told.
    """

    until: float
    count: int
    moments: int

    def written(self, to: Hearer, now: int) -> None:
        """It was written to the socket of `to`, or handed to the answer of his poll, and that was done at `now`."""
        ...


class Flow:
    """Whether a peer has stopped reading, or is gone: then what is written waits, or fails; else it goes to the system at once."""

    __slots__ = ("stalled",)

    def __init__(self) -> None:
        self.stalled = False


class WebSocket(Protocol):
    """One accepted WebSocket."""

    flow: Flow

    async def receive(self) -> str | bytes | None:
        """The next message; None once the peer is gone."""
        ...

    async def send(self, packet: str | bytes) -> None:
        """Write one message, waiting while the peer does not read."""
        ...

    async def close(self, code: int) -> None:
        """Write the close frame."""
        ...

    def drop(self) -> None:
        """Close the TCP connection now, without waiting for the peer; idempotent."""
        ...


class Connection:
    """The server's end of one Engine.IO session.

    `put` never awaits; `close` is idempotent. `on_message` is awaited for each message in order and may raise
    `MalformedPacket`; `on_closed` is called once, with the reason; `on_drained` when the outbox has run empty after a time at or
    above `high_bytes`; `on_pong` for each heartbeat.
    """

    UPGRADING_POLL_S = 0.1  # a poll while the client moves to a WebSocket: it may be the one whose end the client waits for
    FLUSH_S = 0.15  # what a closing WebSocket may take for its last packets: inside the 250 ms that PROTOCOL gives an expiry

    def __init__(
        self,
        sid: str,
        environ: dict[str, Any],
        *,
        high_bytes: int,
        clock: Callable[[], int],
        on_message: Callable[["Connection", str | bytes], Awaitable[None]],
        on_closed: Callable[["Connection", EndReason], None],
        on_drained: Callable[["Connection"], None],
        on_pong: Callable[["Connection"], None],
    ) -> None:
        self.sid, self.environ = sid, environ
        self.transport: Literal["polling", "websocket"] = "polling"
        self.closed = False
        self.reason: EndReason | None = None
        self.upgrading = False
        self.accepted = 0  # namespaces, so far
        self.withdrawn: set[str] = set()  # namespaces that we ended: a packet that was on its way to one is no fault
        self.unsent = 0  # of the outbox, in characters or bytes: a bound on memory, not a bill
        self._high, self._clock = high_bytes, clock
        self._low = asyncio.Event()  # not set from the time the outbox is at its high mark until it has run empty
        self._low.set()
        self._outbox: deque[tuple[str | bytes, Hearer | None, Parcel | None]] = deque()
        self._filled = asyncio.Event()
        self._on_message, self._on_closed, self._on_drained, self._on_pong = on_message, on_closed, on_drained, on_pong
        self._polling = False
        self._websocket: WebSocket | None = None
        self._close_code = 1000

    @property
    def unpolled(self) -> bool:
        """Whether it is a long-polling session for which no poll waits."""
        return self.transport == "polling" and not self._polling

    @property
    def slow(self) -> bool:
        """Whether its outbox has been at the high mark and has not run empty since."""
        return not self._low.is_set()

    def put(self, packet: str | bytes, to: Hearer | None = None, of: Parcel | None = None) -> None:
        """Queue an encoded packet; dropped once the connection is closed, or when its turn comes and `to` may not hear it any more.

        `of`, which goes with a `to`, is told when it is written.
        """
        if self.closed:
            return
        self._outbox.append((packet, to, of))
        self.unsent += len(packet)
        if self.unsent >= self._high:
            self._low.clear()
        self._filled.set()

    def silent(self) -> None:
        """It has not answered a ping in time: gone, or too slow to come to it."""
        self.close("timeout" if self._low.is_set() else "slow")

    async def drained(self) -> None:
        """Wait while the outbox has been at its high mark and has not run empty since; not for a closed connection."""
        await self._low.wait()

    def close(self, reason: EndReason, *, code: int = 1000) -> None:
        """End the connection: what is queued still goes, within `FLUSH_S`, then the transport is closed. Idempotent.

        `code` is the WebSocket close code.
        """
        if self.closed:
            return
        # 1. nothing more is put, received or answered from here on
        self.closed, self.reason, self._close_code = True, reason, code
        # 2. the layers above forget it
        self._on_closed(self, reason)
        # 3. a waiting poll, or the writer, wakes and sends what is left; nobody waits for room
        self._filled.set()
        self._low.set()
        # 4. a peer that does not read, or does not answer the close frame, is not waited for
        if self._websocket is not None:
            asyncio.get_running_loop().call_later(self.FLUSH_S, self._websocket.drop)

    # WebSocket

    async def serve_websocket(self, websocket: WebSocket) -> None:
        """Run an accepted WebSocket to its end."""
        self.transport, self._websocket = "websocket", websocket
        self._filled.set()  # a poll that still waits is over
        tasks = {asyncio.ensure_future(self._write(websocket)), asyncio.ensure_future(self._read(websocket))}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.close("transport")
            await asyncio.wait(tasks, timeout=self.FLUSH_S)
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            self._clear()
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _write(self, websocket: WebSocket) -> None:
        while not (self.closed and not self._outbox):
            await self._filled.wait()
            while self._outbox:
                packet, to, of = self._outbox.popleft()
                size, now = len(packet), self._clock()
                if to is None or to.hears(now):
                    # 1. what goes at once is told before it does: behind a system call each line costs what ten cost before it
                    if of is not None and to is not None and not websocket.flow.stalled:
                        if now < of.until:
                            of.count += 1
                            of.moments += now
                        else:
                            of.written(to, now)
                        of = None
                    await websocket.send(packet)
                    # 2. what the peer has kept waiting is told when he has taken it
                    if of is not None and to is not None:
                        of.written(to, self._clock())
                of = None  # or it would be held until the next one comes
                self.unsent -= size
            if not self.closed:
                self._filled.clear()
            self._run_empty()  # which may fill it
        await websocket.close(self._close_code)

    async def _read(self, websocket: WebSocket) -> None:
        while (packet := await websocket.receive()) is not None and not self.closed:
            try:
                await self.receive(packet)
            except MalformedPacket:
                self.close("transport", code=1002)
        if not self.closed:
            self.close("transport")

    async def upgrade(self, websocket: WebSocket) -> None:
        """Probe a WebSocket for a session that began with long-polling, then move to it.

        One that does not probe, or goes away, changes nothing; the end of the session is its end too.
        """
        self.upgrading, self._websocket = True, websocket
        try:
            if await websocket.receive() != PROBE:
                return await websocket.close(1002)
            await websocket.send(PROBE_ANSWER)
            if self._polling or not self._outbox:
                self.put(NOOP)  # ends the poll that waits, or the next one
            if await websocket.receive() != UPGRADE or self.closed:
                return await websocket.close(1002)
        finally:
            self.upgrading, self._websocket = False, None
        await self.serve_websocket(websocket)
        return None

    # Long-polling

    async def poll(self, wait_s: float) -> list[str | bytes] | None:
        """The packets for one GET, waiting for the first; None where the session is over. While it moves to a WebSocket, not for long.

        A second poll while one waits is a broken client: it ends the session, and both.
        """
        if self.transport != "polling":
            return None
        if self._polling:
            self._outbox.clear()
            self._outbox.append((CLOSE, None, None))
            self.close("transport")
            return None
        if self.closed:
            return None
        self._polling = True
        try:
            async with asyncio.timeout(self.UPGRADING_POLL_S if self.upgrading else wait_s):
                await self._filled.wait()
        except TimeoutError:
            if self.upgrading:
                return [NOOP]
            self.close("timeout")
            return None
        finally:
            self._polling = False
        if self.transport != "polling":
            return [NOOP]  # what there is to send belongs to the WebSocket
        now, size = self._clock(), sum(len(packet) for packet, _, _ in self._outbox)
        packets = []
        for packet, to, of in self._outbox:
            if to is None or to.hears(now):
                packets.append(packet)
                if of is not None and to is not None:
                    of.written(to, now)
        if self.reason == "client" or not (packets or self.closed):
            packets.append(NOOP)
        elif not packets:
            packets.append(CLOSE)  # never behind an event: a stock client closes first, and shows the event to its next session
        self._outbox.clear()
        if not self.closed:
            self._filled.clear()
        self.unsent = max(0, self.unsent - size)
        self._run_empty()
        return packets

    # Packets

    async def receive(self, packet: str | bytes) -> None:
        """Take one packet of the client; of a closed connection none. Raises `MalformedPacket`."""
        if self.closed:
            return None
        if isinstance(packet, bytes):
            return await self._on_message(self, packet)
        match packet[:1]:
            case "4":
                await self._on_message(self, packet[1:])
            case "3":
                self._on_pong(self)
            case "1":
                self.close("client")
            case _:
                raise MalformedPacket("not a packet that a client sends")
        return None

    def _run_empty(self) -> None:
        if not self._low.is_set() and not self._outbox and not self.closed:
            self._low.set()
            self._on_drained(self)

    def _clear(self) -> None:
        self._outbox.clear()
        self.unsent = 0
