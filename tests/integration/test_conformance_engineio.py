"""Engine.IO 4 as its specification and its reference suite have it, point by point, on a real node."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from tests.support.client import close_code, engine_url, websocket
from tests.support.frames import BINARY, TEXT, frame, frame_socket
from tests.support.http import async_http
from tests.support.nodes import Cluster, NodeProcess
from tests.support.tokens import token

pytestmark = pytest.mark.anyio

INTERVAL_S, TIMEOUT_S = 0.3, 0.2
BUSY_S = 1.5  # what a machine that is busy with other tests may add
PAYLOAD = 65_536
WS_PATH = "/socket.io/?EIO=4&transport=websocket"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """A node with quick heartbeats."""
    settings = {"ping_interval_seconds": str(INTERVAL_S), "ping_timeout_seconds": str(TIMEOUT_S)}
    with Cluster(tmp_path_factory.mktemp("engineio"), settings, count=1) as cluster:
        yield cluster[0]


async def request(method: str, url: str) -> httpx.Response:
    async with async_http() as http:
        return await http.request(method, url)


class Polling:
    """A long-polling session, request by request."""

    def __init__(self, http: httpx.AsyncClient, url: str, sid: str) -> None:
        self._http, self._url = http, engine_url(url, "polling", sid=sid)
        self.sid = sid

    async def get(self) -> httpx.Response:
        return await self._http.get(self._url)

    async def post(self, body: str | bytes) -> httpx.Response:
        return await self._http.post(self._url, content=body)


@pytest.fixture
async def polling(node: NodeProcess) -> AsyncIterator[Polling]:
    """A session that has just begun."""
    async with async_http(timeout=10) as http:
        answer = await http.get(engine_url(node.url, "polling"))
        yield Polling(http, node.url, json.loads(answer.text[1:])["sid"])


def connect_packet(user: str = "alice") -> str:
    return "40" + json.dumps({"token": token(user)})


# Beginning


@pytest.mark.parametrize(("transport", "upgrades"), [("polling", ["websocket"]), ("websocket", [])])
async def test_handshake(node: NodeProcess, transport: str, upgrades: list[str]) -> None:
    """A session opens with its five facts, and with an id that says its node and is not used twice."""
    packets = []
    for _ in range(2):
        if transport == "polling":
            packets.append((await request("GET", engine_url(node.url, "polling"))).text)
        else:
            async with websocket(node.url) as socket:
                packets.append(str(await socket.recv()))
    opened = [json.loads(packet[1:]) for packet in packets]
    assert [packet[0] for packet in packets] == ["0", "0"]
    for facts in opened:
        assert set(facts) == {"sid", "upgrades", "pingInterval", "pingTimeout", "maxPayload"}
        assert facts["upgrades"] == upgrades
        assert (facts["pingInterval"], facts["pingTimeout"], facts["maxPayload"]) == (300, 200, PAYLOAD)
        assert facts["sid"].startswith("n1.")
    assert opened[0]["sid"] != opened[1]["sid"]


BAD_QUERIES = ["transport=polling", "EIO=abc&transport=polling", "EIO=3&transport=polling", "EIO=4", "EIO=4&transport=abc"]


@pytest.mark.parametrize("query", [*BAD_QUERIES, "EIO=4&transport=websocket", "EIO=4&transport=polling&sid=n1.unknown"])
async def test_bad_query_over_http(node: NodeProcess, query: str) -> None:
    """No or another version, no or another transport, a session that is not there: 400, and why as JSON."""
    answer = await request("GET", f"{node.url}/socket.io/?{query}")
    assert answer.status_code == 400
    assert set(answer.json()["error"]) == {"code", "message"}


@pytest.mark.parametrize("query", [*(q.replace("polling", "websocket") for q in BAD_QUERIES), "EIO=4&transport=polling"])
async def test_bad_query_over_websocket(node: NodeProcess, query: str) -> None:
    """The same of a WebSocket: its handshake is refused."""
    with pytest.raises(InvalidStatus) as refused:
        async with connect(f"{node.url.replace('http', 'ws')}/socket.io/?{query}"):
            pass
    assert refused.value.response.status_code == 400


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_bad_method(node: NodeProcess, polling: Polling, method: str) -> None:
    """A session begins with GET; an open one takes GET and POST alone."""
    assert (await request(method, engine_url(node.url, "polling"))).status_code == 400
    if method != "POST":
        assert (await request(method, engine_url(node.url, "polling", sid=polling.sid))).status_code == 400


# Messages


async def test_post_is_answered_ok_and_packets_are_joined(polling: Polling) -> None:
    """A POST of several packets is `ok`; a GET has all that waits, with the record separator between."""
    posted = await polling.post(f'{connect_packet()}\x1e420["room:list",{{}}]')
    assert (posted.status_code, posted.text) == (200, "ok")
    packets: list[str] = []
    while len(packets) < 3:
        answer = await polling.get()
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain")
        packets += [packet for packet in answer.text.split("\x1e") if packet != "2"]
    assert packets[0].startswith('40{"sid":')
    assert packets[1].startswith('42["welcome",')
    assert packets[2] == '430[{"ok":true,"rooms":[]}]'


@pytest.mark.parametrize(
    "body", ["abc", "", "0", "2", "5", "9", "b!!!", "4abc", '42["early"]', "3\x1e", b"4\xff", "3\x1e" * 200 + "3"], ids=repr
)
async def test_malformed_post_closes_the_session(polling: Polling, body: str | bytes) -> None:
    """What is not a packet, or none that a client may send then, ends the session."""
    assert (await polling.post(body)).status_code == 400
    assert (await polling.get()).status_code == 400


@pytest.mark.parametrize("packet", ["abc", "", "0", "5", "6", "9", "2x", b"\x01", "4", "4abc", '42["early"]'], ids=repr)
async def test_malformed_packet_closes_the_websocket(node: NodeProcess, packet: str | bytes) -> None:
    """The same on a WebSocket: closed as a protocol error."""
    async with websocket(node.url) as socket:
        await socket.recv()
        await socket.send(packet)
        assert await close_code(socket) == 1002


async def test_duplicate_poll_closes_the_session(polling: Polling) -> None:
    """A second poll while one waits: the first is told to close, the second is refused, the session is over."""
    first = asyncio.create_task(polling.get())
    async with asyncio.timeout(5):
        while (second := await polling.get()).text in ("2", "6"):
            first = asyncio.create_task(polling.get())
    answers = [await first, second]
    assert sorted(answer.status_code for answer in answers) == [200, 400]
    assert [answer.text for answer in answers if answer.status_code == 200] == ["1"]
    assert (await polling.get()).status_code == 400


# Heartbeats


async def test_heartbeat_by_polling(polling: Polling) -> None:
    """A ping each interval, for as long as each is answered."""
    for _ in range(3):
        began = time.monotonic()
        answer = await polling.get()
        assert (answer.status_code, answer.text) == (200, "2")
        assert INTERVAL_S - 0.1 < time.monotonic() - began < INTERVAL_S + BUSY_S
        assert (await polling.post("3")).status_code == 200


async def test_heartbeat_timeout_by_polling(polling: Polling) -> None:
    """A ping that is not answered in time ends the session, which the waiting poll is told."""
    began = time.monotonic()
    assert (await polling.get()).text == "2"
    assert (await polling.get()).text == "1"
    assert INTERVAL_S + TIMEOUT_S - 0.1 < time.monotonic() - began < INTERVAL_S + TIMEOUT_S + BUSY_S
    assert (await polling.get()).status_code == 400


async def test_heartbeat_by_websocket(node: NodeProcess) -> None:
    """A ping each interval, for as long as each is answered; nothing else is said."""
    async with websocket(node.url) as socket:
        await socket.recv()
        for _ in range(3):
            began = time.monotonic()
            assert await socket.recv() == "2"
            assert INTERVAL_S - 0.1 < time.monotonic() - began < INTERVAL_S + BUSY_S
            await socket.send("3")


async def test_heartbeat_timeout_by_websocket(node: NodeProcess) -> None:
    """A ping that is not answered in time closes the WebSocket, not before and not much later."""
    async with websocket(node.url) as socket:
        began = time.monotonic()
        await close_code(socket)
        assert INTERVAL_S + TIMEOUT_S - 0.1 < time.monotonic() - began < INTERVAL_S + TIMEOUT_S + BUSY_S


# Closing


async def test_close_packet_by_post(node: NodeProcess, polling: Polling) -> None:
    """The client's close packet ends the waiting poll with a noop, and the session."""
    reader, writer = await asyncio.open_connection(*node.address)  # so that the GET is on its way before the POST is made
    writer.write(f"GET {WS_PATH.replace('websocket', 'polling')}&sid={polling.sid} HTTP/1.0\r\n\r\n".encode())
    assert (await polling.post("1")).status_code == 200
    answer = await reader.read()
    writer.close()
    assert b" 200 OK" in answer
    assert answer.endswith(b"\r\n\r\n6")
    assert (await polling.get()).status_code == 400


