"""A WebSocket to a node, for one greenlet: the Engine.IO transport of a load test's client.

The WebSocket itself is the sans-I/O half of `websockets`, on gevent's sockets. Measured with 1,000 connections in one process, 5,000 events
a second, processor time of an event and memory of a connection, its greenlet and socket included: bare `recv` 24 us and 11 KiB;
`websockets` 42 us, 14 KiB; wsproto 68 us, 15 KiB; websocket-client 126 us (three reads a frame), 14 KiB. A node has it locked already.
Its are the handshake, all that is sent, and what comes but for plain text frames (`frames.py`). What only has to be noted is taken where
the event loop finds it: to wake a greenlet for each of them costs a fourth of all that is done for an event (`bench/load_floor.py`).
"""

import logging
import math
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import Any, TypeAlias
from urllib.parse import urlencode, urlsplit

import msgspec
from gevent import Timeout, get_hub, getcurrent, socket
from gevent.monkey import get_original
from gevent.socket import wait_write
from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import WebSocketURI

from loadtest.clock import monotonic, wall
from loadtest.frames import frame_at

MOST_BYTES = 4 * 1024 * 1024  # of one message: a replay has up to 1 MiB of events
_READ_BYTES = 65_536
_TO_READ = 1  # libev's EV_READ
_MOST_HEADERS = 65_536
_MOST_WAIT_S = 86_400.0
_HEADERS_END = b"\r\n\r\n"
_MUCH_BYTES = 16_384  # at once: it has piled up
_PILE_S = 0.1  # past that, and what was held up behind it has come
_SEND_S = 10.0  # that the kernel may take to make room for a packet: past that nobody reads on the other side

_silent = logging.getLogger("loadtest.link")
_silent.addHandler(logging.NullHandler())
_silent.propagate = False


Take: TypeAlias = Callable[[list[bytes]], list[bytes] | None]
"""See `Link.receive`."""


class Gone(Exception):
    """There is no connection: nobody answered, or it ended. The text says how."""


class Refused(Exception):
    """The node answered the request for a connection with something else.

    `code` is the answer's, or `http_…` with its status; `retry_after_s` None where it does not say.
    """

    def __init__(self, code: str, retry_after_s: float | None) -> None:
        super().__init__(code)
        self.code, self.retry_after_s = code, retry_after_s


def _none(packets: list[bytes]) -> list[bytes]:
    """Takes nothing."""
    return packets


