"""A WebSocket to a node, for one greenlet: the Engine.IO transport of a load test's client.

The WebSocket itself is the sans-I/O half of `websockets`, on gevent's sockets. Measured with 1,000 connections in one process, 5,000 events
a second, processor time of an event and memory of a connection, its greenlet and socket included: bare `recv` 24 us and 11 KiB;
`websockets` 42 us, 14 KiB; wsproto 68 us, 15 KiB; websocket-client 126 us (three reads a frame), 14 KiB. A node has it locked already.
Its are the handshake, all that is sent, and what comes but for plain text frames (`frames.py`).
"""

import logging
from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import urlencode, urlsplit

import msgspec
from gevent import Timeout, get_hub, getcurrent, socket
from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import WebSocketURI

from loadtest.clock import monotonic
from loadtest.frames import frame_at

MOST_BYTES = 4 * 1024 * 1024  # of one message: a replay has up to 1 MiB of events
_READ_BYTES = 65_536
_TO_READ = 1  # libev's EV_READ
_HEADERS_END = b"\r\n\r\n"
_DATA = (Opcode.TEXT, Opcode.CONT, Opcode.BINARY)
_SEND_S = 10.0  # that the kernel may take to make room for a packet: past that nobody reads on the other side

_silent = logging.getLogger("loadtest.link")
_silent.addHandler(logging.NullHandler())
_silent.propagate = False


class Gone(Exception):
    """There is no connection: nobody answered, or it ended. The text says how."""


class Refused(Exception):
    """The node answered the request for a connection with something else.

    `code` is the answer's, or `http_…` with its status; `retry_after_s` None where it does not say.
    """

    def __init__(self, code: str, retry_after_s: float | None) -> None:
        super().__init__(code)
        self.code, self.retry_after_s = code, retry_after_s


class Link:
    """An open connection. It has one owner, who is the only one to wait on it."""

    __slots__ = ("_early", "_over", "_protocol", "_rest", "_socket", "_unread_after", "_watch", "came_after", "waited_from")

    def __init__(self, connection: socket.socket, protocol: ClientProtocol, came: bytes) -> None:
        """`open_link` makes it. `came`: right behind the handshake."""
        connection.settimeout(0)
        self._socket, self._protocol = connection, protocol
        self._watch = get_hub().loop.io(connection.fileno(), _TO_READ)
        self._over: str | None = None  # how it ended
        self._rest = b""  # of a frame that is not whole yet
        self._early = self._cut(came)
        # Moments of the monotonic clock, for whoever has to tell when something came at the earliest:
        self._unread_after = monotonic()  # what is not read yet came after this
        self.came_after = self._unread_after  # and this what was read last
        self.waited_from = self._unread_after  # when the last wait for something to read began

    def receive(self, timeout_s: float) -> list[bytes]:
        """The packets that came; none where `timeout_s` is over before (0 does not wait), or not enough came for one.

        Raises `Gone`, after the last packet.
        """
        self.waited_from, self.came_after = monotonic(), self._unread_after
        if self._early:
            packets, self._early = self._early, []
            return packets
        if self._over is not None:
            raise Gone(self._over)
        if timeout_s:
            self._wait(timeout_s)
        looks = monotonic()
        try:
            data = bytes(self._socket.recv(_READ_BYTES))
        except BlockingIOError:
            self._unread_after = looks
            return []
        except OSError as error:
            raise Gone(str(error)) from None
        if len(data) < _READ_BYTES:
            self._unread_after = looks
        return self._received(data)

    def _wait(self, timeout_s: float) -> None:
        """Until there is something to read, or this time is over.

        Straight on gevent's loop: a wait of its sockets has an exception and a `Timeout` in it, and takes four times as long.
        """
        hub, wake = get_hub(), getcurrent().switch
        timer = hub.loop.timer(timeout_s)
        self._watch.start(wake)
        timer.start(wake)
        try:
            hub.switch()
        finally:
            self._watch.stop()
            timer.close()

    def _received(self, data: bytes) -> list[bytes]:
        packets = self._cut(data)
        if not data:
            self._over = self._over or "closed without a word"
        if self._over is not None and not packets:
            raise Gone(self._over)
        return packets

    def send(self, packet: bytes) -> None:
        """Send one packet; raises `Gone`."""
        if self._over is not None:
            raise Gone(self._over)
        self._protocol.send_text(packet)
        self._flush()

    def close(self) -> None:
        """Say so, and close it; idempotent."""
        if self._over is None and self._protocol.state is State.OPEN:
            self._over = "closed by us"
            self._protocol.send_close()
            try:
                for data in self._protocol.data_to_send():
                    self._socket.send(data)  # what does not fit at once is not worth a wait
            except OSError:
                pass  # the other side sees the end all the same
        self._let_go()

    def cut(self) -> None:
        """Close it without a word, as a machine that falls asleep."""
        self._over = self._over or "cut by us"
        self._let_go()

    def _let_go(self) -> None:
        self._watch.close()
        self._socket.close()

    def _cut(self, data: bytes) -> list[bytes]:
        """The packets that are whole now. Of what is no plain text the library hears, and the other side what it says to that."""
        data, at, packets = self._rest + data, 0, list[bytes]()
        while self._over is None and (frame := frame_at(data, at, most=MOST_BYTES)) is not None:
            if frame.plain:
                packets.append(data[frame.payload : frame.end])
            else:
                self._judge(data[at : frame.end])
            at = frame.end
        self._rest = data[at:]
        return packets

    def _judge(self, frame: bytes) -> None:
        """A close, a ping, or nothing that a node sends."""
        protocol = self._protocol
        protocol.receive_data(frame)
        if any(isinstance(event, Frame) and event.opcode in _DATA for event in protocol.events_received()):
            self._over = "a frame that no node sends: in parts, or binary"
        elif protocol.state is not State.OPEN:
            self._over = "closed" if protocol.close_rcvd is None else f"closed with {protocol.close_rcvd.code}"
        try:
            self._flush()  # a pong, an answer to a close
        except Gone as gone:
            self._over = self._over or str(gone)

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if not data:  # so it says that nothing will follow
                continue
            try:
                self._send(data)
            except OSError as error:
                self._over = str(error)
                raise Gone(self._over) from None

    def _send(self, data: bytes) -> None:
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self._socket.settimeout(_SEND_S)
            self._socket.sendall(data[sent:])
            self._socket.settimeout(0)