async def test_close_packet_that_overtakes_a_poll(polling: Polling) -> None:
    """A poll that was on its way when the client closed ends in the same way: two requests have no order."""
    assert (await polling.post("1")).status_code == 200
    answer = await polling.get()
    assert (answer.status_code, answer.text) == (200, "6")
    assert (await polling.get()).status_code == 400
    assert (await polling.post("3")).status_code == 400


async def test_close_packet_by_websocket(node: NodeProcess) -> None:
    """The client's close packet closes the WebSocket, and is no error."""
    async with websocket(node.url) as socket:
        await socket.recv()
        await socket.send("1")
        assert await close_code(socket) == 1000


# Upgrade


async def probed(socket: ClientConnection) -> None:
    await socket.send("2probe")
    assert await socket.recv() == "3probe"


async def next_packet(socket: ClientConnection) -> str:
    """The next packet that is not a heartbeat or a noop."""
    while (packet := await socket.recv()) in ("2", "6"):
        pass
    return str(packet)


async def test_upgrade_frees_the_waiting_poll(node: NodeProcess, polling: Polling) -> None:
    """The probe is answered, the poll that waits ends with a noop, and the session goes on over the WebSocket."""
    waiting = asyncio.create_task(polling.get())
    async with websocket(node.url, sid=polling.sid) as socket:
        await probed(socket)
        answer = await waiting
        assert (answer.status_code, answer.text) == (200, "6")
        await socket.send("5")
        await socket.send(connect_packet())
        assert (await next_packet(socket)).startswith('40{"sid":')


