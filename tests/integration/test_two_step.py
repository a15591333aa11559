"""Two steps: stock clients connect bare, send `authenticate`, and are told `authenticated` or `unauthorized`, as with socketio-jwt."""

import asyncio
import contextlib
import json
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

import aiohttp
import pytest
import socketio

from tests.support.client import Client, ok, raw_client
from tests.support.http import metric
from tests.support.nodes import ROOT, Cluster, NodeProcess
from tests.support.tokens import token
from tests.support.wait import wait_until
from tests.support.ways_in import Line, Refused, Verdict, line

pytestmark = pytest.mark.anyio

TRANSPORTS = ("websocket", "polling")
QUICK_S = 1.0
BUSY_S = 3.0  # what a machine that is busy with other tests may add
PATIENCE_S = 20.0
LONG_S = 86_400.0  # they are signed when the module is read, and may be used much later
BAD = {
    "token_malformed": {"token": "junk"},
    "token_missing": {},
    "token_expired": {"token": token("ann", ttl=-1)},
    "signature_invalid": {"token": token("ann", secret="x" * 40)},
    "scope_missing": {"token": token("ann", scope="publish", ttl=LONG_S)},
    "bad_request": {"token": token("ann", ttl=LONG_S), "resume": "all of it"},
}


class Nodes(NamedTuple):
    """One that waits longer than any test, and one that loses patience soon."""

    patient: NodeProcess
    quick: NodeProcess


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    folder = tmp_path_factory.mktemp("steps")
    cluster = Cluster(folder, count=2)
    cluster.nodes = [
        NodeProcess(node.id, folder, {"two_step_seconds": str(seconds), "connect_timeout_seconds": "0.3"})
        for node, seconds in zip(cluster, (60, QUICK_S), strict=True)
    ]
    with cluster:
        yield Nodes(*cluster)


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


# Stock clients


