"""uvicorn as this node runs it: the only import of `uvicorn`.

What differs from its defaults: the head and the body of an answer leave together, a WebSocket handshake passes a gate and is always
answered, no permessage-deflate and no WebSocket pings (Engine.IO has its own), no access log, no signal handlers (a drain comes before
its exit), and the TCP transport of a WebSocket within reach, so that a deadline can close it.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Generator
from functools import partial
from typing import Any

os.environ.setdefault("WEBSOCKETS_MAX_LINE_LENGTH", "32768")  # read at import: a token of the allowed size fits into a header

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from node.edge.connection import Flow
from node.edge.listener import BACKLOG

SHUTDOWN_S = 2.0  # what requests in flight may take once the drain is over
MOST_HEAD = 65_536  # bytes of a request's line and headers: several tokens' worth


_HEADERS_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
Gate = Callable[[bytes], bytes | bool]
"""From a WebSocket handshake's URL (path and query) to the whole HTTP answer that refuses it, or whether the gate has let it in.

What it has not let in (False) goes on too, and is judged by the application.
"""
GATED = "tidegate.gated"  # in the ASGI scope's state: the gate has let it in


class Together:
    """A TCP transport that sends what is written in one step of the event loop as one piece."""

    def __init__(self, tcp: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self.tcp, self._loop = tcp, loop
        self._held: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tcp, name)

    def write(self, data: bytes) -> None:
        """See `asyncio.Transport`; leaves at the end of this step."""
        if not self._held:
            self._loop.call_soon(self.flush)
        self._held.append(data)

    def flush(self) -> None:
        """Send what has been written so far."""
        if self._held:
            self.tcp.write(b"".join(self._held))
            self._held.clear()

    def close(self) -> None:
        """See `asyncio.Transport`."""
        self.flush()
        self.tcp.close()


class HttpProtocol(HttpToolsProtocol):
    """Sends the head and the body of an answer together, and asks the gate before a WebSocket handshake costs anything.

    python-engineio 4.15 drops a refused polling connection behind the answer's head, and then fails to read a body that has not come
    yet: its attempts to come back end there. And to turn a crowd away must not delay those who are in.
    """

    def __init__(self, gate: Gate, most_connections: int, request_s: float, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._gate, self._most_connections, self._request_s = gate, most_connections, request_s
        self._in_head, self._head_bytes = True, 0
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(Together(transport, self.loop))  # type: ignore[arg-type]
        self._expect_request()
        if len(self.connections) > self._most_connections:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._request_is_there()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._head_bytes += len(data)
        if self._in_head and self._head_bytes > MOST_HEAD and not self.transport.is_closing():
            self.transport.write(_HEADERS_TOO_LARGE)
            self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._expect_request()

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._request_is_there()
        super().on_message_complete()

    def _expect_request(self) -> None:
        """From here on a whole request has to come in time, its head within `MOST_HEAD`: else a client holds a place for nothing."""
        self._in_head, self._head_bytes = True, 0
        self._request_is_there()
        self._deadline = self.loop.call_later(self._request_s, self.transport.close)

    def _request_is_there(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()

    def handle_websocket_upgrade(self) -> None:
        judged = self._gate(self.url)
        if isinstance(judged, bytes):
            self.transport.write(judged)
            self.transport.close()
            return
        self.app_state = {**self.app_state, GATED: judged}
        self._request_is_there()
        together: Together = self.transport  # type: ignore[assignment]
        together.flush()
        self.transport = together.tcp
        super().handle_websocket_upgrade()


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """Puts its TCP transport and its flow into the ASGI scope, and takes a refused handshake for an answer."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.flow = Flow()

    async def run_asgi(self) -> None:
        self.scope["tidegate.transport"] = self.transport  # type: ignore[typeddict-unknown-key]
        self.scope["tidegate.flow"] = self.flow  # type: ignore[typeddict-unknown-key]
        await super().run_asgi()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.transport.is_closing():  # or it would wait for ever, unanswered
            self.transport.write(_HEADERS_TOO_LARGE)
            self.transport.close()

    async def send(self, message: Any) -> None:
        if message["type"] == "websocket.send":  # the usual one has nothing behind its system call: see `Connection._write`
            return await super().send(message)
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True  # uvicorn logs an error otherwise, at every client that is refused
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.flow.stalled = True  # nothing goes any more

    def pause_writing(self) -> None:
        super().pause_writing()
        self.flow.stalled = True

    def resume_writing(self) -> None:
        super().resume_writing()
        self.flow.stalled = False


class _ClientsFault(logging.Filter):
    """Drops uvicorn's traceback about text that is not UTF-8: any client can cause it, and it is answered with 1007."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("Invalid UTF-8 sequence")


class Server(uvicorn.Server):
    """A uvicorn server that leaves the signals to its owner: set `should_exit` to end it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def make_server(app: Any, gate: Gate, *, payload_bytes: int, most_connections: int, request_s: float) -> Server:
    """A server for an ASGI app; `serve(sockets=[…])` runs it. A request has `request_s` from its beginning to its last byte."""
    for name in ("uvicorn", "uvicorn.error", "uvicorn.asgi"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("uvicorn.error").addFilter(_ClientsFault())
    config = uvicorn.Config(
        app,
        http=partial(HttpProtocol, gate, most_connections, request_s),  # type: ignore[arg-type]  # it is called, whatever it is
        ws=WebSocketProtocol,
        ws_max_size=payload_bytes,
        ws_per_message_deflate=False,
        ws_ping_interval=None,
        ws_ping_timeout=None,
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=int(SHUTDOWN_S),
        proxy_headers=False,
    )
    return Server(config)
