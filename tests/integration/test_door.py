"""What a node does not let in, and what nobody may hold at its door: before and beside any token."""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.client import Client, ConnectRefused, engine_url, raw_client, websocket
from tests.support.http import async_http, failure
from tests.support.nodes import Cluster, NodeProcess
from tests.support.tokens import token

pytestmark = pytest.mark.anyio
PATIENCE_S = 5.0  # far less than the 25 s between two pings


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """A node on which a request has two seconds."""
    with Cluster(tmp_path_factory.mktemp("door"), {"connect_timeout_seconds": "0.5"}, count=1) as cluster:
        yield cluster[0]


@asynccontextmanager
async def tcp(node: NodeProcess) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to the node, and patience for its answers."""
    reader, writer = await asyncio.open_connection(*node.address)
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield reader, writer
    finally:
        writer.close()


def upgrade(path: str) -> bytes:
    """A WebSocket handshake for a new session."""
    return (
        f"GET {path}?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    ).encode()


@pytest.mark.parametrize("path", ["/socket.io/", "/socket.io", "/socket%2Eio/", "/%73ocket.io", "/socket.io//"])
async def test_no_way_around_admission(tmp_path: Path, path: str) -> None:
    """A full node is full, however its path is spelt."""
    with Cluster(tmp_path, {"max_sessions": "1"}, count=1) as cluster:
        async with raw_client(cluster[0].url), tcp(cluster[0]) as (reader, writer):
            writer.write(upgrade(path))
            assert (await reader.readline()).startswith(b"HTTP/1.1 503 ")


async def test_a_full_node_is_full_for_who_come_together(tmp_path: Path) -> None:
    """Twenty whom it meets in one turn of its loop, and room for five: five come in."""
    with Cluster(tmp_path, {"max_sessions": "5"}, count=1) as cluster:
        async with contextlib.AsyncExitStack() as stack:
            comers = [await stack.enter_async_context(tcp(cluster[0])) for _ in range(20)]
            assert cluster[0].not_ready() == {}  # so it has accepted those before this one
            cluster[0].pause()
            for _, writer in comers:
                writer.write(upgrade("/socket.io/"))
                await writer.drain()
            cluster[0].resume()
            answers = Counter([(await reader.readline())[9:12] for reader, _ in comers])
        assert answers == {b"101": 5, b"503": 15}


async def test_a_head_without_end(node: NodeProcess) -> None:
    """It is refused once it is longer than a few tokens, and the connection closed."""
    async with tcp(node) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 200_000)
        with contextlib.suppress(ConnectionResetError):  # what it did not read may cost us its answer
            assert (await reader.read()).startswith(b"HTTP/1.1 431 ")
        assert reader.exception() is not None or reader.at_eof()


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n", b"POST /dev/token HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"]
)
async def test_a_request_that_never_comes_whole(node: NodeProcess, sent: bytes) -> None:
    """Who has sent nothing, or half of it, is closed after a while."""
    async with tcp(node) as (reader, writer):
        writer.write(sent)
        await reader.read()
        assert reader.at_eof()


async def test_a_post_that_outlives_its_session(node: NodeProcess) -> None:
    """Its packets are nobody's: nothing of them is kept."""
    async with async_http() as http, tcp(node) as (reader, writer):
        url = engine_url(node.url, "polling")
        sid = json.loads((await http.get(url)).text[1:])["sid"]
        body = b'451-["x",{"_placeholder":true,"num":0}]'
        head = f"POST /socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body[:-1])
        assert (await http.post(f"{url}&sid={sid}", content="1")).status_code == 200
        writer.write(body[-1:])
        assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")


async def come_and_go(client: Client, times: int) -> None:
    for _ in range(times):
        await client.join_namespace({"token": token("ann")})
        await client.send("41")


async def test_connects_of_one_connection_have_a_quota(node: NodeProcess) -> None:
    """Each is a session in the log, and none but the first has passed the door."""
    async with raw_client(node.url) as client:
        with pytest.raises(ConnectRefused) as refused:
            await come_and_go(client, 20)
        assert refused.value.code == "server_busy"
        assert 0 < refused.value.data["data"]["retry_after"] <= 1_000


async def test_polls_while_the_client_moves_to_a_websocket(node: NodeProcess) -> None:
    """Each is answered soon, and none takes what is the WebSocket's."""
    async with async_http(timeout=PATIENCE_S) as http:
        url = engine_url(node.url, "polling")
        sid = json.loads((await http.get(url)).text[1:])["sid"]
        url = f"{url}&sid={sid}"
        await http.post(url, content="40" + json.dumps({"token": token("ann")}))
        assert "welcome" in (await http.get(url)).text
        async with asyncio.timeout(PATIENCE_S), websocket(node.url, sid=sid) as socket:
            await socket.send("2probe")
            assert await socket.recv() == "3probe"
            for _ in range(3):
                assert (await http.get(url)).text == "6"
            waiting = asyncio.ensure_future(http.get(url))
            await socket.send("5")
            await socket.send('420["room:list",{}]')
            assert str(await socket.recv()).startswith("430")
            assert (await waiting).text in ("6", '{"error":{"code":"upgraded","message":"this session has moved to WebSocket"}}')


@pytest.mark.parametrize("path", ["/socket.io/?EIO=4&transport=polling", "/config.json"])
async def test_an_origin_that_is_no_url(node: NodeProcess, path: str) -> None:
    """It is not allowed, and no fault of ours."""
    async with async_http() as http:
        answer = await http.get(node.url + path, headers={"Origin": "http://[::1"})
    if path == "/config.json":
        assert "access-control-allow-origin" not in answer.headers
        assert answer.status_code == 200
    else:
        failure(answer, 400, "forbidden_origin")
