"""A node at its door: over what it admits 503 with `Retry-After`, those who resume first, everybody counted."""

from collections.abc import Iterator

import httpx
import pytest

from tests.support.client import chat_client, engine_url, ok, raw_client
from tests.support.http import async_http, failure, metric
from tests.support.nodes import Cluster
from tests.support.tokens import token

pytestmark = pytest.mark.anyio
BURST = 6
SLOW = {"handshake_rate": "0.01", "handshake_burst": str(BURST)}  # no test waits for the next one


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes that admit six handshakes each, and then next to none."""
    with Cluster(tmp_path_factory.mktemp("admission"), SLOW, count=2) as cluster:
        yield cluster


async def begin(url: str, **query: str) -> httpx.Response:
    async with async_http() as http:
        return await http.get(engine_url(url, "polling", **query))


async def test_over_the_capacity_503_tells_when_to_come(cluster: Cluster) -> None:
    """By polling and by WebSocket, whatever the token; who is connected goes on; refusals are counted by code and transport."""
    url = cluster[0].url
    async with chat_client(url, token("alice")) as alice:
        ok(await alice.ask("room:create", {"room": "lobby"}))
        for _ in range(BURST - 1):
            assert (await begin(url)).status_code == 200
        for _ in range(3):
            refused = await begin(url, token="not-a-token")
            failure(refused, 503, "server_busy")
            assert 1 <= int(refused.headers["retry-after"]) <= 30
        upgrade = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "a" * 22 + "==",
        }
        async with async_http() as http:
            failure(await http.get(engine_url(url).replace("ws", "http", 1), headers=upgrade), 503, "server_busy")
        sent = ok(await alice.ask("message:send", {"room": "lobby", "text": "still here"}))
        assert (await alice.expect("message"))["seq"] == sent["seq"]
    busy = 'code="server_busy",namespace="/",outcome="busy"'
    assert metric(url, "tidegate_handshakes_total", busy) == 4
    assert metric(url, "tidegate_handshakes_total", f'{busy},source="",transport="websocket"') == 1
    assert metric(url, "tidegate_handshake_capacity_per_second") == pytest.approx(0.01)


async def test_who_resumes_goes_before_newcomers(cluster: Cluster) -> None:
    """With the ticket of another node's `welcome`, once, while newcomers are turned away; a forged one is a newcomer's."""
    first, second = cluster.urls
    async with chat_client(first, token("alice")) as alice:
        ticket = alice.events[0][1]["ticket"]
    async with chat_client(first, token("bob")) as bob:
        other = bob.events[0][1]["ticket"]
    for _ in range(BURST):
        assert (await begin(second)).status_code == 200
    failure(await begin(second, ticket=ticket), 503, "server_busy")  # now someone who resumes is asking
    failure(await begin(second), 503, "server_busy")

    for _ in range(2):  # the first node has four left, and the same two kinds
        assert (await begin(first)).status_code == 200
    for _ in range(2):
        async with raw_client(first, ticket=f"{ticket}x"):
            pass
    failure(await begin(first, ticket=other), 503, "server_busy")
    assert metric(second, "tidegate_handshakes_total", 'outcome="busy"') == 2


async def test_a_set_rate_is_kept(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Resuming clients are let in at the expense of newcomers, in turn, at the rate that is set."""
    settings = {"handshake_rate": "4", "handshake_burst": "8"}
    with Cluster(tmp_path_factory.mktemp("rate"), settings, count=1) as cluster:
        url, tickets = cluster[0].url, list[str]()
        for number in range(6):
            async with chat_client(url, token(f"user-{number}")) as client:
                tickets.append(client.events[0][1]["ticket"])
        while (await begin(url)).status_code == 200:
            pass  # the bucket is empty: newcomers are asking
        resumed = newcomers = 0
        async with async_http() as http:
            while resumed < len(tickets):
                newcomers += (await http.get(engine_url(url, "polling"))).status_code == 200
                answer = await http.get(engine_url(url, "polling", ticket=tickets[resumed]))
                resumed += answer.status_code == 200
        assert newcomers <= 3
        async with async_http() as http:  # each is good once: from here on a newcomer's
            answers = [await http.get(engine_url(url, "polling", ticket=tickets[0])) for _ in range(40)]
        assert 503 in {answer.status_code for answer in answers}
