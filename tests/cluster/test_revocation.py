"""Withdrawn access on three nodes: gone from each within a second, whatever was on its way, and for good."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest

from tests.support.client import Client, chat_client, code_of, engine_url, error, ok, raw_client
from tests.support.held import log_held
from tests.support.http import async_http, bearer, failure, fetch, metric
from tests.support.nodes import Cluster
from tests.support.tokens import token
from tests.support.wait import wait_until

pytestmark = pytest.mark.anyio

WITHIN_S = 1.0  # PROTOCOL section 5: from the ack to the close, on every node
ROUNDS = 10  # of each race


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes; every test has users of its own, and leaves them running."""
    with Cluster(tmp_path_factory.mktemp("revocation")) as cluster:
        yield cluster


async def revoke(url: str, **what: Any) -> httpx.Response:
    async with async_http(headers=bearer(token("root", scope="admin"))) as http:
        return await http.post(f"{url}/api/revoke", json=what)


@asynccontextmanager
async def operator(url: str) -> AsyncIterator[Client]:
    """A client in `/admin`."""
    async with raw_client(url) as client:
        await client.join_namespace({"token": token("root", scope="admin")}, "/admin")
        yield client


async def codes(cluster: Cluster, bearer: str, **auth: Any) -> list[str]:
    """`code_of` on every node."""
    return [await code_of(url, bearer, **auth) for url in cluster.urls]


async def lateness(clients: Sequence[Client], code: str) -> float:
    """How long it takes until the last of them has been told this code, sent a DISCONNECT and been closed, in seconds."""
    began = time.monotonic()

    async def gone(client: Client) -> float:
        await client.wait_closed()
        took = time.monotonic() - began
        assert client.named("auth:revoked") == [{"code": code}]
        assert client.packets[-1] == "41"
        return took

    return max(await asyncio.gather(*map(gone, clients)))


@pytest.mark.parametrize("by", ["user", "jti", "session", "suspension"])
async def test_gone_from_every_node_within_a_second(cluster: Cluster, by: str) -> None:
    """By user, by token, by session and by suspension: told, disconnected and closed on each node; nobody else is."""
    user, code = f"everywhere-{by}", "user_suspended" if by == "suspension" else "token_revoked"
    async with AsyncExitStack() as stack:
        clients = []
        for url in cluster.urls:
            clients.append(await stack.enter_async_context(chat_client(url, token(user, jti=f"{by}-1"))))
        kept = await stack.enter_async_context(chat_client(cluster[2].url, token(f"kept-{by}", jti=f"{by}-2")))
        sessions = [client.named("welcome")[0]["session"] for client in clients]
        boss = await stack.enter_async_context(operator(cluster[0].url))
        match by:
            case "suspension":
                ok(await boss.ask("suspend", {"user": user}, namespace="/admin"))
                assert await lateness(clients, code) <= WITHIN_S
            case "session":
                for client, session in zip(clients, sessions, strict=True):
                    ok(await boss.ask("revoke", {"session": session}, namespace="/admin"))
                    assert await lateness([client], code) <= WITHIN_S
            case _:
                answer = await revoke(cluster[1].url, **{by: user if by == "user" else f"{by}-1"})
                assert answer.status_code == 200
                assert await lateness(clients, code) <= WITHIN_S
        ok(await kept.ask("room:list", {}))
        resumed = [await codes(cluster, token(user), resume={"session": session}) for session in sessions]
        assert resumed == [[{"suspension": "user_suspended", "session": "token_revoked"}.get(by, "welcome")] * 3] * 3
        assert await codes(cluster, token(f"kept-{by}")) == ["welcome"] * 3


