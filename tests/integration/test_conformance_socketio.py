"""Socket.IO 5 as its specification and its reference suite have it, point by point, on a real node."""

import json
import time
from collections.abc import Iterator

import pytest

from tests.support.client import Client, ConnectRefused, close_code, error, ok, raw_client, websocket
from tests.support.nodes import Cluster, NodeProcess
from tests.support.tokens import token

pytestmark = pytest.mark.anyio

CONNECT_TIMEOUT_S = 0.6
BUSY_S = 1.5  # what a machine that is busy with other tests may add


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """A node that does not wait long for a CONNECT."""
    settings = {"connect_timeout_seconds": str(CONNECT_TIMEOUT_S)}
    with Cluster(tmp_path_factory.mktemp("socketio"), settings, count=1) as cluster:
        yield cluster[0]


def auth(user: str = "alice", *, scope: str | None = None) -> dict[str, str]:
    return {"token": token(user, scope=scope)}


async def answer_to(client: Client, packet: str) -> str:
    """Send a packet, and return the first that comes after it; but for `stats`, which come to an operator at any time."""
    seen = len(client.packets)
    await client.send(packet)
    await client.ask("room:list", {})
    return next(packet for packet in client.packets[seen:] if not packet.startswith('42/admin,["stats"'))


# CONNECT


async def test_connect_to_the_main_namespace(node: NodeProcess) -> None:
    """CONNECT with a payload is answered with the session's id, and then `welcome`."""
    async with raw_client(node.url) as client:
        await client.join_namespace(auth())
        assert client.packets[0].startswith("40")
        assert set(json.loads(client.packets[0][2:])) == {"sid"}
        assert client.packets[1].startswith('42["welcome",')


async def test_connect_to_another_namespace(node: NodeProcess) -> None:
    """Packets of a namespace carry its name, in both directions; each namespace has an id of its own."""
    async with raw_client(node.url) as client:
        await client.join_namespace(auth(scope="chat admin"), "/admin")
        await client.join_namespace(auth(scope="chat admin"))
        accepted = [packet for packet in client.packets if packet.startswith("40")]
        assert accepted[0].startswith('40/admin,{"sid":')
        assert accepted[1].startswith('40{"sid":')
        assert json.loads(accepted[0][9:])["sid"] != json.loads(accepted[1][2:])["sid"]
        assert any(packet.startswith('42/admin,["welcome",') for packet in client.packets)


@pytest.mark.parametrize("packet", ["40/random", "40/random,", '40/random,{"token":"x"}', "40/random?x=1,"])
async def test_connect_to_an_unknown_namespace(node: NodeProcess, packet: str) -> None:
    """Refused with an object; the connection has no namespace and is closed."""
    async with raw_client(node.url) as client:
        await client.send(packet)
        await client.wait_closed()
        assert client.packets == ['44/random,{"message":"Invalid namespace"}']


async def test_an_unknown_namespace_leaves_the_others(node: NodeProcess) -> None:
    """A refusal in one namespace is no matter of another one."""
    async with raw_client(node.url) as client:
        await client.join_namespace(auth())
        assert await answer_to(client, "40/random") == '44/random,{"message":"Invalid namespace"}'


async def test_refused_connect_says_why(node: NodeProcess) -> None:
    """A CONNECT without a good token: CONNECT_ERROR with message and code, then the connection is closed."""
    async with raw_client(node.url) as client:
        await client.send("40")
        await client.wait_closed()
        (packet,) = client.packets
        assert packet.startswith("44{")
        refusal = json.loads(packet[2:])
        assert set(refusal) == {"message", "data"}
        assert refusal["data"] == {"code": "token_missing"}


async def test_connect_again_after_a_refusal(node: NodeProcess) -> None:
    """A refused client may try again on the same connection, before it is closed."""
    async with raw_client(node.url) as client:
        with pytest.raises(ConnectRefused) as refused:
            await client.join_namespace({"token": "nothing"})
        assert refused.value.code == "token_malformed"
        assert (await client.join_namespace(auth()))["user"] == "alice"


async def test_no_connect_closes(node: NodeProcess) -> None:
    """A connection that joins no namespace is closed after the connect timeout, and not before."""
    async with websocket(node.url) as socket:
        await socket.recv()
        began = time.monotonic()
        await close_code(socket)
        assert CONNECT_TIMEOUT_S - 0.1 < time.monotonic() - began < CONNECT_TIMEOUT_S + BUSY_S


@pytest.mark.parametrize("packet", ['42["message"]', '42/admin,["message"]', "41", "43[1]", '430["x"]', "451-[]"])
async def test_packet_before_connect_closes(node: NodeProcess, packet: str) -> None:
    """Nothing but CONNECT may come first."""
    async with websocket(node.url) as socket:
        await socket.recv()
        await socket.send(packet)
        assert await close_code(socket) == 1002


# DISCONNECT


