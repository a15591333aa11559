"""The stock clients of two languages, given a function for `auth` and nothing else: they come back by themselves, or stay away."""

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from loadtest.checker import check
from tests.support.client import ok, raw_client
from tests.support.http import async_http, bearer, metric
from tests.support.nodes import Cluster
from tests.support.stock import BACK_S, GUESTS, Stock, lives, stock_clients
from tests.support.tokens import token
from tests.support.wait import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.nodejs]

TALKER = "js-websocket-talker"
WAY_MS = 500  # what the way to a client may add, on a machine that is busy with other tests


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes that replay whatever was missed at once, and let a user talk without a pause."""
    settings = {"replay_events": "1000000", "commands_per_second": "10000", "commands_burst": "10000"}
    with Cluster(tmp_path_factory.mktemp("stock"), settings, count=2) as cluster:
        yield cluster


async def gather(stock: Stock, cluster: Cluster, room: str, guests: list[str], *ttls: float) -> int:
    """A talker on the first node, and the guests on the second; returns the seq at which all are in the room."""
    await stock.open(TALKER, cluster[0].url, lambda: token(TALKER))
    ok(await stock.ask(TALKER, "room:create", {"room": room}))
    for guest in guests:
        await stock.open(guest, cluster[1].url, lives(guest, *ttls))
    joined = [ok(await stock.ask(guest, "room:join", {"room": room}))["seq"] for guest in guests]
    return int(joined[-1])


async def talk_during(stock: Stock, room: str, happening: asyncio.Future[Any]) -> int:
    """Let the talker say one thing after the other until it has happened, and one more; returns how many."""
    for number in itertools.count(1):
        last = happening.done()
        ok(await stock.ask(TALKER, "message:send", {"room": room, "text": f"word {number}", "id": f"{room}-{number}"}))
        if last:
            await happening
            return number
    raise AssertionError("never ends")


async def nothing_missed(stock: Stock, room: str, guests: list[str], joined: int, said: int) -> None:
    """Everybody sees everything that was said, once and in order, part of it replayed, and nothing past the end of a session."""
    for guest in guests:

        def all_seen(guest: str = guest) -> bool:
            return bool(stock.of(guest, "seen")[-1]["payload"]["seq"] == joined + said)

        await wait_until(all_seen, BACK_S, f"{guest} sees the last word")
    verdict = check(stock.histories([TALKER, *guests], room, after=joined), tolerance_ms=WAY_MS)
    assert verdict.faults == ()
    assert verdict.clients == len(guests) + 1
    assert verdict.seen >= (len(guests) + 1) * said
    for guest in guests:
        assert {line["way"] for line in stock.of(guest, "seen", event="message")} == {"live", "replay"}


async def test_they_come_back_when_their_tokens_expire(cluster: Cluster) -> None:
    """Twice, to the same node, with nothing missed."""
    room = "expiring"
    async with stock_clients() as stock:
        joined = await gather(stock, cluster, room, GUESTS, 3, 1.5, 600)
        said = await talk_during(stock, room, asyncio.ensure_future(stock.welcomed(GUESTS, 3)))
        await nothing_missed(stock, room, GUESTS, joined, said)
        for guest in GUESTS:
            assert [welcome["resumed"] for welcome in stock.welcomes(guest)] == [False, True, True]
            assert all(line["payload"] == {"code": "token_expired"} for line in stock.of(guest, "told", event="auth:expired"))
            assert len(stock.of(guest, "disconnect")) == 2


async def test_they_come_back_to_a_node_that_drained(cluster: Cluster) -> None:
    """SIGTERM, and another process at the same port: told so, they try until it is there, and have missed nothing."""
    room, leaving = "draining", cluster[1]

    async def restart() -> None:
        leaving.terminate()
        await asyncio.to_thread(leaving.wait_ended)
        await asyncio.to_thread(cluster.start, [leaving])
        await stock.welcomed(GUESTS, 2)

    async with stock_clients() as stock:
        joined = await gather(stock, cluster, room, GUESTS, 600)
        said = await talk_during(stock, room, asyncio.ensure_future(restart()))
        await nothing_missed(stock, room, GUESTS, joined, said)
        for guest in GUESTS:
            assert [welcome["resumed"] for welcome in stock.welcomes(guest)] == [False, True]
            assert len(stock.of(guest, "disconnect")) == 1
            told = len(stock.of(guest, "told", event="draining"))
            assert told == 1 or (told == 0 and guest.endswith("polling"))  # none where no poll had begun


async def test_they_come_in_after_a_503(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Turned away by a node that is full, they try by themselves until there is room, and then chat."""
    full = len(GUESTS)
    with Cluster(tmp_path_factory.mktemp("full"), {"max_sessions": str(full)}, count=1) as cluster:
        url = cluster[0].url
        async with stock_clients() as stock:
            async with AsyncExitStack() as held:
                for _ in range(full):
                    holder = await held.enter_async_context(raw_client(url))
                    await holder.join_namespace({"token": token("holder")})
                for guest in GUESTS:
                    await stock.open(guest, url, lives(guest, 600), wait=False)

                def refused() -> bool:
                    return metric(url, "tidegate_handshakes_total", 'outcome="busy"') >= 2 * len(GUESTS)

                await wait_until(refused, BACK_S, "they are turned away")
                for guest in GUESTS:
                    await wait_until(lambda guest=guest: stock.of(guest, "connect_error"), BACK_S, f"{guest} hears of it")  # type: ignore[misc]
                assert all(stock.of(guest, "connect") == [] for guest in GUESTS)
            await stock.welcomed(GUESTS, 1)
            for guest in GUESTS:
                ok(await stock.ask(guest, "room:list", {}))


