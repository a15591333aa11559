"""A cluster behind HAProxy: long-polling stays with its node, WebSockets are spread, and a dead node's clients go elsewhere at once."""

import asyncio
import itertools
import json
import time
from collections.abc import Iterator

import httpx
import pytest

from loadtest.checker import check
from tests.support.client import chat_client, engine_url, error, ok
from tests.support.crowd import UNHURRIED
from tests.support.haproxy import haproxy
from tests.support.held import log_held
from tests.support.http import async_http, failure
from tests.support.js import JsClients, js_clients
from tests.support.nodes import Cluster
from tests.support.tokens import token
from tests.support.wait import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.nodejs, pytest.mark.haproxy]

ROOM = "proxied"
WAYS = {"polling": ["polling"], "websocket": ["websocket"], "both": ["polling", "websocket"]}
USERS = [f"{way}-{number}" for way in WAYS for number in range(3)]
BACK_S = 20.0
AT_ONCE_S = 1.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes."""
    with Cluster(tmp_path_factory.mktemp("haproxy"), UNHURRIED) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def url(cluster: Cluster) -> Iterator[str]:
    """The proxy in front of them."""
    with haproxy(cluster) as url:
        yield url


async def polling_session(http: httpx.AsyncClient, url: str) -> str:
    """A new session through the proxy; returns its sid."""
    opened = await http.get(engine_url(url, "polling"))
    return str(json.loads(opened.text[1:])["sid"])


async def gather(js: JsClients, url: str) -> dict[str, str]:
    """Everybody connects through the proxy and enters the room; returns on which node each one is."""
    nodes = {}
    for user in USERS:
        welcome = await js.open(user, [url], lambda user=user: token(user), transports=WAYS[user.split("-")[0]])  # type: ignore[misc]
        assert welcome is not None
        nodes[user] = welcome["node"]
    host, *guests = USERS
    ok(await js.ask(host, "room:create", {"room": ROOM}))
    for guest in guests:
        ok(await js.ask(guest, "room:join", {"room": ROOM}))
    return nodes


async def notice_the_log(cluster: Cluster) -> None:
    """Let each node notice that its log is away: somebody wants to write."""
    for node in cluster:
        async with chat_client(node.url, token("writer")) as writer:
            assert error(await writer.ask("room:create", {"room": f"made-on-{node.id}"}))["code"] == "unavailable"


async def answers(http: httpx.AsyncClient, url: str, expected: int) -> bool:
    """Whether a newcomer gets this status."""
    return (await http.get(engine_url(url, "polling"))).status_code == expected


async def test_a_sid_leads_to_its_node(cluster: Cluster, url: str) -> None:
    """Newcomers are spread over all nodes, each later request goes to the node in its sid; a strange one is answered all the same."""
    async with async_http() as http:
        sids = [await polling_session(http, url) for _ in range(9)]
        polls = [asyncio.ensure_future(http.get(engine_url(url, "polling", sid=sid))) for sid in sids]
        for sid in sids:
            connect = "40" + json.dumps({"token": token("sid")})
            assert (await http.post(engine_url(url, "polling", sid=sid), content=connect)).text == "ok"
        told = [(await poll).text for poll in polls]
        assert all(f'"node":"{sid.partition(".")[0]}"' in text for sid, text in zip(sids, told, strict=True))
        assert {sid.partition(".")[0] for sid in sids} == {node.id for node in cluster}
        for strange in ("n9.nowhere", "nothing", "n1.nothing"):
            failure(await http.get(engine_url(url, "polling", sid=strange)), 400, "unknown_sid")
        assert (await http.get(f"{url}/healthz")).status_code == 200


@pytest.mark.parametrize("path", ["/metrics", "/%6detrics", "/metrics?a=b", "/dev/token", "/dev%2Ftoken"])
async def test_what_asks_for_no_token_stays_inside(url: str, path: str) -> None:
    """Neither metrics nor the dev issuer are passed on, however a node would spell their path."""
    async with async_http() as http:
        assert (await http.post(f"{url}{path}")).status_code == 403


async def test_sessions_stay_where_no_node_is_ready(cluster: Cluster, url: str) -> None:
    """While the log is away from all nodes nobody new is let in, and who is here polls and asks on, on his own node."""
    async with async_http() as http:
        sid = await polling_session(http, url)
        own = engine_url(url, "polling", sid=sid)
        await http.post(own, content="40" + json.dumps({"token": token("patient")}))
        assert '["welcome",' in (await http.get(own)).text
        with log_held(cluster.folder):
            await notice_the_log(cluster)
            await wait_until(lambda: answers(http, url, 503), BACK_S, "the proxy knows it of all nodes")
            assert (await http.post(own, content='420["room:list",{}]')).text == "ok"
            assert (await http.get(own)).text.startswith('430[{"ok":true,')
        await wait_until(lambda: answers(http, url, 200), BACK_S, "newcomers are let in again")


async def test_a_node_is_killed_behind_it(cluster: Cluster, url: str) -> None:
    """A poll of its sid is answered 400 at once by another node; its clients, however connected, resume there; nobody misses anything."""
    async with js_clients() as js, async_http() as http:
        nodes = await gather(js, url)
        victim = next(node for node in cluster if node.id == nodes["polling-1"])
        orphans = [user for user in USERS if nodes[user] == victim.id]
        assert set(nodes.values()) == {node.id for node in cluster}
        assert js.count("disconnect") == 0

        stray = await polling_session(http, url)
        while not stray.startswith(f"{victim.id}."):
            stray = await polling_session(http, url)
        js.send(USERS[0], ROOM, "before", 50)
        await wait_until(lambda: js.count("acked") >= 10, BACK_S, "some is said")
        victim.kill()
        async with (
            async_http() as fresh
        ):  # a connection that was kept may be closed with the node's: then a browser asks again by itself
            began = time.monotonic()
            failure(await fresh.get(engine_url(url, "polling", sid=stray)), 400, "unknown_sid")
            assert time.monotonic() - began <= AT_ONCE_S
        for number in itertools.count(1):
            back = all(len(js.of(user, "told", event="welcome")) == 2 for user in orphans)
            js.send(USERS[-1], ROOM, f"after-{number}", 10)
            await wait_until(lambda number=number: js.count("acked") >= 50 + 10 * number, BACK_S, "all is acked")  # type: ignore[misc]
            if back:
                break
        last = len(USERS) + 50 + 10 * number
        for user in USERS:
            await wait_until(lambda user=user: js.of(user, "seen")[-1]["payload"]["seq"] == last, BACK_S, f"{user} sees it all")  # type: ignore[misc]
        verdict = check(js.histories({user: user for user in USERS}, ROOM, after=len(USERS)))
        assert verdict.faults == ()
        assert verdict.acked == last - len(USERS)
        for user in USERS:
            first, *later = [line["payload"] for line in js.of(user, "told", event="welcome")]
            assert [(again["resumed"], again["node"] != victim.id) for again in later] == [(True, True)] * (user in orphans)
            assert first["node"] == nodes[user]
            assert len(js.of(user, "disconnect")) == (user in orphans)
    cluster.start([victim])
