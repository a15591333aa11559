"""Long-polling: each request of a session is judged, and an answer comes at once where there is nothing to wait for."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import aiohttp
import pytest
from websockets.exceptions import InvalidStatus

from tests.support.client import chat_client, engine_url, ok, raw_client, websocket
from tests.support.http import async_http, bearer, failure
from tests.support.nodes import Cluster
from tests.support.tokens import token
from tests.support.wait import wait_until
from tests.support.ways_in import NOTHING, Carried, PollingLine, Refused, carried

pytestmark = pytest.mark.anyio

AT_ONCE_S = 2.0  # an answer without waiting, on a machine that is busy with other tests; a poll would wait for 25 s
LATE_MS = 250  # PROTOCOL section 5: how late an end may be


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes that take a token in the query too."""
    with Cluster(tmp_path_factory.mktemp("polling"), {"token_sources": "auth,header,query"}, count=2) as cluster:
        yield cluster


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


Open = Callable[..., Awaitable[PollingLine]]


@pytest.fixture
async def open_session(cluster: Cluster, http: aiohttp.ClientSession) -> Open:
    """Opens sessions on the first node: on a token in CONNECT's payload, or in a header of every request."""

    async def opened(one: str, carries: Carried = NOTHING) -> PollingLine:
        session = PollingLine(http, cluster[0].url, carries)
        await session.open()
        await session.send("40" + (json.dumps({"token": one}) if carries is NOTHING else ""))
        assert (await session.verdict()).code == "accepted"
        return session

    return opened


async def asked(session: PollingLine, command: str, payload: Any) -> Any:
    """The ack of a command."""
    await session.send(f"421{json.dumps([command, payload])}")
    while not (packet := await session.receive()).startswith("431"):
        pass
    return json.loads(packet[3:])[0]


async def answered(asking: Awaitable[str]) -> str:
    """What a request brings: its answer, or the code of the 401, whose shape is held to by `of_http`."""
    try:
        return await asking
    except Refused as refused:
        return refused.verdict.code


async def refused(session: PollingLine, method: str, body: bytes | None = None, carries: Carried = NOTHING) -> str:
    """The code of a 401, or else the answer."""
    return await answered(session.request(method, body, carries))


BAD: dict[str, Callable[[], str]] = {
    "token_malformed": lambda: "junk",
    "token_expired": lambda: token("ann", ttl=-1),
    "signature_invalid": lambda: token("ann", secret="x" * 40),
    "claim_missing": lambda: token("ann", sub=None),
    "subject_mismatch": lambda: token("bob"),
}


@pytest.mark.parametrize("code", BAD)
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("source", ["header", "query"])
async def test_a_bad_token_ends_the_session(cluster: Cluster, open_session: Open, source: str, method: str, code: str) -> None:
    """A request with a bad token, or another subject's, gets 401 and does nothing; so does every later one, whatever it brings."""
    session = await open_session(token("ann"))
    bad = carried(source, BAD[code](), cluster[0].url)
    room = f"{source}-{method}-{code}".lower().replace("_", "-")
    body = b"420" + json.dumps(["room:create", {"room": room}]).encode() if method == "POST" else None
    assert await refused(session, method, body, bad) == code
    for carries in (NOTHING, carried(source, token("ann"), cluster[0].url)):
        assert await refused(session, "GET", carries=carries) == code
        assert await refused(session, "POST", b"3", carries) == code
    async with chat_client(cluster[0].url, token("ann")) as client:
        assert (await client.ask("history", {"room": room}))["error"]["code"] == "room_not_found"


async def test_a_bad_token_ends_a_poll_that_waits(cluster: Cluster, open_session: Open) -> None:
    """The poll is answered at once, and the session is over for everybody."""
    session = await open_session(token("ann"))
    waiting = asyncio.create_task(answered(session.receive()))
    assert await refused(session, "POST", b"3", carried("header", "junk", cluster[0].url)) == "token_malformed"
    async with asyncio.timeout(AT_ONCE_S):
        assert await waiting in ("1", "token_malformed")  # the second where the poll comes after the bad request
    assert await refused(session, "GET") == "token_malformed"


@pytest.mark.parametrize("source", ["header", "query"])
async def test_a_good_token_goes_on(cluster: Cluster, open_session: Open, source: str) -> None:
    """A request without a token of its own stands on CONNECT's; a fresh one of the same user may come with any request."""
    session = await open_session(token("ann"))
    for carries in (NOTHING, carried(source, token("ann"), cluster[0].url), carried(source, token("ann", scope="publish"), "")):
        assert await session.request("POST", b"420" + json.dumps(["room:list", {}]).encode(), carries) == "ok"
        assert (await session.request("GET", carries=carries)).startswith('430[{"ok":true')
    await session.leave()


async def test_a_token_in_every_request(cluster: Cluster, open_session: Open) -> None:
    """A stock client sends its header each time: that it is good is asked each time, whatever renewals the session has had."""
    ends_at = time.time() + 1.0
    carries = carried("header", token("ann", exp=ends_at), cluster[0].url)
    session = await open_session("", carries)
    assert (await asked(session, "auth:refresh", {"token": token("ann")}))["ok"] is True
    assert (await asked(session, "room:list", {}))["ok"] is True

    async def over() -> bool:
        answer = await refused(session, "POST", b"3", carries)
        assert answer in ("ok", "token_expired")
        return answer != "ok"

    await wait_until(over, 5, "the header's token has ended")
    assert time.time() >= ends_at