class Seen:
    """What a stock client was told, in order."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []

    def __call__(self, name: str, payload: Any = None) -> None:
        self.events.append((name, payload))

    def names(self) -> list[str]:
        return [name for name, _ in self.events]

    async def told(self, name: str) -> Any:
        """Wait for the first event of this name; returns its payload."""
        await wait_until(lambda: name in self.names(), PATIENCE_S, f"{name}; so far {self.events}")
        return next(payload for event, payload in self.events if event == name)


def stock_client(seen: Seen) -> socketio.AsyncClient:
    client = socketio.AsyncClient(reconnection=False)
    client.on("*", seen)
    client.on("disconnect", lambda reason: seen("disconnect", reason))
    return client


@pytest.mark.parametrize("transport", [*TRANSPORTS, "upgrade"])
async def test_the_python_client(nodes: Nodes, transport: str) -> None:
    """It connects without a token, authenticates, and chats; `authenticated` comes first and `welcome` next."""
    seen, transports = Seen(), [transport] if transport in TRANSPORTS else ["polling", "websocket"]
    client = stock_client(seen)
    try:
        await client.connect(nodes.patient.url, transports=transports)
        good = token("pia", exp=time.time() + 300.5)
        await client.emit("authenticate", {"token": good})
        welcome = await seen.told("welcome")
        assert seen.names() == ["authenticated", "welcome"]
        assert await seen.told("authenticated") == {"user": "pia", "expires_at": welcome["expires_at"]}
        assert welcome["user"] == "pia" and welcome["resumed"] is False
        room = f"py-{transport}"
        ok(await client.call("room:create", {"room": room}))
        sent = ok(await client.call("message:send", {"room": room, "text": "hello"}))
        message = await seen.told("message")
        assert (message["seq"], message["from"], message["text"]) == (sent["seq"], "pia", "hello")
    finally:
        await client.shutdown()


@pytest.mark.parametrize("code", BAD)
async def test_the_python_client_refused(nodes: Nodes, code: str) -> None:
    """It is told `unauthorized` as socketio-jwt has it, and then disconnected for good."""
    seen = Seen()
    client = stock_client(seen)
    try:
        await client.connect(nodes.patient.url, transports=["websocket"])
        await client.emit("authenticate", BAD[code])
        error = await seen.told("unauthorized")
        assert set(error) == {"message", "data"} and set(error["data"]) == {"type", "code", "message"}
        assert error["data"]["type"] == "UnauthorizedError" and error["data"]["code"] == code
        assert error["message"] == error["data"]["message"]
        await seen.told("disconnect")
        assert seen.names() == ["unauthorized", "disconnect"]
    finally:
        await client.shutdown()


SCRIPT = """
const { io } = require("socket.io-client");
const [url, transports, token] = JSON.parse(process.argv[1]);
const socket = io(url, { transports, reconnection: false });
const tell = (name, payload) => console.log(JSON.stringify([name, payload]));
socket.on("connect", () => socket.emit("authenticate", { token }));
socket.onAny(tell);
socket.on("welcome", async () => {
  const room = "js-" + transports.join("-");
  tell("created", await socket.emitWithAck("room:create", { room }));
  const heard = new Promise((resolve) => socket.on("message", resolve));
  tell("sent", await socket.emitWithAck("message:send", { room, text: "hello" }));
  await heard;
  socket.disconnect();
});
socket.on("disconnect", (reason) => tell("disconnect", reason));
socket.on("connect_error", (error) => tell("connect_error", error.message));
"""


async def official_client(url: str, transports: list[str], one: str) -> list[tuple[str, Any]]:
    """Run the official client to its end; returns what it was told, in order."""
    node = shutil.which("node")
    assert node is not None, "these tests need Node.js for the official client"
    arguments = json.dumps([url, transports, one])
    process = await asyncio.create_subprocess_exec(node, "-e", SCRIPT, arguments, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(PATIENCE_S):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return [(name, payload) for name, payload in map(json.loads, out.splitlines())]


@pytest.mark.nodejs
@pytest.mark.parametrize("transports", [["websocket"], ["polling"], ["polling", "websocket"]], ids="-".join)
async def test_the_official_client(nodes: Nodes, transports: list[str]) -> None:
    """The JavaScript client connects bare, authenticates and chats."""
    told = await official_client(nodes.patient.url, transports, token("joe"))
    names = [name for name, _ in told]
    assert names[:2] == ["authenticated", "welcome"] and names[-1] == "disconnect"
    heard = dict(told)
    assert heard["authenticated"] == {"user": "joe", "expires_at": heard["welcome"]["expires_at"]}
    assert heard["created"]["ok"] is True and heard["sent"]["ok"] is True
    assert (heard["message"]["seq"], heard["message"]["text"]) == (heard["sent"]["seq"], "hello")


@pytest.mark.nodejs
async def test_the_official_client_refused(nodes: Nodes) -> None:
    """It is told why, and that the server has disconnected it, after which it does not come again by itself."""
    told = await official_client(nodes.patient.url, ["websocket"], token("joe", ttl=-1))
    assert [name for name, _ in told] == ["unauthorized", "disconnect"]
    assert told[0][1]["data"]["code"] == "token_expired" and told[0][1]["data"]["type"] == "UnauthorizedError"
    assert told[1][1] == "io server disconnect"


# To the letter


async def bare(client: Client, namespace: str = "/") -> None:
    """CONNECT without a payload, and wait for its answer."""
    prefix = "" if namespace == "/" else f"{namespace},"
    await client.send(f"40{prefix}")
    await wait_until(lambda: any(packet.startswith(f"40{prefix}{{") for packet in client.packets), 5, f"{namespace} is connected")


async def authenticate(client: Client, payload: Any, namespace: str = "/") -> None:
    prefix = "" if namespace == "/" else f"{namespace},"
    await client.send(f"42{prefix}" + json.dumps(["authenticate", payload]))


async def test_what_a_refused_socket_gets(nodes: Nodes) -> None:
    """`unauthorized`, a DISCONNECT, the close; nothing else, and it counts as a refused handshake and no session."""
    url, name = nodes.patient.url, "tidegate_handshakes_total"
    refused = 'code="token_expired",namespace="/",outcome="refused",source="",transport="websocket"'
    before, accepted = metric(url, name, refused), metric(url, name, 'outcome="accepted"')
    async with raw_client(url) as client:
        await bare(client)
        await authenticate(client, BAD["token_expired"])
        assert await client.wait_closed() == 1000
        assert client.events[0][1]["data"]["code"] == "token_expired"
        assert [packet[:2] for packet in client.packets] == ["40", "42", "41"]
    assert metric(url, name, refused) == before + 1
    assert metric(url, name, 'outcome="accepted"') == accepted


async def until_the_end(opened: Line) -> list[str]:
    """The Socket.IO packets up to the close, while pings are answered."""
    packets = []
    with contextlib.suppress(Refused):  # the poll behind the last packets
        while (packet := await opened.receive()) != "1":
            if packet == "2":
                await opened.send("3")
            elif packet != "6":
                packets.append(packet)
    return packets


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_silence(nodes: Nodes, http: aiohttp.ClientSession, transport: str) -> None:
    """Who says nothing is told `authentication_timeout` when his time is over, not before, and closed."""
    counted = f'code="authentication_timeout",namespace="/",outcome="refused",source="",transport="{transport}"'
    before = metric(nodes.quick.url, "tidegate_handshakes_total", counted)
    began = time.monotonic()
    async with line(nodes.quick.url, transport, http=http) as opened:
        await opened.send("40")
        packets = await until_the_end(opened)
        took = time.monotonic() - began
    assert QUICK_S <= took < QUICK_S + BUSY_S
    assert packets[0].startswith('40{"sid":')
    name, error = json.loads(packets[1][2:])
    assert (name, error["data"]["type"], error["data"]["code"]) == ("unauthorized", "UnauthorizedError", "authentication_timeout")
    assert len(packets) == 2
    assert metric(nodes.quick.url, "tidegate_handshakes_total", counted) == before + 1


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_nothing_goes_before_authenticate(nodes: Nodes, http: aiohttp.ClientSession, transport: str) -> None:
    """Other commands are acked an error and not carried out; after `authenticate` they are, and a second one is unknown."""
    async with line(nodes.patient.url, transport, http=http) as opened:
        await opened.send("40")
        assert (await opened.receive()).startswith('40{"sid":')
        room = f"early-{transport}"
        for name in ("room:create", "auth:refresh", "no-such-command"):
            await opened.send("427" + json.dumps([name, {"room": room, "token": token("ann")}]))
            answer = json.loads((await opened.receive())[3:])[0]
            assert (answer["ok"], answer["error"]["code"]) == (False, "token_missing"), name
        await opened.send("42" + json.dumps(["room:create", {"room": room}]))  # without an ack: dropped
        await opened.send("42" + json.dumps(["authenticate", {"token": token("ann")}]))
        assert (await opened.receive()).startswith('42["authenticated",')
        assert await opened.verdict() == Verdict("accepted", "event")
        await opened.send("428" + json.dumps(["history", {"room": room}]))
        assert json.loads((await opened.receive())[3:])[0]["error"]["code"] == "room_not_found"
        await opened.send("429" + json.dumps(["authenticate", {"token": token("ann")}]))
        assert json.loads((await opened.receive())[3:])[0]["error"]["code"] == "bad_request"


async def test_a_token_at_connect_is_one_step(nodes: Nodes) -> None:
    """Who brings a token with CONNECT is welcome at once, or refused at once."""
    async with raw_client(nodes.patient.url) as client:
        assert (await client.join_namespace({"token": token("ann")}))["user"] == "ann"
        assert [name for name, _ in client.events] == ["welcome"]
    async with raw_client(nodes.patient.url) as client:
        await client.send("40" + json.dumps({"token": "junk"}))
        await wait_until(lambda: client.packets, 5, "an answer")
        assert client.packets[0].startswith("44") and '"token_malformed"' in client.packets[0]


async def test_resuming_in_two_steps(nodes: Nodes) -> None:
    """`authenticate` takes `resume` as CONNECT does."""
    async with raw_client(nodes.patient.url) as client:
        session = (await client.join_namespace({"token": token("rob")}))["session"]
        ok(await client.ask("room:create", {"room": "resumed"}))
    async with raw_client(nodes.patient.url) as client:
        await bare(client)
        await authenticate(client, {"token": token("rob"), "resume": {"session": session, "cursors": {"resumed": 0}}})
        assert (await client.expect("welcome"))["resumed"] is True
        assert [event["event"] for event in (await client.expect("replay"))["events"]] == ["room"]


# Each namespace by itself


async def test_one_namespace_after_the_other(nodes: Nodes) -> None:
    """Each is authenticated by itself: a refusal in one leaves the other as it is."""
    async with raw_client(nodes.patient.url) as client:
        await client.join_namespace({"token": token("ann")})
        await bare(client, "/admin")
        await authenticate(client, {"token": token("ann")}, "/admin")
        assert (await client.expect("unauthorized"))["data"]["code"] == "scope_missing"
        await wait_until(lambda: "41/admin," in client.packets, 5, "/admin is disconnected")
        ok(await client.ask("room:list", {}))
        await bare(client, "/admin")  # and may try again
        await authenticate(client, {"token": token("root", scope="admin")}, "/admin")
        assert (await client.expect("authenticated"))["user"] == "root"
        assert (await client.expect("welcome"))["user"] == "root"
        ok(await client.ask("sessions", {}, namespace="/admin"))
        ok(await client.ask("room:list", {}))


async def test_both_namespaces_wait(nodes: Nodes) -> None:
    """A refused namespace does not take one along that still may authenticate."""
    async with raw_client(nodes.patient.url) as client:
        await bare(client)
        await bare(client, "/admin")
        await authenticate(client, {"token": "junk"}, "/admin")
        await wait_until(lambda: "41/admin," in client.packets, 5, "/admin is disconnected")
        await authenticate(client, {"token": token("ann")})
        assert (await client.expect("welcome"))["user"] == "ann"


async def test_silence_in_one_namespace(nodes: Nodes) -> None:
    """It ends that one; the other goes on."""
    async with raw_client(nodes.quick.url) as client:
        await client.join_namespace({"token": token("ann")})
        await bare(client, "/admin")
        assert (await client.expect("unauthorized"))["data"]["code"] == "authentication_timeout"
        await wait_until(lambda: "41/admin," in client.packets, 5, "it is told that it is not connected there")
        ok(await client.ask("room:list", {}))


async def test_leaving_while_it_waits(nodes: Nodes) -> None:
    """A DISCONNECT before `authenticate` ends a connection that serves nothing else."""
    async with raw_client(nodes.patient.url) as client:
        await bare(client)
        await client.send("41")
        assert await client.wait_closed() == 1000
        assert client.events == []