@pytest.mark.parametrize("named", [0, 1, 2])
async def test_a_chain_of_resumes_ends_whole(cluster: Cluster, named: int) -> None:
    """Sessions on three nodes, each a resume of the one before: whichever is withdrawn, all end, and none can be resumed anywhere."""
    user = f"chain-{named}"
    async with AsyncExitStack() as stack:
        clients: list[Client] = []
        sessions: list[str] = []
        for url in cluster.urls:
            resume = {"session": sessions[-1]} if sessions else None
            client = await stack.enter_async_context(chat_client(url, token(user), resume=resume))
            welcome = client.named("welcome")[0]
            assert welcome["resumed"] is bool(sessions)
            clients.append(client)
            sessions.append(welcome["session"])
            await know(cluster, sessions[-1])
        beside = await stack.enter_async_context(chat_client(cluster[0].url, token(user)))
        assert (await revoke(cluster[1].url, session=sessions[named])).status_code == 200
        assert await lateness(clients, "token_revoked") <= WITHIN_S
        ok(await beside.ask("room:list", {}))
    for session in sessions:
        assert await codes(cluster, token(user), resume={"session": session}) == ["token_revoked"] * 3
    assert await codes(cluster, token(user)) == ["welcome"] * 3


async def know(cluster: Cluster, session: str) -> None:
    """Wait until every node has a session from the log: only what a node knows can be resumed there."""
    for url in cluster.urls:
        async with operator(url) as boss:

            async def known(boss: Client = boss) -> bool:
                found = ok(await boss.ask("sessions", {}, namespace="/admin"))["sessions"]
                return session in {one["session"] for one in found}

            await wait_until(known, 5, f"{url} knows the session")


async def test_kill_minus_9_at_the_ack(cluster: Cluster) -> None:
    """All nodes are killed at the last ack: started again, each refuses what was withdrawn and nothing more; likewise after a drain."""
    by_user, by_jti, by_suspension = token("killed-user"), token("killed-jti", jti="killed"), token("killed-suspended")
    async with AsyncExitStack() as stack:
        opened = [
            await stack.enter_async_context(chat_client(url, bearer))
            for url, bearer in zip(cluster.urls, [by_user, by_jti, token("killed-session")], strict=True)
        ]
        session = opened[2].named("welcome")[0]["session"]
        boss = await stack.enter_async_context(operator(cluster[2].url))
        suspended = asyncio.ensure_future(boss.ask("suspend", {"user": "killed-suspended"}, namespace="/admin"))
        answers = await asyncio.gather(
            revoke(cluster[0].url, user="killed-user"),
            revoke(cluster[1].url, jti="killed"),
            revoke(cluster[0].url, session=session),
        )
        ok(await suspended)
        for node in cluster:
            node.kill()
        assert [answer.status_code for answer in answers] == [200, 200, 200]

    async def stay_out() -> None:
        assert await codes(cluster, by_user) == ["token_revoked"] * 3
        assert await codes(cluster, by_jti) == ["token_revoked"] * 3
        assert await codes(cluster, token("killed-session"), resume={"session": session}) == ["token_revoked"] * 3
        assert await codes(cluster, by_suspension) == ["user_suspended"] * 3
        assert await codes(cluster, token("killed-suspended")) == ["user_suspended"] * 3
        for anew in (token("killed-user"), token("killed-jti", jti="another"), token("killed-session")):
            assert await codes(cluster, anew) == ["welcome"] * 3

    await asyncio.to_thread(cluster.start)
    await stay_out()
    async with async_http() as http:
        for url in cluster.urls:
            page = f"{url}/api/rooms/hall/messages"
            failure(await http.get(page, headers=bearer(by_user)), 401, "token_revoked")
            failure(await http.get(page, headers=bearer(by_suspension)), 401, "user_suspended")
    for node in cluster:  # now from the read models that have it
        node.terminate()
    for node in cluster:
        await asyncio.to_thread(node.wait_ended)
    await asyncio.to_thread(cluster.start)
    await stay_out()


