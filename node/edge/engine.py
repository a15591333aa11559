"""Engine.IO 4 over ASGI: python-engineio's server with the connection handling of the protocol's reference suite.

The only import of `engineio`.
"""

import asyncio
import base64
import binascii
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

import engineio
import msgspec

from node.auth.denied import Denied
from node.core.events import EndReason
from node.edge.connection import NOOP, PING, Connection, Flow, MalformedPacket

Response = tuple[int, list[tuple[str, str]], bytes]
_TEXT = [("Content-Type", "text/plain; charset=UTF-8"), ("Cache-Control", "no-store")]
_JSON = [("Content-Type", "application/json"), ("Cache-Control", "no-store")]
_MOST_PACKETS = 64  # in one POST: what a burst of commands needs, times a few


class Refusal(msgspec.Struct, frozen=True):
    """An HTTP answer instead of a session: `code` and `message` as JSON, with `Retry-After` where it says when."""

    status: int
    code: str
    message: str
    retry_after_s: int | None = None


def refusal_of(denied: Denied) -> Refusal:
    """A denied credential as an HTTP answer."""
    if denied.code in ("keys_unavailable", "server_busy", "draining"):
        return Refusal(503, denied.code, denied.message, max(1, -(-(denied.retry_after or 1_000) // 1_000)))
    return Refusal(401, denied.code, denied.message)


def transport_of(environ: dict[str, Any]) -> str:
    """`websocket` or `polling`: what an HTTP request is for."""
    return "websocket" if environ["asgi.scope"]["type"] == "websocket" else "polling"


class AsgiWebSocket:
    """One WebSocket over ASGI, with a way to its TCP connection and its flow where the server gives them (`server.WebSocketProtocol`)."""

    def __init__(self, environ: dict[str, Any]) -> None:
        self._receive, self._send = environ["asgi.receive"], environ["asgi.send"]
        self.flow: Flow = environ["asgi.scope"].get("tidegate.flow") or Flow()
        self._tcp: asyncio.Transport | None = environ["asgi.scope"].get("tidegate.transport")

    async def accept(self) -> None:
        await self._send({"type": "websocket.accept"})

    async def receive(self) -> str | bytes | None:
        event = await self._receive()
        if event["type"] != "websocket.receive":
            return None
        text: str | None = event.get("text")
        return text if text is not None else event["bytes"]

    async def send(self, packet: str | bytes) -> None:
        kind = "bytes" if isinstance(packet, bytes) else "text"
        await self._send({"type": "websocket.send", kind: packet})

    async def close(self, code: int) -> None:
        await self._send({"type": "websocket.close", "code": code})

    def drop(self) -> None:
        if self._tcp is None or self._tcp.is_closing():
            return
        if self._tcp.get_write_buffer_size():
            self._tcp.abort()
        else:
            self._tcp.close()


class EngineServer(engineio.AsyncServer):  # type: ignore[misc]
    """python-engineio's server; sessions are `Connection`s, heartbeats are one schedule for all of them."""

    REMEMBERED = 10_000  # sessions that ended by a refusal, so that a late poll is told why

    def __init__(
        self,
        *,
        name: str,
        high_bytes: int,
        clock: Callable[[], int],
        admit: Callable[[str, str], Refusal | None],
        seat: Callable[[str], Refusal | None],
        judge: Callable[[dict[str, Any], Connection | None], Awaitable[Refusal | None]],
        origin_allowed: Callable[[str, dict[str, Any]], bool],
        **options: Any,
    ) -> None:
        super().__init__(
            async_mode="asgi",
            monitor_clients=False,
            http_compression=False,
            cors_allowed_origins=origin_allowed,
            **options,
        )
        self.name = name
        self.on_message: Callable[[Connection, str | bytes], Awaitable[None]]
        self.on_open: Callable[[Connection], None]
        self.on_closed: Callable[[Connection, EndReason], None]
        self.on_drained: Callable[[Connection], None] = lambda connection: None
        self._high, self._clock, self._admit, self._seat, self._judge = high_bytes, clock, admit, seat, judge
        self._heartbeats = Heartbeats(self.ping_interval, self.ping_timeout)
        self._polling: set[Connection] = set()  # those that began so, and perhaps do not any more
        self._ended: OrderedDict[str, tuple[Refusal, list[str]]] = OrderedDict()  # and what was left to say
        self._left: OrderedDict[str, None] = OrderedDict()  # closed by the client, whose last poll may still be on its way

    def generate_id(self) -> str:
        """An unguessable session id behind the node's name, by which a proxy can route long-polling."""
        return f"{self.name}.{super().generate_id()}"

    async def send_packet(self, sid: str, pkt: Any) -> None:
        """Send a python-engineio packet: how python-socketio's own `emit` arrives here."""
        connection = self.sockets.get(sid)
        if connection is not None:
            connection.put(pkt.encode())

    async def disconnect(self, sid: str | None = None) -> None:
        """Close one connection, or all."""
        for connection in [self.sockets[sid]] if sid in self.sockets else list(self.sockets.values()) if sid is None else []:
            connection.close("client")

    def transport(self, sid: str) -> str:
        """`websocket` or `polling`."""
        return str(self.sockets[sid].transport)

    def polling(self) -> set[Connection]:
        """The connections that poll now; costs what is new among them since the last time, however many WebSockets there are."""
        self._polling = {one for one in self._polling if one.transport == "polling" and not one.closed}
        return self._polling

    def remember(self, connection: Connection, refusal: Refusal, last_packets: Sequence[str] = ()) -> None:
        """Answer later requests with this connection's sid by `refusal`; a poll that was not there in time gets `last_packets` first."""
        self._ended[connection.sid] = refusal, list(last_packets) if connection.unpolled else []
        if len(self._ended) > self.REMEMBERED:
            self._ended.popitem(last=False)

    async def handle_request(self, scope: Any, receive: Any, send: Any) -> None:
        """The ASGI entry: one HTTP request or one WebSocket."""
        environ = await self._async["translate_request"](scope, receive, send)
        if not environ:
            return
        query = {key: values[0] for key, values in parse_qs(environ["QUERY_STRING"]).items()}
        answer = await self._answer(environ, query, is_websocket=scope["type"] == "websocket")
        if answer is not None:
            await self._respond(environ, answer)

    async def _answer(self, environ: dict[str, Any], query: dict[str, str], *, is_websocket: bool) -> Response | None:
        """The HTTP answer; None where a WebSocket was accepted and has been served."""
        method, sid = environ["REQUEST_METHOD"], query.get("sid")
        wrong = self._wrong(environ, query, is_websocket=is_websocket)
        if wrong is not None:
            return wrong
        if method == "OPTIONS" and not is_websocket:
            return 204, [], b""
        if sid is None:
            return await self._open(environ, is_websocket=is_websocket)
        connection: Connection | None = self.sockets.get(sid)
        if connection is None:
            return self._over(sid, last_poll=method == "GET" and not is_websocket)
        if connection.transport == "polling" and (refusal := await self._judge(environ, connection)) is not None:
            return _refused(refusal)
        if is_websocket:
            return await self._upgrade(connection, environ)
        if connection.transport != "polling":
            return _error(400, "upgraded", "this session has moved to WebSocket")
        return await (self._get(connection) if method == "GET" else self._post(connection, environ))

    def _wrong(self, environ: dict[str, Any], query: dict[str, str], *, is_websocket: bool) -> Response | None:
        """The answer to a request that is not one of Engine.IO's, whoever sends it."""
        origin, method = environ.get("HTTP_ORIGIN"), environ["REQUEST_METHOD"]
        if origin is not None and not self.cors_allowed_origins(origin, environ):
            return _error(400, "forbidden_origin", "this origin is not allowed")
        if method == "OPTIONS" and not is_websocket:
            return None
        if query.get("transport") not in self.transports or query["transport"] != ("websocket" if is_websocket else "polling"):
            return _error(400, "bad_transport", "transport is unknown, or does not fit the request")
        if query.get("EIO") != "4":
            return _error(400, "bad_version", "this server speaks EIO=4")
        if "j" in query:
            return _error(400, "jsonp_refused", "JSON-P is not served")
        if "sid" not in query and method != "GET":
            return _error(400, "bad_method", "a session begins with GET")
        if method not in ("GET", "POST"):
            return _error(400, "bad_method", "GET or POST")
        return None

    def _over(self, sid: str, *, last_poll: bool) -> Response:
        """The answer for a session that is over, or never was."""
        if last_poll and sid in self._left:
            del self._left[sid]
            return 200, list(_TEXT), NOOP.encode()
        refusal, last_packets = self._ended.get(sid, (None, []))
        if last_poll and last_packets:
            answer = "\x1e".join(last_packets).encode()
            last_packets.clear()
            return 200, list(_TEXT), answer
        return _refused(refusal) if refusal else _error(400, "unknown_sid", "no such session on this node: start anew")

    async def _open(self, environ: dict[str, Any], *, is_websocket: bool) -> Response | None:
        refusal = None
        if not environ["asgi.scope"].get("state", {}).get("tidegate.gated"):  # else `server.HttpProtocol` has asked
            refusal = self._admit(environ["QUERY_STRING"], transport_of(environ))
        refusal = refusal or await self._judge(environ, None) or self._seat(transport_of(environ))
        if refusal is not None:
            return _refused(refusal)
        connection = Connection(
            self.generate_id(),
            environ,
            high_bytes=self._high,
            clock=self._clock,
            on_message=self.on_message,
            on_closed=self._closed,
            on_drained=self.on_drained,
            on_pong=self._heartbeats.beat,
        )
        self.sockets[connection.sid] = connection
        connection.put("0" + msgspec.json.encode(self._handshake(connection.sid, is_websocket)).decode())
        self._heartbeats.beat(connection)
        self.on_open(connection)
        if not is_websocket:
            self._polling.add(connection)
            return await self._get(connection)
        websocket = AsgiWebSocket(environ)
        await websocket.accept()
        await connection.serve_websocket(websocket)
        return None

    def _handshake(self, sid: str, is_websocket: bool) -> dict[str, Any]:
        can_upgrade = not is_websocket and "websocket" in self.transports
        return {
            "sid": sid,
            "upgrades": ["websocket"] if can_upgrade else [],
            "pingInterval": round(self.ping_interval * 1000),
            "pingTimeout": round(self.ping_timeout * 1000),
            "maxPayload": self.max_http_buffer_size,
        }

    async def _upgrade(self, connection: Connection, environ: dict[str, Any]) -> Response | None:
        websocket = AsgiWebSocket(environ)
        await websocket.accept()
        if connection.transport != "polling" or connection.upgrading or connection.closed:
            await websocket.close(1002)  # it has a WebSocket; the reference suite wants a close, not a refused handshake
        else:
            await connection.upgrade(websocket)
        return None

    async def _get(self, connection: Connection) -> Response:
        packets = await connection.poll(self.ping_interval + self.ping_timeout)
        if packets is None:
            refusal, _ = self._ended.get(connection.sid, (None, []))
            return _refused(refusal) if refusal else _error(400, "session_over", "the session is over")
        return 200, list(_TEXT), "\x1e".join(_for_polling(packet) for packet in packets).encode()

    async def _post(self, connection: Connection, environ: dict[str, Any]) -> Response:
        body = await _read_body(environ, self.max_http_buffer_size)
        if body is None:
            connection.close("transport", code=1009)
            return _error(413, "too_large", f"a payload takes at most {self.max_http_buffer_size} bytes")
        try:
            for packet in _split(body):
                if connection.closed:
                    return _error(400, "session_over", "the session is over")
                await connection.receive(packet)
        except MalformedPacket:
            connection.close("transport", code=1002)
            return _error(400, "bad_packet", "not an Engine.IO payload")
        return 200, list(_TEXT), b"ok"

    def _closed(self, connection: Connection, reason: EndReason) -> None:
        self.sockets.pop(connection.sid, None)
        self._heartbeats.drop(connection)
        if reason == "client" and connection.unpolled:
            self._left[connection.sid] = None
            if len(self._left) > self.REMEMBERED:
                self._left.popitem(last=False)
        self.on_closed(connection, reason)

    async def _respond(self, environ: dict[str, Any], answer: Response) -> None:
        status, headers, body = answer
        if "HTTP_ORIGIN" in environ:  # what is not a page asks nothing of CORS
            headers = [
                *headers,
                *self._cors_headers(environ),
                ("Vary", "Origin"),
                ("Access-Control-Expose-Headers", "Retry-After"),
            ]
        if status != 204:
            headers = [*headers, ("Content-Length", str(len(body)))]  # uvicorn would send chunks, even to HTTP/1.0
        raw = [(name.lower().encode(), value.encode()) for name, value in headers]
        kind = "websocket.http.response" if environ["asgi.scope"]["type"] == "websocket" else "http.response"
        await environ["asgi.send"]({"type": f"{kind}.start", "status": status, "headers": raw})
        await environ["asgi.send"]({"type": f"{kind}.body", "body": body})

    def close_heartbeats(self) -> None:
        """Stop the heartbeats; idempotent."""
        self._heartbeats.close()


class Heartbeats:
    """Pings every connection each `interval_s`, and ends it when `timeout_s` more pass without an answer.

    All wait the same time, so two queues in order of time and one timer serve any number of connections.
    """

    def __init__(self, interval_s: float, timeout_s: float) -> None:
        self._interval, self._timeout = interval_s, timeout_s
        self._due: OrderedDict[Connection, float] = OrderedDict()  # to be pinged
        self._waiting: OrderedDict[Connection, float] = OrderedDict()  # pinged; ended at this time
        self._timer: asyncio.TimerHandle | None = None

    def beat(self, connection: Connection) -> None:
        """The connection is alive now: an answer to a ping, or its beginning. An answer that nobody asked for changes nothing."""
        if connection in self._due or connection.closed:
            return
        self._waiting.pop(connection, None)
        self._due[connection] = asyncio.get_running_loop().time() + self._interval
        self._arm()

    def drop(self, connection: Connection) -> None:
        """Forget a connection; idempotent."""
        self._due.pop(connection, None)
        self._waiting.pop(connection, None)

    def close(self) -> None:
        """Stop; idempotent."""
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self) -> None:
        if self._timer is not None and not self._timer.cancelled():
            return
        heads = [next(iter(queue.values())) for queue in (self._due, self._waiting) if queue]
        if heads:
            self._timer = asyncio.get_running_loop().call_at(min(heads), self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        for connection, _ in _until(self._waiting, now):
            del self._waiting[connection]
            connection.silent()
        for connection, at in _until(self._due, now):
            del self._due[connection]
            connection.put(PING)
            self._waiting[connection] = at + self._timeout
        self._arm()


def _until(queue: OrderedDict[Connection, float], now: float) -> list[tuple[Connection, float]]:
    found = []
    for connection, at in queue.items():
        if at > now:
            break
        found.append((connection, at))
    return found


def _for_polling(packet: str | bytes) -> str:
    return packet if isinstance(packet, str) else "b" + base64.b64encode(packet).decode()


def _split(body: bytes) -> list[str | bytes]:
    """The packets of a POST. Raises `MalformedPacket`."""
    try:
        parts = body.decode("utf-8").split("\x1e")
    except UnicodeDecodeError:
        raise MalformedPacket("not UTF-8") from None
    if len(parts) > _MOST_PACKETS:
        raise MalformedPacket("too many packets")
    try:
        return [base64.b64decode(part[1:], validate=True) if part[:1] == "b" else part for part in parts]
    except binascii.Error:
        raise MalformedPacket("not base64") from None


async def _read_body(environ: dict[str, Any], most: int) -> bytes | None:
    """The request's body; None when it is longer than `most` bytes."""
    if int(environ.get("CONTENT_LENGTH") or 0) > most:
        return None
    body: bytes = await environ["wsgi.input"].read(most + 1)
    return body if len(body) <= most else None


def _error(status: int, code: str, message: str) -> Response:
    return status, list(_JSON), msgspec.json.encode({"error": {"code": code, "message": message}})


def _refused(refusal: Refusal) -> Response:
    status, headers, body = _error(refusal.status, refusal.code, refusal.message)
    if refusal.retry_after_s is not None:
        headers.append(("Retry-After", str(refusal.retry_after_s)))
    if status == 401:
        headers.append(("WWW-Authenticate", 'Bearer error="invalid_token"'))
    return status, headers, body


def raw_refusal(refusal: Refusal) -> bytes:
    """The whole HTTP answer, for a connection that is closed after it."""
    status, headers, body = _refused(refusal)
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in headers)]
    lines += [f"Content-Length: {len(body)}", "Connection: close", "", ""]
    return "\r\n".join(lines).encode() + body