async def test_the_end_of_the_token(open_session: Open) -> None:
    """The poll that waits brings `auth:expired` when the token ends; its successor and every other request get 401."""
    ends_at = round(time.time() * 1000) + 1_500
    session = await open_session(token("ann", exp=ends_at / 1000))
    packet = await session.receive()
    while not packet.startswith('42["auth:expired"'):
        assert packet.startswith('42["auth:expiring"'), packet
        packet = await session.receive()
    late_ms = time.time() * 1000 - ends_at
    assert 0 <= late_ms < LATE_MS + AT_ONCE_S * 1000
    assert json.loads(packet[2:]) == ["auth:expired", {"code": "token_expired"}]
    assert await refused(session, "GET") == "token_expired"
    assert await refused(session, "POST", b'420["room:list",{}]') == "token_expired"


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_late_request_after_the_end(cluster: Cluster, open_session: Open, method: str) -> None:
    """Nobody polls while the token ends: the next request gets 401, though it brings a fresh token."""
    ends_at = time.time() + 0.5
    session = await open_session(token("ann", exp=ends_at))
    await wait_until(lambda: time.time() > ends_at, 5, "the token has ended")
    fresh = carried("header", token("ann"), cluster[0].url)
    assert await refused(session, method, b"3" if method == "POST" else None, fresh) == "token_expired"


async def test_a_withdrawn_user(cluster: Cluster, open_session: Open) -> None:
    """The poll that waits brings `auth:revoked` and a DISCONNECT; the next one gets 401 with the code."""
    session = await open_session(token("eve"))
    waiting = asyncio.create_task(session.request("GET"))
    async with async_http(base_url=cluster[1].url, headers=bearer(token("root", scope="admin"))) as api:
        assert (await api.post("/api/revoke", json={"user": "eve"})).status_code == 200
    assert (await waiting).split("\x1e") == ['42["auth:revoked",{"code":"token_revoked"}]', "41"]
    assert await refused(session, "GET") == "token_revoked"
    assert await refused(session, "POST", b"3", carried("header", token("eve"), "")) == "token_revoked"


async def test_an_upgrade_is_judged(cluster: Cluster, open_session: Open) -> None:
    """The request that would move the session to a WebSocket is one of its requests."""
    session = await open_session(token("ann"))
    with pytest.raises(InvalidStatus) as found:
        async with websocket(cluster[0].url, sid=session.sid, token="junk"):
            pass
    assert found.value.response.status_code == 401
    assert json.loads(found.value.response.body)["error"]["code"] == "token_malformed"
    assert await refused(session, "GET") == "token_malformed"


async def test_jsonp_is_refused(cluster: Cluster) -> None:
    """A script tag is no way in, and is told so."""
    async with async_http() as page:
        error = failure(await page.get(engine_url(cluster[0].url, "polling", j="0", token=token("ann"))), 400, "jsonp_refused")
        assert "JSON-P" in error["message"]
        sid = json.loads((await page.get(engine_url(cluster[0].url, "polling"))).text[1:])["sid"]
        answers = [await page.get(engine_url(cluster[0].url, "polling", j="0", sid=sid))]
        answers.append(await page.post(engine_url(cluster[0].url, "polling", j="0", sid=sid), content=b"d=40"))
        for answer in answers:
            failure(answer, 400, "jsonp_refused")
        assert (await page.post(engine_url(cluster[0].url, "polling", sid=sid), content=b"1")).text == "ok"


async def test_the_sid_of_another_node(cluster: Cluster, open_session: Open) -> None:
    """It is answered 400 at once by every kind of request, and the session goes on where it is."""
    session, other = await open_session(token("ann")), cluster[1].url
    began = time.monotonic()
    async with async_http() as lost:
        for sid in (session.sid, "n1.junk", "junk"):
            address = engine_url(other, "polling", sid=sid)
            failure(await lost.get(address), 400, "unknown_sid")
            failure(await lost.post(address, content=b'420["room:list",{}]'), 400, "unknown_sid")
            failure(await lost.get(address, headers=bearer(token("ann"))), 400, "unknown_sid")
    with pytest.raises(InvalidStatus) as found:
        async with websocket(other, sid=session.sid):
            pass
    assert found.value.response.status_code == 400
    assert time.monotonic() - began < 4 * AT_ONCE_S
    assert (await asked(session, "room:list", {}))["ok"] is True
    await session.leave()


async def test_a_session_is_its_own_users(cluster: Cluster, open_session: Open) -> None:
    """What polls another one's sid with a token of his own gets nothing of it; there is nothing left to get."""
    session = await open_session(token("ann"))
    async with raw_client(cluster[0].url) as client:
        await client.join_namespace({"token": token("ann")})
        ok(await client.ask("room:create", {"room": "private", "kind": "private"}))
        ok(await client.ask("message:send", {"room": "private", "text": "between us"}))
        assert await refused(session, "GET", carries=carried("header", token("mallory"), "")) == "subject_mismatch"
        ok(await client.ask("room:list", {}))