async def test_poll_after_the_probe_is_freed(node: NodeProcess, polling: Polling) -> None:
    """A poll that comes after the probe does not wait either."""
    async with websocket(node.url, sid=polling.sid) as socket:
        await probed(socket)
        answer = await polling.get()
        assert (answer.status_code, answer.text) == (200, "6")


async def test_upgraded_session_is_deaf_to_polling(node: NodeProcess, polling: Polling) -> None:
    """After the upgrade, GET and POST with its id are refused, and it goes on."""
    async with websocket(node.url, sid=polling.sid) as socket:
        await probed(socket)
        await socket.send("5")
        await socket.send(connect_packet())
        assert (await next_packet(socket)).startswith('40{"sid":')
        assert (await polling.get()).status_code == 400
        assert (await polling.post("3")).status_code == 400
        assert (await next_packet(socket)).startswith('42["welcome",')
        await socket.send('427["room:list",{}]')
        assert (await next_packet(socket)).startswith("437")


async def test_second_websocket_with_an_upgraded_id_is_closed(node: NodeProcess, polling: Polling) -> None:
    """A session has one WebSocket: another one with its id is closed, and the first one goes on."""
    async with websocket(node.url, sid=polling.sid) as socket:
        await probed(socket)
        await socket.send("5")
        async with websocket(node.url, sid=polling.sid) as second:
            assert await close_code(second) == 1002
        await socket.send(connect_packet())
        assert (await next_packet(socket)).startswith('40{"sid":')