async def test_disconnect_from_the_main_namespace(node: NodeProcess) -> None:
    """The session ends without an answer; the connection may connect again for a moment, then it is closed."""
    async with raw_client(node.url) as client:
        first = await client.join_namespace(auth())
        await client.send("41")
        second = await client.join_namespace(auth())
        assert second["session"] != first["session"]
        await client.send("41")
        await client.wait_closed()


async def test_disconnect_from_one_of_two(node: NodeProcess) -> None:
    """The other namespace goes on."""
    async with raw_client(node.url) as client:
        await client.join_namespace(auth())
        await client.join_namespace(auth(scope="admin"), "/admin")
        await client.send("41/admin,")
        assert ok(await client.ask("room:list", {})) == {"rooms": []}
        await client.send('42/admin,0["stats"]')
        assert await client.wait_closed() == 1002


# EVENT and ACK


async def test_event_with_an_ack(node: NodeProcess) -> None:
    """The ack has the event's id, in the event's namespace."""
    async with raw_client(node.url) as client:
        await client.join_namespace(auth(scope="chat admin"))
        await client.join_namespace(auth(scope="chat admin"), "/admin")
        assert await answer_to(client, '42456["no:such",1,"2",{"3":[false]}]') == (
            '43456[{"ok":false,"error":{"code":"bad_request","message":"no such command: no:such"}}]'
        )
        assert (await answer_to(client, '42/admin,77["no:such"]')).startswith('43/admin,77[{"ok":false')
        assert (await answer_to(client, '42999999999999999["no:such"]')).startswith("43999999999999999[")


async def test_event_without_an_ack(node: NodeProcess) -> None:
    """Who asks for no ack gets none, and the command is carried out all the same."""
    async with raw_client(node.url) as client:
        await client.join_namespace(auth())
        await client.send('42["room:create",{"room":"quiet"}]')
        assert ok(await client.ask("room:members", {"room": "quiet"}))["members"] == [
            {"user": "alice", "role": "owner", "online": True}
        ]
        assert [packet[:2] for packet in client.packets].count("43") == 1


async def test_binary_event_is_refused_by_an_ack(node: NodeProcess) -> None:
    """No command takes binary: acked `bad_request` once all its frames are there, and the connection goes on."""
    async with raw_client(node.url) as client:
        await client.join_namespace(auth())
        await client.send('452-5["message:send",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]')
        await client.send(b"\x01\x02\x03")
        seen = len(client.packets)
        await client.send(b"")
        answer = await client.ask("room:list", {})
        assert json.loads(client.packets[seen][3:])[0]["error"]["code"] == "bad_request"
        assert client.packets[seen].startswith("435[")
        assert answer["ok"]


async def test_binary_event_without_ack_and_binary_ack_are_taken(node: NodeProcess) -> None:
    """An ack of nothing that was asked is nothing, binary or not."""
    async with raw_client(node.url) as client:
        await client.join_namespace(auth())
        for packet in ('451-["no:such",{"_placeholder":true,"num":0}]', '461-3[{"_placeholder":true,"num":0}]'):
            await client.send(packet)
            await client.send(b"\x00")
        await client.send('4312["nobody asked"]')
        assert (await client.ask("room:list", {}))["ok"]


@pytest.mark.parametrize(
    "packet",
    [
        "4abc",
        "4",
        "42",
        "42{}",
        "42[]",
        "42[",
        "42[null]",
        "42[{}]",
        '42abc["message-with-ack",1]',
        '42["connect"]',
        '42["disconnect"]',
        '42["message"]x',
        '421-["message"]',
        '45["message"]',
        '4517-["message"]',
        '44{"message":"no"}',
        "43[1]",
        "40[]",
        "40",
        "47",
        "41/admin[]",
        "42/admin,[",
    ],
)
async def test_malformed_packet_closes(node: NodeProcess, packet: str) -> None:
    """What is not a packet, or none that a client sends, ends the connection as a protocol error."""
    async with raw_client(node.url) as client:
        await client.join_namespace(auth())
        await client.send(packet)
        assert await client.wait_closed() == 1002


async def test_text_in_place_of_a_binary_frame_closes(node: NodeProcess) -> None:
    """A binary event's frames follow it at once."""
    async with raw_client(node.url) as client:
        await client.join_namespace(auth())
        await client.send('451-0["no:such",{"_placeholder":true,"num":0}]')
        await client.send('42["room:list",{}]')
        assert await client.wait_closed() == 1002


async def test_deep_nesting_closes_or_is_refused(node: NodeProcess) -> None:
    """JSON nested deeper than any parser should follow is refused one way or the other; the node lives."""
    async with raw_client(node.url) as client:
        await client.join_namespace(auth())
        await client.send('420["no:such",' + "[" * 30_000 + "]" * 30_000 + "]")
        assert await client.wait_closed() == 1002
    async with raw_client(node.url) as client:
        await client.join_namespace(auth())
        assert error(await client.ask("message:send", [[[{"a": [[]]}]]]))["code"] == "bad_request"
