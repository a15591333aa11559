"""What a node shows of itself: lines about its sessions and its log, the present lag, metrics on a port of their own."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from broker.address import MemoryAddress
from broker.log import Position
from broker.memory import MemoryBroker
from node.app import Node
from node.config import Settings
from node.edge.witness import LINES_BURST
from node.flow.store import open_store
from tests.support.client import ConnectRefused, chat_client, error, ok, raw_client
from tests.support.held import log_held
from tests.support.http import async_http, bearer, metric
from tests.support.nodes import Cluster, NodeProcess
from tests.support.tokens import SECRET, token
from tests.support.wait import wait_until

pytestmark = pytest.mark.anyio
Line = dict[str, Any]
OTHERS = 10  # that are refused for another reason, in a storm


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes that tell of every command; the second one has its metrics on a port of their own."""
    settings = {"log_level": "debug", "handshake_rate": "1000", "handshake_burst": "1000"}
    with Cluster(tmp_path_factory.mktemp("seen"), settings, count=2, own={"n2": {"metrics_port": "0"}}) as cluster:
        yield cluster


def lines(node: NodeProcess, event: str = "", **fields: Any) -> list[Line]:
    """What the node has logged, of this kind and with these fields."""
    said = [json.loads(line) for line in node.stderr().splitlines()]
    return [line for line in said if event in ("", line["event"]) and all(line.get(name) == v for name, v in fields.items())]


async def test_one_session_can_be_followed_from_node_to_node(cluster: Cluster) -> None:
    """Opened, renewed, refused a renewal, ended and resumed elsewhere: a line each, with one lineage, and the ids of the log's events."""
    first, second = cluster
    async with chat_client(first.url, token("ann")) as ann:
        session = ann.named("welcome")[0]["session"]
        ok(await ann.ask("auth:refresh", {"token": token("ann")}))
        assert not (await ann.ask("auth:refresh", {"token": token("bob")}))["ok"]
        assert error(await ann.ask("history", {"room": "nowhere"}))["code"] == "room_not_found"
    await wait_until(lambda: lines(first, "session ended", session=session), 5, "its end is told")
    told = [line["event"] for line in lines(first, lineage=session) if line["event"] != "command"]
    assert told == ["session opened", "session renewed", "renewal refused", "session ended"]
    commands = [(line["command"], line["outcome"]) for line in lines(first, "command", session=session)]
    assert commands == [("auth:refresh", "ok"), ("auth:refresh", "subject_mismatch"), ("history", "room_not_found")]
    ended = lines(first, "session ended", session=session)[0]
    assert (ended["reason"], ended["user"]) == ("transport", "ann") and ended["lasted_ms"] >= 0
    async with chat_client(second.url, token("ann"), resume={"session": session, "cursors": {}}) as ann:
        again = ann.named("welcome")[0]
        assert again["resumed"]
        async with async_http() as http:
            asks = bearer(token("root", scope="admin"))
            assert (await http.post(f"{first.url}/api/revoke", headers=asks, json={"session": session})).status_code == 200
        await ann.wait_closed()
    await wait_until(lambda: lines(second, "session ended", lineage=session), 5, "its end is told")
    opened, ended = [line for line in lines(second, lineage=session) if line["event"] != "command"]
    assert (opened["event"], opened["resumes"], opened["session"]) == ("session opened", session, again["session"])
    assert (ended["reason"], ended["code"]) == ("revoked", "token_revoked")
    for node in cluster:
        assert lines(node, "withdrawn", id=ended["withdrawal"], by="root", kind="tokens_revoked")