class Link:
    """An open connection. It has one owner, who is the only one to wait on it."""

    __slots__ = (
        "_early",
        "_odd",
        "_over",
        "_owner",
        "_part",
        "_piled_up_until",
        "_protocol",
        "_rest",
        "_socket",
        "_take",
        "_unread_after",
        "_watch",
        "came_after",
        "waited_from",
    )

    def __init__(self, connection: socket.socket, protocol: ClientProtocol, came: bytes) -> None:
        """`open_link` makes it. `came`: right behind the handshake."""
        # From here on a plain socket: gevent's has watchers of its own, and a loop in Python around each of its calls.
        self._socket = get_original("socket", "socket")(fileno=connection.detach())
        self._socket.setblocking(False)
        self._protocol = protocol
        self._watch = get_hub().loop.io(self._socket.fileno(), _TO_READ)
        self._owner: Any = None  # its greenlet, while that waits
        self._take: Take = _none
        self._over: str | None = None  # how it ended
        self._rest = b""  # what has not been cut yet: a frame that is not whole, or one that is not plain
        self._odd = 0  # how long the latter is
        self._part: bytes | None = None  # of a message that comes in parts: what there is of it
        self._early = self._cut(came)
        # Moments of the monotonic clock, for whoever has to tell when something came at the earliest:
        self._unread_after = monotonic()  # what is not read yet came after this
        self.came_after = self._unread_after  # and this what was read last
        self.waited_from = self._unread_after  # since when what comes has been waited for, without a break; never yet, of a pile
        self._piled_up_until = 0.0

    def receive(self, timeout_s: float, take: Take = _none) -> list[bytes]:
        """The packets that came; none where `timeout_s` is over before (0 does not wait), or not enough came for one.

        While this waits, `take` is given what comes on the spot, in gevent's hub, where nothing may wait. It returns the last of those
        packets, which it leaves to the owner; None: it took all of them, and the owner waits on. What it raises is raised here.

        Raises `Gone`, after the last packet.
        """
        now = monotonic()
        if now >= self._piled_up_until:
            self.waited_from = now
        if self._early or self._odd:
            packets, self._early, self.came_after = self._early, [], self._unread_after
        elif self._over is not None:
            raise Gone(self._over)
        else:
            packets = self._wait(timeout_s, take) if timeout_s else self._read()
        while self._odd and self._over is None:
            packets += self._judge()
            packets += self._cut(b"")
        if self._over is not None and not packets:
            raise Gone(self._over)
        return packets

    def _wait(self, timeout_s: float, take: Take) -> list[bytes]:
        """Until there is something for the owner, or this time is over.

        Straight on gevent's loop: a wait of its sockets has an exception and a `Timeout` in it, and takes four times as long.
        """
        hub, owner = get_hub(), getcurrent()
        self._owner, self._take = owner, take
        timer = hub.loop.timer(timeout_s)
        self._watch.start(self._came)
        timer.start(owner.switch, None)
        try:
            packets: list[bytes] | None = hub.switch()
        finally:
            self._watch.stop()
            timer.close()
            self._owner, self._take = None, _none
        return self._read() if packets is None else packets

    def _came(self) -> None:
        """There is something to read, and the owner waits. In the hub: what is raised here is the owner's."""
        owner = self._owner
        try:
            packets = self._read()
            left = self._take(packets) if packets else None
        except BaseException as error:  # noqa: BLE001 - the end of a process too, which may come to anybody
            owner.throw(error)
        else:
            if left is not None or self._odd or self._over is not None:
                owner.switch(left or [])

    def _read(self) -> list[bytes]:
        """Those of the packets that can be read now behind which nothing has to be judged."""
        self.came_after, looks = self._unread_after, monotonic()
        try:
            data = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            self._drained(looks)
            return []
        except OSError as error:
            self._over = str(error)
            return []
        if len(data) < _MUCH_BYTES:
            self._drained(looks)
        else:
            self._piled_up_until, self.waited_from = looks + _PILE_S, math.inf
        if not data:
            self._over = "closed without a word"
        return self._cut(data)

    def _drained(self, looks: float) -> None:
        """There was no more to read; but behind a pile the other side's machine may have had as much again, with room for it only now."""
        if looks >= self._piled_up_until:
            self._unread_after = looks
            self.waited_from = min(self.waited_from, looks)

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
        """The packets that are whole now, up to a frame that is no plain text."""
        data, at, packets = self._rest + data, 0, list[bytes]()
        while (frame := frame_at(data, at, most=MOST_BYTES)) is not None:
            if not frame.plain or self._part is not None:
                self._odd = frame.end - at
                break
            packets.append(data[frame.payload : frame.end])
            at = frame.end
        self._rest = data[at:]
        return packets

    def _judge(self) -> list[bytes]:
        """What comes next is a close, a ping, a part of a text, or nothing that a node sends: the library hears it, and the other side what
        that says. Returns the text, with its last part.
        """
        protocol, frame, whole = self._protocol, self._rest[: self._odd], list[bytes]()
        self._rest, self._odd = self._rest[self._odd :], 0
        protocol.receive_data(frame)
        for event in protocol.events_received():
            if isinstance(event, Frame) and event.opcode in (Opcode.TEXT, Opcode.CONT):
                self._part = (self._part or b"") + event.data
                if event.fin:
                    whole.append(self._part)
                    self._part = None
            elif isinstance(event, Frame) and event.opcode is Opcode.BINARY:
                self._over = "a frame that no node sends: binary"
        if self._over is None and protocol.state is not State.OPEN:
            self._over = "closed" if protocol.close_rcvd is None else f"closed with {protocol.close_rcvd.code}"
        try:
            self._flush()  # a pong, an answer to a close
        except Gone as gone:
            self._over = self._over or str(gone)
        return whole

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
        """All of it. Raises `OSError`."""
        begun = monotonic()
        while data := data[self._sent(data) :]:
            left_s = begun + _SEND_S - monotonic()
            wait_write(self._socket.fileno(), timeout=max(0.0, left_s), timeout_exc=TimeoutError("nobody reads"))

    def _sent(self, data: bytes) -> int:
        """How much of it there is room for."""
        try:
            return int(self._socket.send(data))
        except BlockingIOError:
            return 0


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
        if len(answer) > _MOST_HEADERS:
            raise Gone("an answer without an end")
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
    except (msgspec.MsgspecError, ValueError, RecursionError):
        code = f"http_{response.status_code}"
    return Refused(code, _seconds(response.headers))


def _seconds(headers: Headers) -> float | None:
    """What is asked to wait: a number, or a moment. None where nothing is said, or nothing that can be read."""
    said = headers.get("Retry-After", "")
    if said.isdecimal():
        return min(float(said), _MOST_WAIT_S)
    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - wall())
    except (ValueError, OverflowError):
        return None


class _Error(msgspec.Struct, frozen=True):
    code: str


class _Body(msgspec.Struct, frozen=True):
    error: _Error