async def test_they_stay_away_once_they_are_revoked(cluster: Cluster) -> None:
    """They never ask again, though a fresh token would be accepted, while others come back twice from an expiry."""
    others = ["js-polling-other", "py-websocket-other"]
    asked: list[str] = []

    def handshakes() -> float:
        return sum(metric(url, "tidegate_handshakes_total") for url in cluster.urls)

    def fresh(guest: str) -> str:
        asked.append(guest)
        return token(f"revoked-{guest}")

    async with stock_clients() as stock, async_http(headers=bearer(token("root", scope="admin"))) as root:
        for number, guest in enumerate(GUESTS):
            await stock.open(guest, cluster.urls[number % 2], lambda guest=guest: fresh(guest))  # type: ignore[misc]
        for number, other in enumerate(others):
            await stock.open(other, cluster.urls[number % 2], lives(other, 2, 1.5, 600))
        before = handshakes() - sum(len(stock.welcomes(other)) for other in others)
        for guest in GUESTS:
            answer = await root.post(f"{cluster.urls[0]}/api/revoke", json={"user": f"revoked-{guest}"})
            assert answer.status_code == 200
        for guest in GUESTS:
            await wait_until(lambda guest=guest: stock.of(guest, "disconnect"), BACK_S, f"{guest} is disconnected")  # type: ignore[misc]
        await stock.welcomed(others, 3)
        assert handshakes() - sum(len(stock.welcomes(other)) for other in others) == before
        assert sorted(asked) == sorted(GUESTS)
        for guest in GUESTS:
            (told,), (gone,) = stock.of(guest, "told", event="auth:revoked"), stock.of(guest, "disconnect")
            assert told["payload"] == {"code": "token_revoked"}
            assert gone["reason"] == ("io server disconnect" if guest.startswith("js") else "server disconnect")
            assert len(stock.of(guest, "connect")) == 1
            assert stock.of(guest, "connect_error") == []
        late = "js-websocket-late"
        await stock.open(late, cluster.urls[1], lambda: token(f"revoked-{GUESTS[0]}"))