async def test_in_a_storm_few_lines_stand_for_all(cluster: Cluster) -> None:
    """Refused handshakes: some lines, and how many were left out; both together, and the metric, are as many as there were.

    What is refused for another reason meanwhile is told nevertheless.
    """
    node, times = cluster[0], 2 * LINES_BURST
    before = metric(node.url, "tidegate_handshakes_total", 'outcome="refused"') - len(lines(node, "session refused"))
    for _ in range(times):
        async with raw_client(node.url) as client:
            with pytest.raises(ConnectRefused):
                await client.join_namespace({"token": "a.b"})
    for _ in range(OTHERS):
        async with raw_client(node.url) as client:
            with pytest.raises(ConnectRefused):
                await client.join_namespace({"token": token("late", ttl=-1)})

    def told() -> tuple[int, int]:
        left_out = sum(line.get("session_refused", 0) for line in lines(node, "lines were left out"))
        return len(lines(node, "session refused")), left_out

    await wait_until(
        lambda: before + sum(told()) == metric(node.url, "tidegate_handshakes_total", 'outcome="refused"'), 5, "all are told"
    )
    written, left_out = told()
    assert written < times + OTHERS
    assert left_out == metric(node.url, "tidegate_log_lines_dropped_total", 'event="session refused"') > 0
    assert left_out == sum(line.get("session_refused_token_malformed", 0) for line in lines(node, "lines were left out"))
    codes = Counter(line["code"] for line in lines(node, "session refused"))
    assert (codes["token_expired"], codes["token_malformed"]) == (OTHERS, written - OTHERS)


async def test_metrics_on_a_port_of_their_own(cluster: Cluster) -> None:
    """It has the metrics and nothing else; the public port has no such path, and the other node has no such port."""
    first, second = cluster
    (url,) = re.findall(r"has its metrics on (http://127\.0\.0\.1:\d+/metrics)\n", second.stdout())
    assert "metrics" not in first.stdout()
    async with async_http() as http:
        answer = await http.get(url)
        assert answer.status_code == 200 and 'tidegate_build_info{node="n2"' in answer.text
        for other in ("/", "/healthz", "/socket.io/?EIO=4&transport=polling", "/metrics/"):
            assert (await http.get(url.removesuffix("/metrics") + other)).status_code == 404, other
        assert (await http.post(url)).status_code == 405
        assert (await http.get(f"{second.url}/metrics")).status_code == 404
        assert (await http.get(f"{first.url}/metrics")).status_code == 200


async def test_a_log_that_is_away_and_back(cluster: Cluster) -> None:
    """A line when it goes and one when it is back; meanwhile the lag of every partition grows, and falls to 0 behind it."""
    node = cluster[0]

    def lag() -> float:
        return metric(node.url, "tidegate_log_lag_seconds", 'partition="0"')

    async with chat_client(node.url, token("ann")) as ann:
        with log_held(cluster.folder):
            assert error(await ann.ask("room:create", {"room": "held"}))["code"] == "unavailable"
            await wait_until(lambda: lag() > 0.5, 5, "the lag grows")
            seen = lag()
            await wait_until(lambda: lag() > seen, 5, "it grows further")
            assert metric(node.url, "tidegate_not_ready", 'reason="log away"') == 1
            assert metric(node.url, "tidegate_broker_up") == 0
        await wait_until(lambda: lines(node, "the log is back"), 5, "it is said that it is back")
    assert metric(node.url, "tidegate_log_lag_seconds") == metric(node.url, "tidegate_not_ready") == 0
    assert [len(lines(node, event)) for event in ("the log is away", "the log is back")] == [1, 1]
    assert lines(node, "the log is back")[0]["after_seconds"] > 0.5


class Heard:
    """Signals of a node that has no other, whose `say` lets it hear one."""

    def publish(self, data: bytes) -> None:
        """Nobody is there."""

    def subscribe(self, receive: Any) -> None:
        self.say = receive


async def test_what_other_nodes_have_applied_is_known_to_be_there(tmp_path: Path) -> None:
    """A node that another one is ahead of says so, for as long as it is."""
    async with AsyncExitStack() as stack:
        broker, heard = MemoryBroker(2), Heard()
        broker.signals = heard  # type: ignore[assignment]
        store = await stack.enter_async_context(open_store(tmp_path / "n1.db", epoch=broker.log.epoch))
        node = Node(Settings(log=MemoryAddress(), partitions=1, jwt_secret={None: SECRET}), broker, store)
        stack.push_async_callback(node.aclose)
        for partition in range(2):
            node.projector._level(partition)
        assert [node.status.lag_seconds(partition) for partition in range(2)] == [0, 0]
        heard.say(json.dumps({"kind": "beat", "node": "n2", "state": {"positions": {"0": 5, "1": 0}}}).encode())
        await wait_until(lambda: node.status.lag_seconds(0) > 0.05, 5, "it is behind")
        assert node.status.lag_seconds(1) == 0
        store.advance(0, Position(5))
        assert node.status.lag_seconds(0) == 0
