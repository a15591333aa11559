"""Junk of every kind over real sockets: answered by an ack with the right code, or the end of that one connection; nobody else notices."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed

from tests.support.client import Client, chat_client, error, ok
from tests.support.nodes import Cluster, NodeProcess
from tests.support.tokens import token
from tests.support.wait import wait_until

pytestmark = pytest.mark.anyio

EXAMPLES = 40
GROWTH = 48 * 1_048_576  # bytes: far less than what was fed in, kept, would take; more than an allocator's moods
CODES = {"bad_request", "too_large", "room_not_found", "not_a_member", "message_not_found", "room_exists", "forbidden"}
FIELDS = {
    "room:create": ["room", "title", "kind", "with"],
    "room:join": ["room"],
    "room:leave": ["room"],
    "room:invite": ["room", "user"],
    "room:kick": ["room", "user"],
    "room:role": ["room", "user", "role"],
    "room:list": ["query", "limit"],
    "room:members": ["room"],
    "message:send": ["room", "text", "id", "reply_to"],
    "message:edit": ["room", "id", "text"],
    "message:delete": ["room", "id"],
    "message:react": ["room", "id", "emoji", "on"],
    "history": ["room", "before", "after", "limit"],
    "replay": ["room", "after", "limit"],
    "search": ["query", "room", "limit"],
    "read": ["room", "seq"],
    "typing": ["room", "on"],
    "presence": ["room"],
}
RESERVED = {"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """A node on which one user may ask a great deal."""
    quick = {"commands_per_second": "100000", "commands_burst": "100000"}
    with Cluster(tmp_path_factory.mktemp("junk"), quick, count=1) as cluster:
        yield cluster[0]


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**53, -(2**63), 2**64, 10**30, 1e308, 0.1, -0.0])
    | st.text(max_size=40)
    | st.sampled_from(["", "\0", "x" * 5_000, "' OR 1=1 --", "__proto__", "no-such-room", "junk", "é" * 70])
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4)
)
names = st.sampled_from(list(FIELDS)) | st.text(max_size=30).filter(lambda name: name not in RESERVED)


@st.composite
def payloads(draw: st.DrawFn, name: str) -> list[Any]:
    """The arguments of an event: nothing, too many, not an object, or an object whose fields are nearly right."""
    fields = st.fixed_dictionaries({}, optional=dict.fromkeys([*FIELDS.get(name, []), "room"], values))
    return draw(st.lists(values, max_size=3) | st.lists(fields, min_size=1, max_size=1))


@st.composite
def events(draw: st.DrawFn) -> list[Any]:
    name = draw(names)
    return [name, *draw(payloads(name))]


async def answered(client: Client, event: list[Any]) -> None:
    """The event is acked: carried out if it made sense after all, else refused with a code of the contract."""
    answer = await client.ask(event[0], *event[1:])
    if answer.get("ok") is True:
        assert event[0] in FIELDS
    else:
        refused = error(answer)
        assert refused["code"] in (CODES if event[0] in FIELDS else {"bad_request"}), (event, answer)
        assert refused["message"]


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(batch=st.lists(events(), min_size=1, max_size=8))
async def test_junk_events_are_acked(node: NodeProcess, batch: list[list[Any]]) -> None:
    """Whatever an event's name and arguments: one ack each, and the connection goes on."""
    async with chat_client(node.url, token("vandal")) as vandal:
        for event in batch:
            await answered(vandal, event)
        ok(await vandal.ask("room:list", {}))


BODIES = ["[" * 3_000, '["no:such","\\ud800"]', '["x",' * 500, "[]", "{}", '["message:send"']
HEADS = ["4", "40", "41", "42", "420", "43", "44", "45", "451-", "452-0", "46", "47", "4/", "42/admin,", "2", "1", "6", ""]
near_packets = st.builds(
    lambda head, body: head + body,
    st.sampled_from(HEADS),
    st.text(max_size=60) | values.map(json.dumps) | st.sampled_from(BODIES),
)


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(packet=near_packets | st.binary(max_size=200) | st.text(max_size=100), twice=st.booleans())
async def test_junk_packets_end_their_connection_or_nothing(node: NodeProcess, packet: str | bytes, twice: bool) -> None:
    """Not an event at all: the connection lives on, answering, or it is closed with a code; either way another one does not notice."""
    async with chat_client(node.url, token("vandal")) as vandal, chat_client(node.url, token("bystander")) as bystander:
        if isinstance(packet, str):
            packet = packet.encode(errors="replace").decode()
        with contextlib.suppress(ConnectionClosed):
            await vandal.send(packet)
            if twice:
                await vandal.send(packet)
            await vandal.send('42990["room:list",{}]')
        ok(await bystander.ask("room:list", {}))
        if not vandal.closed:
            await wait_until(lambda: vandal.closed or vandal.acked(990) is not None, 5, "an ack, or the end")
        assert not vandal.closed or vandal.close_code in (1000, 1002)
        assert not bystander.closed


async def test_heaps_of_junk_leave_nothing_behind(node: NodeProcess) -> None:
    """Thousands of large refusals and hundreds of broken connections: the node's memory is what it was, and others are answered."""
    async with chat_client(node.url, token("bystander")) as bystander:
        ok(await bystander.ask("room:create", {"room": "calm"}))

        async def vandalise(rounds: int) -> None:
            for _ in range(rounds):
                async with chat_client(node.url, token("vandal")) as vandal:
                    for _ in range(20):
                        await vandal.begin_ask("message:send", {"room": "calm", "text": "x" * 60_000})
                    ok(await bystander.ask("message:send", {"room": "calm", "text": "here"}))
                    await vandal.send("42[")
                    assert await vandal.wait_closed() == 1002

        await vandalise(20)
        before = node.rss_bytes()
        await vandalise(60)  # 72 MB
        assert node.rss_bytes() - before < GROWTH
        assert bystander.named("message")[-1]["seq"] == 81