async def test_a_renewal_just_before_does_not_help(cluster: Cluster) -> None:
    """Who renewed before his user, or the token he began with, was withdrawn is gone, and the user's newer token is worth nothing."""
    for by, withdrawn in (("user", "renewed-user"), ("jti", "renewed-jti-1")):
        newer = token(f"renewed-{by}", jti=f"renewed-{by}-2")
        async with chat_client(cluster[0].url, token(f"renewed-{by}", jti=f"renewed-{by}-1")) as client:
            ok(await client.ask("auth:refresh", {"token": newer}))
            assert (await revoke(cluster[1].url, **{by: withdrawn})).status_code == 200
            assert await lateness([client], "token_revoked") <= WITHIN_S
        assert await codes(cluster, newer) == ["token_revoked" if by == "user" else "welcome"] * 3


async def test_a_renewal_at_the_same_moment_does_not_help(cluster: Cluster) -> None:
    """A withdrawal that meets a renewal on another node ends the session, whichever comes first in the log."""
    for number in range(ROUNDS):
        user, newer = f"racing-{number}", token(f"racing-{number}")
        async with chat_client(cluster[1].url, token(user)) as client:
            answer, _ = await asyncio.gather(
                revoke(cluster[0].url, user=user), client.begin_ask("auth:refresh", {"token": newer})
            )
            assert answer.status_code == 200
            assert await lateness([client], "token_revoked") <= WITHIN_S
        assert await code_of(cluster[1].url, newer) == "token_revoked"


async def test_a_connect_at_the_same_moment_does_not_help(cluster: Cluster) -> None:
    """A withdrawal that meets a CONNECT on another node refuses it, or ends what it began."""
    for number in range(ROUNDS):
        user = f"entering-{number}"
        async with raw_client(cluster[2].url) as client:
            answer, _ = await asyncio.gather(
                revoke(cluster[0].url, user=user), client.send("40" + json.dumps({"token": token(user)}))
            )
            assert answer.status_code == 200
            began = time.monotonic()
            await wait_until(
                lambda: client.packets and client.packets[-1][:2] in ("41", "44"), WITHIN_S, "it is refused or ended"
            )
            assert time.monotonic() - began <= WITHIN_S
            assert "token_revoked" in "".join(client.packets)


async def test_which_tokens_a_moment_withdraws(cluster: Cluster) -> None:
    """Those with an `iat` before it; a whole second counts as its start, no `iat` as before; open sessions likewise."""
    second = int(time.time()) - 10
    moment = second * 1000 + 500
    issued: dict[str, float | None] = {"none": None, "whole": second, "just-before": second + 0.499, "at": second + 0.5}
    issued["next"] = second + 1
    tokens = {name: token("dated", iat=iat) for name, iat in issued.items()}
    async with AsyncExitStack() as stack:
        clients = {name: await stack.enter_async_context(chat_client(cluster[2].url, one)) for name, one in tokens.items()}
        answer = await revoke(cluster[0].url, user="dated", before=moment)
        assert (answer.status_code, answer.json()) == (200, {"ok": True, "before": moment})
        assert await lateness([clients[name] for name in ("none", "whole", "just-before")], "token_revoked") <= WITHIN_S
        for name in ("none", "whole", "just-before"):
            assert await codes(cluster, tokens[name]) == ["token_revoked"] * 3
        for name in ("at", "next"):
            ok(await clients[name].ask("room:list", {}))
            assert await codes(cluster, tokens[name]) == ["welcome"] * 3


async def test_an_earlier_moment_takes_nothing_back(cluster: Cluster) -> None:
    """The latest moment counts, whatever the order of the withdrawals."""
    second = int(time.time()) - 10
    for before in (second * 1000, (second - 60) * 1000):
        assert (await revoke(cluster[0].url, user="twice", before=before)).status_code == 200
    assert await codes(cluster, token("twice", iat=second - 1)) == ["token_revoked"] * 3
    assert await codes(cluster, token("twice", iat=second)) == ["welcome"] * 3


