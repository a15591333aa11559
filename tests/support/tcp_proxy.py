"""A TCP proxy on loopback that fails as it is told: connections are cut, refused, stalled, or cut in the middle of what they carry."""

import asyncio
import socket
import struct
import threading
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from tests.support.held_port import HOST, HeldPort

_CALL_S = 10.0
_CHUNK = 65_536
_RESETS = struct.pack("ii", 1, 0)  # SO_LINGER of no time: closing resets the connection and throws away what is unsent


class TcpProxy:
    """Passes bytes between its clients and the port `target` of this machine.

    It lives in a thread of its own, for tests with an event loop and without one; each method has done what it says when it returns. As
    a context manager it is open within the block.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.cuts = 0  # how often `cut_after` has cut
        self._held = HeldPort()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tcp-proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._links: dict[asyncio.Task[None], list[StreamWriter]] = {}
        self._flowing = asyncio.Event()
        self._left: int | None = None  # bytes that may still go to the target

    @property
    def port(self) -> int:
        return self._held.number

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._links)

    def before(self, url: str) -> str:
        """The URL of the target, by way of the proxy."""
        assert f":{self.target}" in url
        return url.replace(f":{self.target}", f":{self.port}")

    # What it can be told

    def cut(self) -> None:
        """Reset every connection. New ones are accepted."""
        self._do(self._cut)

    def refuse(self) -> None:
        """Reset every connection and refuse new ones, until `accept`."""
        self._do(self._refuse)

    def accept(self) -> None:
        """Accept new connections again."""
        self._do(self._listen)

    def stall(self) -> None:
        """Pass nothing on, either way, until `resume`. Connections stay open, and new ones are accepted."""
        self._do(self._flowing.clear)

    def resume(self) -> None:
        """Pass on what has waited, and what comes."""
        self._do(self._flowing.set)

    def cut_after(self, size: int) -> None:
        """Once, when `size` more bytes have gone to the target, reset the connection that brought them. They arrive, no more does."""
        self._do(lambda: setattr(self, "_left", size))

    # Its life

    def __enter__(self) -> Self:
        self._thread.start()
        self.resume()
        self.accept()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.refuse()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CALL_S)
        self._loop.close()
        self._held.release()

    def _do(self, step: Callable[[], Coroutine[Any, Any, None] | None]) -> None:
        """Carry out a step in the proxy's thread, and wait for its end."""

        async def carried_out() -> None:
            if (rest := step()) is not None:
                await rest

        asyncio.run_coroutine_threadsafe(carried_out(), self._loop).result(_CALL_S)

    # In its thread

    async def _listen(self) -> None:
        if self._server is None:
            # Its protocol is named, so that asyncio sets TCP_NODELAY on what it accepts.
            listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((HOST, self.port))
            self._server = await asyncio.start_server(self._link, sock=listener)

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._cut()

    async def _cut(self) -> None:
        links = list(self._links)
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)
        await asyncio.sleep(0)  # asyncio closes a socket in the next turn of its loop

    async def _link(self, reader: StreamReader, writer: StreamWriter) -> None:
        """One connection, to its end."""
        task = asyncio.current_task()
        assert task is not None
        writers = self._links[task] = [writer]
        try:
            if self._server is None:  # it was on its way when new ones began to be refused
                return
            target_reader, target = await asyncio.open_connection(HOST, self.target)
            writers.append(target)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass_to_target(reader, writer, target))
                group.create_task(self._pass_back(target_reader, writer))
            for each in writers:
                each.close()  # either side has said all that it had to say
        except* OSError:
            pass  # either side has reset it, or the target refuses: so do we
        finally:
            for each in writers:
                if not each.is_closing():
                    _reset(each)
            del self._links[task]

    async def _pass_to_target(self, reader: StreamReader, client: StreamWriter, target: StreamWriter) -> None:
        while data := await self._next(reader):
            if self._left is not None and len(data) >= self._left:
                target.write(data[: self._left])
                self._left = None
                self.cuts += 1
                _reset(client)
                target.close()  # once what was written has gone
                return
            if self._left is not None:
                self._left -= len(data)
            target.write(data)
            await target.drain()
        target.write_eof()

    async def _pass_back(self, reader: StreamReader, client: StreamWriter) -> None:
        while data := await self._next(reader):
            client.write(data)
            await client.drain()
        client.write_eof()

    async def _next(self, reader: StreamReader) -> bytes:
        """What comes, once it may pass; empty at the end."""
        data = await reader.read(_CHUNK)
        await self._flowing.wait()
        return data


def _reset(writer: StreamWriter) -> None:
    """Close a connection so that its other end is reset."""
    with suppress(OSError):  # it is closed already
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESETS)
    writer.transport.abort()
