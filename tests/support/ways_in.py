"""Every way in for a token, each as one function from a node's URL and a token to how it was judged, and where."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import quote

import aiohttp
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.client import engine_url

COOKIE = "tide"
_CHALLENGE = {"scope_missing": 'Bearer error="insufficient_scope"'}


class Verdict(NamedTuple):
    """`accepted`, or the code of the refusal; and where it was said: the HTTP request, CONNECT, an event, an ack."""

    code: str
    stage: str


class Carried(NamedTuple):
    """What carries tokens in an HTTP request: headers, and what comes behind the rest of the query."""

    headers: tuple[tuple[str, str], ...] = ()
    query: str = ""


def carried(source: str, token: str, url: str) -> Carried:
    """The token in the HTTP request, as this source has it."""
    match source:
        case "header":
            return Carried(headers=(("Authorization", f"Bearer {token}"),))
        case "query":
            return Carried(query=f"&token={quote(token, safe='')}")
        case _:
            return Carried(headers=(("Cookie", f"a=1; {COOKIE}={token}; b=2"), ("Origin", url)))


def together(*ways: Carried) -> Carried:
    """All of them in one request."""
    return Carried(headers=sum((way.headers for way in ways), ()), query="".join(way.query for way in ways))


NOTHING = Carried()


def of_http(status: int, headers: Any, body: bytes) -> Verdict:
    """The refusal in an HTTP answer, held to its shape; `accepted` where it is none."""
    if status in (101, 200):
        return Verdict("accepted", "http")
    error = json.loads(body)["error"]
    if error["code"] == "room_not_found":  # of the API: who gets so far has been let in
        return Verdict("accepted", "http")
    assert set(error) == {"code", "message"} and error["message"], body
    assert status == (403 if error["code"] == "scope_missing" else 401), (status, body)
    assert headers["WWW-Authenticate"] == _CHALLENGE.get(error["code"], 'Bearer error="invalid_token"')
    return Verdict(error["code"], "http")


def of_packet(packet: str) -> Verdict | None:
    """What a Socket.IO packet says of a token, if anything. Welcome is the last word, so a bare CONNECT's answer says nothing."""
    kind, rest = packet[:2], packet[2:]
    if kind == "44":
        error = json.loads(rest)
        assert set(error) == {"message", "data"} and set(error["data"]) == {"code"}, packet
        return Verdict(error["data"]["code"], "connect")
    if kind == "43":
        (answer,) = json.loads(rest[rest.index("[") :])
        assert set(answer) == ({"ok", "expires_at", "refresh_at"} if answer["ok"] else {"ok", "error"}), packet
        assert answer["ok"] or set(answer["error"]) == {"code", "message"}, packet
        return Verdict("accepted" if answer["ok"] else answer["error"]["code"], "ack")
    if kind == "42":
        name, payload = json.loads(rest)
        if name == "unauthorized":
            assert set(payload) == {"message", "data"} and set(payload["data"]) == {"type", "code", "message"}, packet
            assert payload["data"]["type"] == "UnauthorizedError"
            return Verdict(payload["data"]["code"], "event")
        return Verdict("accepted", "event") if name == "welcome" else None
    return None


class Refused(Exception):
    """The HTTP request was refused."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.code)
        self.verdict = verdict


class Over(Exception):
    """The long-polling session is over, for no reason that has to do with a token."""


class Line:
    """An open Engine.IO session, by either transport: packets go out and come in one by one."""

    async def send(self, packet: str) -> None:
        """Send a packet. Raises `Refused`."""
        raise NotImplementedError

    async def receive(self) -> str:
        """The next packet, `1` where there is no more. Raises `Refused`."""
        raise NotImplementedError

    async def verdict(self) -> Verdict:
        """Read on until something is said of a token."""
        while (packet := await self.receive()) != "1":
            found = of_packet(packet)
            if found is not None:
                return found
            if packet == "2":
                await self.send("3")
        raise AssertionError("closed without a word")

    async def closed(self) -> list[str]:
        """Read to the end; returns the packets until then."""
        packets = []
        while (packet := await self.receive()) != "1":
            packets.append(packet)
        return packets


class WebSocketLine(Line):
    """One WebSocket."""

    def __init__(self, opened: ClientConnection) -> None:
        self._opened = opened

    async def send(self, packet: str) -> None:
        await self._opened.send(packet)

    async def receive(self) -> str:
        try:
            return str(await self._opened.recv())
        except ConnectionClosed:
            return "1"


class PollingLine(Line):
    """Long-polling, each request with what carries the token, as stock clients do."""

    def __init__(self, http: aiohttp.ClientSession, url: str, carries: Carried) -> None:
        self._http, self._url, self._carries = http, url, carries
        self._packets: list[str] = []
        self.sid = ""

    async def open(self) -> None:
        """Begin a session. Raises `Refused`."""
        handshake = await self.receive()
        assert handshake.startswith("0"), handshake
        self.sid = json.loads(handshake[1:])["sid"]

    async def send(self, packet: str) -> None:
        assert await self.request("POST", packet.encode()) == "ok"

    async def receive(self) -> str:
        while not self._packets:
            try:
                self._packets = (await self.request("GET")).split("\x1e")
            except Over:
                return "1"
        return self._packets.pop(0)

    async def leave(self) -> None:
        """End the session, if it has not ended."""
        async with self._http.post(engine_url(self._url, "polling", sid=self.sid), data=b"1"):
            pass

    async def request(self, method: str, body: bytes | None = None, carries: Carried | None = None) -> str:
        """One HTTP request of the session; returns the answer's text. Raises `Refused`, `Over`."""
        headers, query = carries or self._carries
        address = engine_url(self._url, "polling", **({"sid": self.sid} if self.sid else {})) + query
        async with self._http.request(method, address, data=body, headers=headers) as answer:
            content = await answer.read()
            if answer.status == 400 and json.loads(content)["error"]["code"] in ("unknown_sid", "session_over"):
                raise Over
            verdict = of_http(answer.status, answer.headers, content)
        if verdict.code != "accepted":
            raise Refused(verdict)
        return content.decode()


@asynccontextmanager
async def line(
    url: str, transport: str, carries: Carried = NOTHING, http: aiohttp.ClientSession | None = None
) -> AsyncIterator[Line]:
    """An open Engine.IO session; `http` is for long-polling. Raises `Refused` where the HTTP request is."""
    if transport == "polling":
        assert http is not None
        polling = PollingLine(http, url, carries)
        await polling.open()
        yield polling
        await polling.leave()
        return
    headers, query = carries
    try:
        opened = await connect(
            engine_url(url) + query,
            additional_headers=headers,
            compression=None,
            ping_interval=None,
            close_timeout=1,
            proxy=None,
        )
    except InvalidStatus as refused:
        response = refused.response
        raise Refused(of_http(response.status_code, response.headers, bytes(response.body))) from None
    try:
        websocket = WebSocketLine(opened)
        assert (await websocket.receive()).startswith("0")
        yield websocket
    finally:
        await opened.close()