async def test_now_is_the_moment_where_none_is_given(cluster: Cluster) -> None:
    """The answer has it: a token of the same whole second is withdrawn, one issued a millisecond later is not."""
    now = int(time.time() * 1000)
    moment = (await revoke(cluster[0].url, user="undated")).json()["before"]
    assert now <= moment <= time.time() * 1000
    assert await codes(cluster, token("undated", iat=moment // 1000)) == ["token_revoked"] * 3
    assert await codes(cluster, token("undated", iat=(moment + 1) / 1000)) == ["welcome"] * 3
    assert await codes(cluster, token("undated", iat=moment // 1000 + 1)) == ["welcome"] * 3


async def test_a_log_that_is_away_withdraws_nothing(cluster: Cluster) -> None:
    """Refused as `unavailable` in time, over HTTP and `/admin`; nothing has happened, and once the log is back it does."""
    held = token("held")
    async with (
        chat_client(cluster[1].url, held) as client,
        operator(cluster[0].url) as boss,
        operator(cluster[2].url) as other,
    ):
        with log_held(cluster.folder):
            began = time.monotonic()
            answer, refused, suspended = await asyncio.gather(
                revoke(cluster[0].url, user="held"),
                boss.ask("revoke", {"user": "held"}, namespace="/admin"),
                other.ask("suspend", {"user": "held"}, namespace="/admin"),
            )
            assert time.monotonic() - began < 3.5
        failure(answer, 503, "unavailable")
        assert error(refused)["code"] == error(suspended)["code"] == "unavailable"
        await wait_until(lambda: fetch(f"{cluster[0].url}/readyz").status_code == 200, 5, "the log is back")
        ok(await client.ask("room:create", {"room": "held"}))
        assert await codes(cluster, held) == ["welcome"] * 3
        assert client.named("auth:revoked") == []
        ok(await boss.ask("revoke", {"user": "held"}, namespace="/admin"))
        assert await lateness([client], "token_revoked") <= WITHIN_S


async def test_a_poll_of_the_withdrawn_is_401(cluster: Cluster) -> None:
    """What waits to be polled comes first; from then on every request of that session is refused with the code."""
    async with async_http() as http:
        url = engine_url(cluster[2].url, "polling")
        url += "&sid=" + json.loads((await http.get(url)).text[1:])["sid"]
        await http.post(url, content="40" + json.dumps({"token": token("poller")}))
        assert "welcome" in (await http.get(url)).text
        poll = asyncio.ensure_future(http.get(url))
        assert (await revoke(cluster[0].url, user="poller")).status_code == 200
        began = time.monotonic()
        answer = await poll
        assert time.monotonic() - began <= WITHIN_S
        if answer.status_code == 200:
            assert answer.text.split("\x1e") == ['42["auth:revoked",{"code":"token_revoked"}]', "41"]
            answer = await http.get(url)
        failure(answer, 401, "token_revoked")
        failure(await http.post(url, content='420["room:list",{}]'), 401, "token_revoked")


async def test_who_was_not_polling_is_told_by_his_next_poll(cluster: Cluster) -> None:
    """`auth:revoked` and the DISCONNECT, which a stock client takes for final, wait for one poll; then it is 401."""
    async with async_http() as http:
        url = engine_url(cluster[2].url, "polling")
        url += "&sid=" + json.loads((await http.get(url)).text[1:])["sid"]
        await http.post(url, content="40" + json.dumps({"token": token("idler")}))
        assert "welcome" in (await http.get(url)).text
        ended = metric(cluster[2].url, "tidegate_session_ends_total", 'reason="revoked"')
        assert (await revoke(cluster[0].url, user="idler")).status_code == 200
        await wait_until(lambda: metric(cluster[2].url, "tidegate_session_ends_total", 'reason="revoked"') > ended, 5, "it ends")
        told = await http.get(url)
        assert (told.status_code, told.text) == (200, '42["auth:revoked",{"code":"token_revoked"}]\x1e41')
        failure(await http.get(url), 401, "token_revoked")
        failure(await http.post(url, content="1"), 401, "token_revoked")