def open_link(origin: str, query: Mapping[str, str], *, timeout_s: float) -> Link:
    """A connection to a node (`http://host:port`), with this query beside Engine.IO's own. Raises `Gone` and `Refused`."""
    uri = _uri(origin, query)
    protocol = ClientProtocol(uri, max_size=MOST_BYTES, logger=_silent)
    connection: socket.socket | None = None
    try:
        with Timeout(timeout_s, Gone(f"no answer within {timeout_s:g} s")):
            connection = _connected(uri.host, uri.port)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            came = _shake_hands(connection, protocol)
    except BaseException as error:
        if connection is not None:
            connection.close()
        if isinstance(error, OSError):
            raise Gone(str(error)) from None
        raise
    return Link(connection, protocol, came)


def _uri(origin: str, query: Mapping[str, str]) -> WebSocketURI:
    address = urlsplit(origin)
    asked = urlencode({"EIO": "4", "transport": "websocket", **query})
    return WebSocketURI(False, address.hostname or "", address.port or 80, "/socket.io/", asked, None)


def _connected(host: str, port: int) -> socket.socket:
    """A socket to there. A name is looked up by a thread of gevent's, which an address needs not. Raises `OSError`."""
    try:
        family = socket.AF_INET6 if ip_address(host).version == 6 else socket.AF_INET
    except ValueError:
        return socket.create_connection((host, port))
    connection = socket.socket(family)
    try:
        connection.connect((host, port))
    except BaseException:
        connection.close()
        raise
    return connection


def _shake_hands(connection: socket.socket, protocol: ClientProtocol) -> bytes:
    """The HTTP upgrade; returns what came behind it. Raises `Gone` and `Refused`."""
    protocol.send_request(protocol.connect())
    for data in protocol.data_to_send():
        connection.sendall(data)
    answer = b""
    while _HEADERS_END not in answer and (data := connection.recv(_READ_BYTES)):
        answer += data
    headers, end, behind = answer.partition(_HEADERS_END)
    protocol.receive_data(headers + end)
    if protocol.state is State.OPEN:
        protocol.events_received()  # the answer, which nobody needs any more
        return behind
    protocol.receive_data(behind)  # what a refusal has to say, and its rest
    while protocol.state is State.CONNECTING and protocol.handshake_exc is None:
        data = connection.recv(_READ_BYTES)
        if data:
            protocol.receive_data(data)
        else:
            protocol.receive_eof()
    error = protocol.handshake_exc
    if isinstance(error, InvalidStatus):
        raise _refused(error.response)
    raise Gone(str(error))


def _refused(response: Response) -> Refused:
    try:
        code = msgspec.json.decode(response.body or b"", type=_Body).error.code
    except msgspec.MsgspecError:
        code = f"http_{response.status_code}"
    return Refused(code, _seconds(response.headers))


def _seconds(headers: Headers) -> float | None:
    said = headers.get("Retry-After", "")
    return float(said) if said.isdecimal() else None


class _Error(msgspec.Struct, frozen=True):
    code: str


class _Body(msgspec.Struct, frozen=True):
    error: _Error
