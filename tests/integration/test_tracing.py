"""Traces over two nodes, as a collector of OpenTelemetry gets them; and what nodes do that are not asked for any."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.core.events import MessagePosted
from tests.support.client import Client, chat_client, error, ok
from tests.support.collector import Collector, Span, collector
from tests.support.http import async_http, bearer, post
from tests.support.nodes import Cluster
from tests.support.recorded import recorded
from tests.support.tokens import token
from tests.support.wait import block_until, wait_until

pytestmark = pytest.mark.anyio
SENT_S = 10.0  # until spans have arrived: they are sent once a second


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, Collector]]:
    """Two nodes that trace every command."""
    with collector() as sent, Cluster(tmp_path_factory.mktemp("traced"), settings(sent), count=2) as cluster:
        yield cluster, sent


def settings(sent: Collector) -> dict[str, str]:
    return {"trace_url": sent.url, "log_level": "debug"}


async def joined(client: Client, room: str) -> None:
    """In the room, once it is known on the client's node."""

    async def is_in() -> bool:
        return bool((await client.ask("room:join", {"room": room}))["ok"])

    await wait_until(is_in, SENT_S, f"{room} is joined")


async def spans_of(sent: Collector, event: str, count: int) -> list[Span]:
    """All spans of the trace that appended this event, once there are so many, in the order in which they began."""

    def found() -> list[Span]:
        traces = {span.trace for span in sent.named("append") if span.attributes["tidegate.event"] == event}
        return sorted((span for span in sent.spans if span.trace in traces), key=lambda span: span.began)

    await wait_until(lambda: len(found()) >= count, SENT_S, f"{count} spans of {event}")
    return found()


def test_who_asks_has_loaded_it(traced: tuple[Cluster, Collector]) -> None:
    """The library by which the last test tells is there where traces are made."""
    assert traced[0][0].has_loaded("google/_upb")


async def test_a_message_from_its_command_to_every_node(traced: tuple[Cluster, Collector]) -> None:
    """One trace: the command, in it the append, and behind that, on each node, the way to its sockets."""
    cluster, sent = traced
    async with chat_client(cluster.urls[0], token("ann")) as ann, chat_client(cluster.urls[1], token("bob")) as bob:
        ok(await ann.ask("room:create", {"room": "traced"}))
        await joined(bob, "traced")
        lineage = ann.named("welcome")[0]["session"]
        ok(await ann.ask("message:send", {"room": "traced", "text": "hello", "id": "m1"}))
        await bob.expect("message", id="m1")
        (posted,) = [one for one in await recorded(cluster.folder) if isinstance(one, MessagePosted) and one.message == "m1"]
        command, append, *deliveries = await spans_of(sent, posted.id, 4)
    assert (command.name, command.kind, command.parent, command.node) == ("message:send", "SERVER", "", "n1")
    assert command.attributes == {"tidegate.lineage": lineage, "tidegate.outcome": "ok"}
    assert (append.name, append.kind, append.parent, append.node) == ("append message_posted", "PRODUCER", command.id, "n1")
    assert sorted(one.node for one in deliveries) == ["n1", "n2"]
    for one in deliveries:
        assert (one.name, one.kind, one.parent) == ("deliver message_posted", "CONSUMER", append.id)
        assert one.attributes == {"tidegate.event": posted.id, "tidegate.sockets": 1}
        assert command.began <= append.began <= one.began <= one.ended
    assert re.fullmatch(f"00-{command.trace}-{append.id}-0[13]", posted.trace or "")  # sampled
    lines = [json.loads(line) for line in cluster[0].stderr().splitlines()]
    assert [line["lineage"] for line in lines if line.get("trace") == command.trace] == [lineage]
    assert f'# {{trace_id="{command.trace}"}}' in cluster[1].metrics()


async def test_a_trace_that_began_elsewhere_goes_on(traced: tuple[Cluster, Collector]) -> None:
    """A post over HTTP with a `traceparent` is part of its caller's trace; one that is no `traceparent` begins its own."""
    cluster, sent = traced
    begun = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with chat_client(cluster.urls[0], token("ann")) as ann, async_http() as http:
        ok(await ann.ask("room:create", {"room": "posted"}))
        url, allowed = f"{cluster.urls[0]}/api/rooms/posted/messages", bearer(token("ann", scope="publish"))
        for name, parent in (("ours", begun), ("junk", "x" * 5_000)):
            answer = await http.post(url, headers=allowed | {"traceparent": parent}, json={"text": "hi", "id": name})
            assert answer.status_code == 200, answer.text

    def ours() -> list[Span]:
        return [span for span in sent.spans if span.trace == begun[3:35]]

    await wait_until(lambda: len(ours()) >= 4, SENT_S, "the command, the append, the ways on two nodes")
    assert sorted(span.name for span in ours()) == sorted(
        ["message:send", "append message_posted", *2 * ["deliver message_posted"]]
    )
    assert [span.parent for span in ours() if span.name == "message:send"] == [begun[36:52]]


async def test_a_refused_command_is_a_trace_of_its_own(traced: tuple[Cluster, Collector]) -> None:
    """With its code, and nothing behind it."""
    cluster, sent = traced
    async with chat_client(cluster.urls[1], token("bob")) as bob:
        assert error(await bob.ask("message:send", {"room": "nowhere", "text": "?"}))["code"] == "room_not_found"
        lineage = bob.named("welcome")[0]["session"]
    await wait_until(lambda: any(one.attributes.get("tidegate.lineage") == lineage for one in sent.spans), SENT_S, "its span")
    (one,) = [span for span in sent.spans if span.attributes.get("tidegate.lineage") == lineage]
    assert one.attributes["tidegate.outcome"] == "room_not_found"
    assert [span.name for span in sent.spans if span.trace == one.trace] == ["message:send"]


def test_a_collector_that_is_away_is_said_once(tmp_path: Path) -> None:
    """A line when spans cannot be sent and one when they can again; nothing else suffers."""
    with collector() as sent:
        sent.answer = 400
        with Cluster(tmp_path, settings(sent) | {"dev_issuer": "1"}, count=1) as cluster:
            url, allowed = f"{cluster.urls[0]}/api/rooms/none/messages", bearer(token("ann", scope="publish"))

            def said(line: str) -> bool:
                assert post(url, headers=allowed, json={"text": "hi"}).status_code == 404
                return line in cluster[0].stderr()

            block_until(lambda: said("spans cannot be sent"), SENT_S, "it is said")
            sent.answer = 200
            block_until(lambda: said("spans are sent again"), SENT_S, "it is said")
            assert sent.named("message:send")
            assert cluster[0].stderr().count("spans cannot be sent") == 1


async def test_who_does_not_ask_pays_nothing(tmp_path: Path) -> None:
    """Without a collector nothing of OpenTelemetry is loaded, and no event carries a trace."""
    with Cluster(tmp_path, {"trace_share": "1"}, count=1) as cluster:
        async with chat_client(cluster.urls[0], token("ann")) as ann:
            ok(await ann.ask("room:create", {"room": "quiet"}))
        assert not cluster[0].has_loaded("google/_upb")
        assert {event.trace for event in await recorded(tmp_path)} == {None}
