"""The end of a token under the official client: to the quarter second, and nobody misses anything; withdrawal is final."""

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from loadtest.checker import check
from tests.support.client import ok
from tests.support.http import async_http
from tests.support.js import JsClients, js_clients
from tests.support.nodes import Cluster
from tests.support.tokens import at, token
from tests.support.wait import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.nodejs]

LATEST_MS = 250  # PROTOCOL section 5: what the end of a session may take after `exp`
WAY_MS = 500  # what the way to the client may add, on a machine that is busy with other tests


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes that spread renewals over the last three seconds of a token, and let a user talk without a pause."""
    settings = {"refresh_window_seconds": "3", "commands_per_second": "10000", "commands_burst": "10000"}
    with Cluster(tmp_path_factory.mktemp("expiry"), settings, count=2) as cluster:
        yield cluster


def now() -> int:
    return time.time_ns() // 1_000_000


async def two_in_a_room(js: JsClients, cluster: Cluster, room: str, tokens: list[str], transports: list[str]) -> int:
    """A talker on the first node, and a guest on the second whose tokens are these; returns the seq at which both are in."""
    await js.open("talker", [cluster[0].url], lambda: token("talker"))
    await js.open("guest", [cluster[1].url], lambda: tokens.pop(0), transports=transports)
    ok(await js.ask("talker", "room:create", {"room": room}))
    seq: int = ok(await js.ask("guest", "room:join", {"room": room}))["seq"]
    return seq


async def talk_until(js: JsClients, room: str, done: Any) -> None:
    """Let the talker say one thing after the other until `done()`."""
    said = 0
    while not done():
        said += 1
        ok(await js.ask("talker", "message:send", {"room": room, "text": f"word {said}", "id": f"talker-{said}"}))


@pytest.mark.parametrize("transports", [["websocket"], ["polling"], ["polling", "websocket"]], ids="-".join)
async def test_a_session_ends_with_its_token_and_resumes_with_a_fresh_one(cluster: Cluster, transports: list[str]) -> None:
    """`auth:expired`, then the transport closes within 250 ms after `exp` and never before; the client comes back by itself."""
    exp, room = now() + 3_000, "-".join(["expiring", *transports])
    async with js_clients() as js:
        tokens = [at("guest", exp), token("guest")]
        joined = await two_in_a_room(js, cluster, room, tokens, transports)
        await talk_until(js, room, lambda: len(js.of("guest", "told", event="welcome")) == 2)
        ok(await js.ask("talker", "message:send", {"room": room, "text": "the end", "id": "last"}))
        await wait_until(lambda: js.of("guest", "seen")[-1]["payload"].get("id") == "last", 5, "the last word arrives")

        (gone,) = js.of("guest", "disconnect")
        assert gone["active"] is True  # the client means to come back
        told = js.of("guest", "told", event="auth:expired")
        if transports == ["polling"]:
            assert gone["reason"] == "transport error"  # its next poll got 401
            assert len(told) <= 1  # none where that poll had not begun
        else:
            assert gone["reason"] == "transport close"
            assert len(told) == 1
        assert all(line["payload"] == {"code": "token_expired"} for line in told)
        assert all(exp <= line["at"] <= gone["at"] for line in told)
        assert exp <= gone["at"] <= exp + LATEST_MS + WAY_MS
        first, second = (line["payload"] for line in js.of("guest", "told", event="welcome"))
        assert first["expires_at"] == exp
        assert (first["resumed"], second["resumed"]) == (False, True)
        (replay,) = [line["payload"] for line in js.of("guest", "told", event="replay") if line["payload"]["room"] == room]
        assert replay["complete"] is True
        verdict = check(js.histories({"guest": "guest", "talker": "talker"}, room, after=joined), tolerance_ms=WAY_MS)
        assert verdict.faults == ()
        assert verdict.seen > 20
        missed = [line for line in js.of("guest", "seen") if line["way"] == "replay"]
        assert len(missed) == replay["events"] > 0


async def test_the_client_is_told_when_to_renew_and_renewal_keeps_the_session(cluster: Cluster) -> None:
    """`auth:expiring` comes at `refresh_at`, inside the window; `auth:refresh` moves the end; the session goes on past the first."""
    began = now()
    exp = began + 4_000
    async with js_clients() as js:
        welcome = await js.open("keeper", [cluster[0].url], lambda: at("keeper", exp))
        assert welcome is not None
        assert exp - 3_000 <= welcome["refresh_at"] < exp
        expiring = await js.told("keeper", "auth:expiring")
        assert expiring == {"expires_at": exp, "refresh_at": welcome["refresh_at"]}
        told_at = js.of("keeper", "told", event="auth:expiring")[0]["at"]
        assert welcome["refresh_at"] <= told_at <= welcome["refresh_at"] + 500

        later = exp + 3_000
        refused = await js.ask("keeper", "auth:refresh", {"token": at("somebody-else", later)})
        assert refused["ok"] is False
        assert refused["error"]["code"] == "subject_mismatch"
        renewed = ok(await js.ask("keeper", "auth:refresh", {"token": at("keeper", later)}))
        assert set(renewed) == {"expires_at", "refresh_at"}
        assert renewed["expires_at"] == later
        assert later - 3_000 <= renewed["refresh_at"] < later

        await wait_until(lambda: now() > exp + LATEST_MS + WAY_MS, 10, "the first token's end passes")
        assert js.of("keeper", "disconnect") == []
        ok(await js.ask("keeper", "room:list", {}))
        await wait_until(lambda: js.of("keeper", "disconnect"), 10, "the second token's end")
        assert later <= js.of("keeper", "disconnect")[0]["at"] <= later + LATEST_MS + WAY_MS
        assert js.of("keeper", "told", event="auth:expired")[0]["at"] >= later


async def test_nothing_is_done_with_an_expired_token(cluster: Cluster) -> None:
    """An expired token is refused at CONNECT, with its code; the official client does not try again by itself."""
    async with js_clients() as js:
        await js.open("late", [cluster[0].url], lambda: token("late", ttl=-1), wait=False)
        await wait_until(lambda: js.of("late", "connect_error"), 5, "a refusal")
        (refused,) = js.of("late", "connect_error")
        assert refused["data"] == {"code": "token_expired"}
        assert refused["active"] is False


async def revoke(url: str, by: str, **what: Any) -> httpx.Response:
    async with async_http() as http:
        return await http.post(f"{url}/api/revoke", json=what, headers={"Authorization": f"Bearer {by}"})


async def refused_with(js: JsClients, client: str, url: str, bearer: str) -> str:
    """The code with which a new client is refused."""
    await js.open(client, [url], lambda: bearer, wait=False)
    await wait_until(lambda: js.of(client, "connect_error"), 5, f"{client} is refused")
    code: str = js.of(client, "connect_error")[0]["data"]["code"]
    return code


async def test_revocation_is_final_everywhere(cluster: Cluster) -> None:
    """Told and disconnected on every node within a second, for good; the token stays withdrawn, after a restart too."""
    withdrawn = token("mallory")
    async with js_clients() as js:
        for number, node in enumerate(cluster):
            await js.open(f"mallory-{number}", [node.url], lambda: withdrawn)
        await js.open("bystander", [cluster[1].url], lambda: token("bystander"))
        asked = now()
        answer = await revoke(cluster[0].url, token("root", scope="admin"), user="mallory")
        assert answer.status_code == 200
        for client in ("mallory-0", "mallory-1"):
            await js.told(client, "auth:revoked")
            await wait_until(lambda client=client: js.of(client, "disconnect"), 5, f"{client} is disconnected")  # type: ignore[misc]
            (told,), (gone,) = js.of(client, "told", event="auth:revoked"), js.of(client, "disconnect")
            assert told["payload"] == {"code": "token_revoked"}
            assert gone["reason"] == "io server disconnect"
            assert gone["active"] is False  # the client does not mean to come back
            assert gone["at"] - asked < 1_000
        assert await refused_with(js, "again-0", cluster[0].url, withdrawn) == "token_revoked"
        assert await refused_with(js, "again-1", cluster[1].url, withdrawn) == "token_revoked"
        assert js.of("bystander", "disconnect") == []

        cluster[0].kill()
        cluster.start([cluster[0]])
        assert await refused_with(js, "after", cluster[0].url, withdrawn) == "token_revoked"
        welcome = await js.open("anew", [cluster[0].url], lambda: token("mallory", iat=time.time() + 1))
        assert welcome is not None
        assert welcome["user"] == "mallory"


async def test_who_may_revoke(cluster: Cluster) -> None:
    """The scope `admin`, and nobody else; exactly one of user, jti, session."""
    nobody = await revoke(cluster[0].url, token("alice"), user="bob")
    assert (nobody.status_code, nobody.json()["error"]["code"]) == (403, "scope_missing")
    nothing = await revoke(cluster[0].url, "not-a-token", user="bob")
    assert (nothing.status_code, nothing.json()["error"]["code"]) == (401, "token_malformed")
    assert nothing.headers["www-authenticate"].startswith("Bearer")
    assert (await revoke(cluster[0].url, token("root", scope="admin"))).status_code == 400


async def test_one_token_and_one_session_can_be_revoked(cluster: Cluster) -> None:
    """By `jti` and by session: the user's other sessions live on."""
    root = token("root", scope="admin")
    async with js_clients() as js:
        await js.open("by-jti", [cluster[0].url], lambda: token("carol", jti="carol-1"))
        by_session = await js.open("by-session", [cluster[0].url], lambda: token("carol", jti="carol-2"))
        await js.open("kept", [cluster[0].url], lambda: token("carol", jti="carol-3"))
        assert by_session is not None
        assert (await revoke(cluster[1].url, root, jti="carol-1")).status_code == 200
        assert await js.told("by-jti", "auth:revoked", deadline_s=1) == {"code": "token_revoked"}
        assert (await revoke(cluster[1].url, root, session=by_session["session"])).status_code == 200
        await js.told("by-session", "auth:revoked", deadline_s=1)
        assert await refused_with(js, "again", cluster[1].url, token("carol", jti="carol-1")) == "token_revoked"
        ok(await js.ask("kept", "room:list", {}))
        assert js.of("kept", "disconnect") == []