async def test_failed_probe_leaves_the_session_on_polling(node: NodeProcess, polling: Polling) -> None:
    """A WebSocket that does not probe, or goes away instead of upgrading, changes nothing for the session."""
    async with websocket(node.url, sid=polling.sid) as socket:
        await socket.send("5")
        assert await close_code(socket) == 1002
    async with websocket(node.url, sid=polling.sid) as socket:
        await probed(socket)
    assert (await polling.post(connect_packet())).text == "ok"
    packets: list[str] = []
    while not any(packet.startswith("40") for packet in packets):
        answer = await polling.get()
        assert answer.status_code == 200
        packets += answer.text.split("\x1e")


async def test_upgrade_that_never_comes_is_given_up(node: NodeProcess, polling: Polling) -> None:
    """A WebSocket that is opened for an upgrade and then silent is closed with its session, at the latest."""
    async with websocket(node.url, sid=polling.sid) as socket:
        began = time.monotonic()
        await close_code(socket)
        assert time.monotonic() - began < INTERVAL_S + TIMEOUT_S + BUSY_S
    assert (await polling.get()).status_code == 400


@pytest.mark.parametrize(("size", "status"), [(20_000, 101), (40_000, 431)])
async def test_headers_of_a_websocket_handshake(node: NodeProcess, size: int, status: int) -> None:
    """A line that is longer than any token may be is answered and ends the connection; one that a token needs is taken."""
    reader, writer = await asyncio.open_connection(*node.address)
    writer.write(
        b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nX-Long: " + b"x" * size + b"\r\n\r\n"
    )
    async with asyncio.timeout(5):
        assert (await reader.readline()).startswith(b"HTTP/1.1 %d " % status)
    writer.close()
    await writer.wait_closed()


# Frames


async def test_oversized_frame(node: NodeProcess) -> None:
    """A message over the payload limit closes the WebSocket with 1009; one just under it is taken."""
    async with websocket(node.url) as socket:
        await socket.recv()
        await socket.send(connect_packet())
        await socket.send(f'420["no:such","{"x" * (PAYLOAD - 17)}"]')
        while not (packet := await next_packet(socket)).startswith("430"):
            assert packet.startswith(("40", "42"))
        assert json.loads(packet[3:])[0]["error"]["code"] == "bad_request"
        await socket.send("4" + "x" * PAYLOAD)
        assert await close_code(socket) == 1009


async def test_oversized_post(polling: Polling) -> None:
    """The same of a POST: refused, and the session ends."""
    assert (await polling.post("4" + "x" * PAYLOAD)).status_code in (400, 413)
    assert (await polling.get()).status_code == 400


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(b"2", masked=False), 1002),
        (frame(b"4\xff\xfe"), 1007),
        (frame(b"4\xed\xa0\x80"), 1007),
        (frame(b"4", opcode=0x3), 1002),
        (frame(b"4", opcode=TEXT, final=False) + frame(b"4"), 1002),
        (frame(b"x" * (PAYLOAD + 1), opcode=BINARY), 1009),
        (frame(b"x" * 40_000, final=False) + frame(b"x" * 40_000, opcode=0), 1009),
    ],
    ids=["unmasked", "invalid UTF-8", "surrogate", "unknown opcode", "broken fragments", "oversized", "oversized in fragments"],
)
async def test_bad_frame_closes_with_its_code(node: NodeProcess, sent: bytes, code: int) -> None:
    """RFC 6455's faults have RFC 6455's codes, and the TCP connection ends though the close is not answered."""
    async with frame_socket(node.address, WS_PATH) as socket:
        assert (await socket.receive())[1].startswith(b"0")
        await socket.send(sent)
        assert await socket.close_code() == code
        assert await socket.ended()


async def test_fragmented_message_is_one(node: NodeProcess) -> None:
    """A message in fragments is put together, characters cut in two included."""
    async with frame_socket(node.address, WS_PATH) as socket:
        await socket.receive()
        await socket.send(frame(connect_packet().encode()))
        text = '420["é"]'.encode()
        await socket.send(frame(text[:6], final=False) + frame(text[6:], opcode=0))
        answers = [(await socket.receive())[1] for _ in range(3)]
        assert answers[2].startswith(b'430[{"ok":false')
