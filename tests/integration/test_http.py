"""The HTTP API of a real node: statuses, bodies, and what an answer means for the cluster."""

import fcntl
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import jwt
import pytest

from tests.support.client import ConnectRefused, chat_client, ok
from tests.support.http import async_http, bearer, failure, sync_http
from tests.support.nodes import Cluster
from tests.support.tokens import SECRET, token
from tests.support.wait import block_until, wait_until

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes with the dev issuer."""
    with Cluster(tmp_path_factory.mktemp("http"), {"dev_issuer": "1"}, count=2) as nodes:
        yield nodes


@pytest.fixture
async def api(cluster: Cluster) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the first node, for tests that listen meanwhile."""
    async with async_http(base_url=cluster[0].url) as client:
        yield client


@pytest.fixture
def http(cluster: Cluster) -> Iterator[httpx.Client]:
    """A client of the first node."""
    with sync_http(base_url=cluster[0].url) as client:
        yield client


async def make_room(nodes: Cluster, room: str, owner: str, *members: str, kind: str = "public") -> None:
    """A room with its owner and members."""
    async with chat_client(nodes[0].url, token(owner)) as client:
        ok(await client.ask("room:create", {"room": room, "kind": kind}))
    for member in members:
        async with chat_client(nodes[0].url, token(member)) as client:
            ok(await client.ask("room:join", {"room": room}))


def publisher(user: str) -> dict[str, str]:
    """The header of a user who may post and read."""
    return bearer(token(user, scope="chat publish"))


# Health


def test_healthz(http: httpx.Client) -> None:
    """A node that serves says so."""
    answer = http.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"ok": True})


def test_readyz(http: httpx.Client) -> None:
    """A node that is level with its log is ready."""
    answer = http.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"ready": True})
    assert answer.headers["cache-control"] == "no-store"


def test_metrics(http: httpx.Client) -> None:
    """Prometheus text by default, OpenMetrics where the scraper asks for it."""
    plain = http.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain")
    assert "tidegate_build_info{" in plain.text and "# EOF" not in plain.text
    opened = http.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0,text/plain;q=0.5"})
    assert opened.headers["content-type"].startswith("application/openmetrics-text")
    assert opened.text.endswith("# EOF\n")


# The dev issuer


def test_dev_token_is_a_token(http: httpx.Client) -> None:
    """Who asks the dev issuer gets a token of this cluster: 300 s, and no scope unless asked for."""
    asked = time.time()
    body = http.post("/dev/token", json={"user": "ann"}).json()
    assert set(body) == {"token", "expires_at"}
    claims = jwt.decode(body["token"], SECRET, algorithms=["HS256"])
    assert claims["sub"] == "ann" and "scope" not in claims
    assert abs(claims["exp"] * 1000 - body["expires_at"]) <= 1
    assert 299 < claims["exp"] - asked < 305


def test_dev_token_takes_ttl_and_scope(http: httpx.Client) -> None:
    """`ttl` may be a fraction; a token with the scope `admin` opens what wants it."""
    body = http.post("/dev/token", json={"user": "ann", "ttl": 1.5, "scope": "chat admin", "other": [1]}).json()
    claims = jwt.decode(body["token"], SECRET, algorithms=["HS256"])
    assert claims["scope"] == "chat admin" and 0 < body["expires_at"] / 1000 - time.time() <= 1.5
    assert http.get("/api/cluster", headers=bearer(body["token"])).status_code == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "user"),
        ({"user": 5}, "user"),
        ({"user": None}, "user"),
        ({"user": ""}, "user"),
        ({"user": "a\nb"}, "user"),
        ({"user": "x" * 129}, "user"),
        ({"user": "ann", "ttl": "60"}, "ttl"),
        ({"user": "ann", "ttl": True}, "ttl"),
        ({"user": "ann", "ttl": 0.5}, "ttl"),
        ({"user": "ann", "ttl": 86_401}, "ttl"),
        ({"user": "ann", "ttl": -1}, "ttl"),
        ({"user": "ann", "scope": ["chat"]}, "scope"),
        ({"user": "ann", "scope": "s" * 1_001}, "scope"),
    ],
)
def test_dev_token_says_what_is_wrong(http: httpx.Client, body: dict[str, object], field: str) -> None:
    """A request that the dev issuer cannot fill names the field at fault."""
    assert failure(http.post("/dev/token", json=body), 400, "bad_request")["field"] == field


# Messages


async def test_post_and_read(cluster: Cluster, api: httpx.AsyncClient) -> None:
    """A posted message has its seq and id, reaches the room's members on the other node, and is in the history."""
    await make_room(cluster, "news", "ann")
    async with chat_client(cluster[1].url, token("ann")) as reader:
        before = time.time()
        answer = await api.post(
            "/api/rooms/news/messages", json={"text": "hello", "id": "m1", "more": {}}, headers=publisher("ann")
        )
        assert answer.status_code == 200
        body = answer.json()
        assert body == {"seq": 2, "id": "m1", "at": body["at"]} and abs(body["at"] / 1000 - before) < 5
        heard = await reader.expect("message")
        assert heard == {"room": "news", "seq": 2, "id": "m1", "from": "ann", "text": "hello", "at": body["at"]}
    page = (await api.get("/api/rooms/news/messages", headers=bearer(token("ann")))).json()
    assert page == {"messages": [heard], "more": False}


async def test_post_again_is_the_same_message(cluster: Cluster, api: httpx.AsyncClient) -> None:
    """The same id again gives the first one's seq and time, and says that it is a duplicate."""
    await make_room(cluster, "again", "ann")
    first, second = [
        (await api.post("/api/rooms/again/messages", json={"text": text, "id": "once"}, headers=publisher("ann"))).json()
        for text in ("one", "two")
    ]
    assert second == first | {"duplicate": True}


async def test_post_without_id(cluster: Cluster, api: httpx.AsyncClient) -> None:
    """A message without an id gets one, and two of them are two."""
    await make_room(cluster, "noid", "ann")
    ids = [
        (await api.post("/api/rooms/noid/messages", json={"text": "same"}, headers=publisher("ann"))).json()["id"]
        for _ in range(2)
    ]
    assert all(isinstance(one, str) and one for one in ids) and ids[0] != ids[1]


async def test_pages(cluster: Cluster, api: httpx.AsyncClient) -> None:
    """`before`, `after` and `limit` cut the history into pages, oldest first in each."""
    await make_room(cluster, "pages", "ann")
    for number in range(5):
        posted = await api.post("/api/rooms/pages/messages", json={"text": f"t{number}"}, headers=publisher("ann"))
        assert posted.json()["seq"] == number + 2

    async def page(query: str) -> tuple[list[int], bool]:
        body = (await api.get(f"/api/rooms/pages/messages?{query}", headers=bearer(token("ann")))).json()
        return [message["seq"] for message in body["messages"]], body["more"]

    assert await page("limit=2") == ([5, 6], True)
    assert await page("before=5&limit=2") == ([3, 4], True)
    assert await page("before=3") == ([2], False)
    assert await page("after=4") == ([5, 6], False)
    assert await page("after=2&limit=3&unknown=1") == ([3, 4, 5], True)
    assert await page("after=6") == ([], False)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("before=abc", "before"),
        ("before=", "before"),
        ("before=-1", "before"),
        ("before=1.5", "before"),
        ("before=99999999999999999999", "before"),
        ("before=9999999999999999", "before"),
        ("before=%D9%A3", "before"),
        ("after=1&after=2", "after"),
        ("limit=0", "limit"),
        ("limit=many", "limit"),
        ("before=5&after=1", "after"),
    ],
)
def test_bad_pages(http: httpx.Client, query: str, field: str) -> None:
    """A query parameter that is no whole number in range is named, whatever the room."""
    answer = http.get(f"/api/rooms/any/messages?{query}", headers=bearer(token("ann")))
    assert failure(answer, 400, "bad_request")["field"] == field


@pytest.mark.parametrize(
    ("body", "code", "status", "field"),
    [
        ({}, "bad_request", 400, "text"),
        ({"text": 5}, "bad_request", 400, "text"),
        ({"text": ""}, "bad_request", 400, "text"),
        ({"text": "x" * 4_001}, "too_large", 413, "text"),
        ({"text": "hi", "id": 5}, "bad_request", 400, "id"),
        ({"text": "hi", "id": ""}, "bad_request", 400, "id"),
        ({"text": "hi", "id": "x" * 129}, "too_large", 413, "id"),
        ({"text": "hi", "reply_to": "nothing"}, "message_not_found", 404, "reply_to"),
    ],
)
async def test_posts_that_are_refused(
    cluster: Cluster, api: httpx.AsyncClient, body: dict[str, object], code: str, status: int, field: str
) -> None:
    """A message that is not one is refused with the field at fault, and leaves no trace."""
    async with chat_client(cluster[0].url, token("strict")) as client:
        await client.ask("room:create", {"room": "strict"})
    answer = await api.post("/api/rooms/strict/messages", json=body, headers=publisher("strict"))
    assert failure(answer, status, code)["field"] == field
    assert (await api.get("/api/rooms/strict/messages", headers=publisher("strict"))).json() == {"messages": [], "more": False}


async def test_who_may_not(cluster: Cluster, api: httpx.AsyncClient) -> None:
    """A stranger is not a member, a private room is not there for him, and neither is one that does not exist."""
    await make_room(cluster, "open", "ann")
    await make_room(cluster, "closed", "ann", kind="private")
    for room, status, code in (
        ("open", 403, "not_a_member"),
        ("closed", 404, "room_not_found"),
        ("nowhere", 404, "room_not_found"),
    ):
        path = f"/api/rooms/{room}/messages"
        failure(await api.post(path, json={"text": "hi"}, headers=publisher("bob")), status, code)
        failure(await api.get(path, headers=bearer(token("bob"))), status, code)


def test_a_room_name_that_is_none(http: httpx.Client) -> None:
    """A name that no room can have is a bad request."""
    for name in ("UPPER", "-x", "x" * 65, "%20"):
        answer = http.get(f"/api/rooms/{name}/messages", headers=bearer(token("ann")))
        assert failure(answer, 400, "bad_request")["field"] == "room"


# Scopes


@pytest.mark.parametrize(
    ("method", "path", "scopes"),
    [
        ("POST", "/api/rooms/r/messages", (None, "chat", "admin", "")),
        ("GET", "/api/rooms/r/messages", ("publish", "admin", "")),
        ("GET", "/api/cluster", (None, "chat", "publish", "administrator")),
        ("POST", "/api/revoke", (None, "chat publish", "")),
    ],
)
def test_scopes(http: httpx.Client, method: str, path: str, scopes: tuple[str | None, ...]) -> None:
    """A token without the path's scope is told so (RFC 6750), before its body is looked at."""
    for scope in scopes:
        answer = http.request(method, path, headers=bearer(token("ann", scope=scope)))
        failure(answer, 403, "scope_missing")
        assert answer.headers["www-authenticate"] == 'Bearer error="insufficient_scope"'


# Revocation


async def test_revoke_a_user(cluster: Cluster, api: httpx.AsyncClient) -> None:
    """A user's tokens are withdrawn on every node, open sessions end, and a token issued later is good."""
    old = token("rev-user")
    async with chat_client(cluster[1].url, old) as client:
        answer = await api.post("/api/revoke", json={"user": "rev-user"}, headers=bearer(token("root", scope="admin")))
        assert answer.status_code == 200 and answer.json() == {"ok": True, "before": answer.json()["before"]}
        assert await client.expect("auth:revoked") == {"code": "token_revoked"}
        await client.wait_closed(1.0)
    failure(await api.get("/api/rooms/r/messages", headers=bearer(old)), 401, "token_revoked")
    with pytest.raises(ConnectRefused) as refused:
        async with chat_client(cluster[1].url, old):
            pass
    assert refused.value.code == "token_revoked"
    async with chat_client(cluster[1].url, token("rev-user", iat=answer.json()["before"] / 1000 + 0.001)):
        pass


async def test_revoke_before(cluster: Cluster, api: httpx.AsyncClient) -> None:
    """With `before` in the past, only tokens older than that are withdrawn."""
    now = time.time()
    young, old = token("rev-before", iat=now - 10), token("rev-before", iat=now - 100)
    body = {"user": "rev-before", "before": int((now - 50) * 1000)}
    assert (await api.post("/api/revoke", json=body, headers=bearer(token("root", scope="admin")))).json() == {"ok": True} | {
        "before": body["before"]
    }
    failure(await api.get("/api/rooms/nowhere/messages", headers=bearer(old)), 401, "token_revoked")
    failure(await api.get("/api/rooms/nowhere/messages", headers=bearer(young)), 404, "room_not_found")


async def test_revoke_a_token(cluster: Cluster, api: httpx.AsyncClient) -> None:
    """A `jti` is withdrawn, and no other token of the user."""
    one, other = token("rev-jti", jti="j1"), token("rev-jti", jti="j2")
    async with chat_client(cluster[0].url, other) as kept, chat_client(cluster[1].url, one) as ended:
        answer = await api.post("/api/revoke", json={"jti": "j1", "user": None}, headers=bearer(token("root", scope="admin")))
        assert answer.status_code == 200
        assert await ended.expect("auth:revoked") == {"code": "token_revoked"}
        await ended.wait_closed(1.0)
        ok(await kept.ask("room:list", {}))
    failure(await api.get("/api/rooms/nowhere/messages", headers=bearer(one)), 401, "token_revoked")


async def test_revoke_a_session(cluster: Cluster, api: httpx.AsyncClient) -> None:
    """A session is ended for good by its id, wherever it is."""
    async with chat_client(cluster[1].url, token("rev-session")) as ended:
        session = ended.named("welcome")[0]["session"]
        answer = await api.post("/api/revoke", json={"session": session}, headers=bearer(token("root", scope="admin")))
        assert answer.status_code == 200
        assert await ended.expect("auth:revoked") == {"code": "token_revoked"}
        await ended.wait_closed(1.0)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"user": None},
        {"user": "a", "jti": "b"},
        {"user": "a", "session": "c"},
        {"before": 5},
        {"user": ""},
        {"user": ["a"]},
        {"jti": 5},
        {"session": {}},
        {"user": "a", "before": "now"},
        {"user": "a", "before": -1},
        {"user": "a", "before": 1.5},
    ],
)
def test_revocations_that_are_none(http: httpx.Client, body: dict[str, object]) -> None:
    """A revocation names exactly one of user, jti and session."""
    failure(http.post("/api/revoke", json=body, headers=bearer(token("root", scope="admin"))), 400, "bad_request")


# The cluster


async def test_cluster(cluster: Cluster, api: httpx.AsyncClient) -> None:
    """Every node tells of both: sessions, what expires when, positions."""
    admin = bearer(token("root", scope="admin"))
    async with chat_client(cluster[1].url, token("counted", ttl=50)):

        async def seen() -> bool:
            answer = await api.get("/api/cluster", headers=admin)
            if answer.status_code == 429:  # asked too often for a moment
                return False
            nodes = answer.json()["nodes"]
            return set(nodes) == {"n1", "n2"} and nodes["n2"]["sessions"] == 1 and nodes["n2"]["expiring"]["60s"] == 1

        await wait_until(seen, 5, "the other node's session shows")
        body = (await api.get("/api/cluster", headers=bearer(token("another root", scope="admin")))).json()
        assert body["sessions"] >= 1 and body["expiring"]["60s"] >= 1
        assert body["log"]["up"] is True
        assert set(body["nodes"]["n1"]["positions"]) == {str(number) for number in range(body["log"]["partitions"])}


# Limits and faults


def test_rate_limit(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Past the burst a user is told when to come back; another user is not held up."""
    limits = {"commands_burst": "3", "commands_per_second": "0.5"}
    with Cluster(tmp_path_factory.mktemp("rate"), limits, count=1) as nodes, sync_http(base_url=nodes[0].url) as http:
        path = "/api/rooms/nowhere/messages"
        for _ in range(3):
            failure(http.get(path, headers=publisher("ann")), 404, "room_not_found")
        answer = http.post(path, json={"text": "hi"}, headers=publisher("ann"))
        assert 0 < failure(answer, 429, "rate_limited")["retry_after"] <= 2_000
        assert answer.headers["retry-after"] in ("1", "2")
        failure(http.get(path, headers=publisher("bob")), 404, "room_not_found")
        failure(http.post("/dev/token", json={"user": "ann"}), 404, "not_found")


@contextmanager
def locked(log: Path) -> Iterator[None]:
    """The log as it is while another process holds its lock and does not let go."""
    descriptor = os.open(log.with_name(f"{log.name}.lock"), os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


async def test_log_away(tmp_path: Path) -> None:
    """While the log takes nothing a post is unavailable within 3 s and reading goes on; the same id is good afterwards."""
    path, body = "/api/rooms/away/messages", {"text": "hi", "id": "kept"}
    with Cluster(tmp_path, count=1) as nodes:
        await make_room(nodes, "away", "ann")
        async with async_http(base_url=nodes[0].url, timeout=10) as api:
            with locked(nodes.folder / "log.db"):
                asked = time.monotonic()
                failure(await api.post(path, json=body, headers=publisher("ann")), 503, "unavailable")
                assert time.monotonic() - asked < 3.3
                readiness = await api.get("/readyz")
                assert readiness.status_code == 503 and readiness.headers["retry-after"] == "1"
                assert readiness.json()["ready"] is False and "log away" in readiness.json()["not_ready"]
                assert (await api.get(path, headers=publisher("ann"))).json()["messages"] == []
                admin = bearer(token("root", scope="admin"))
                failure(await api.post("/api/revoke", json={"user": "bob"}, headers=admin), 503, "unavailable")
                assert (await api.get("/healthz")).status_code == 200

            async def ready() -> bool:
                return (await api.get("/readyz")).status_code == 200

            await wait_until(ready, 10, "ready again")
            assert (await api.post(path, json=body, headers=publisher("ann"))).json()["seq"] == 2


def test_another_log(tmp_path: Path) -> None:
    """A node whose log was taken away under it has diverged: it is not ready, and its API answers nobody."""
    with Cluster(tmp_path, count=1) as nodes, sync_http(base_url=nodes[0].url) as http:
        (nodes.folder / "log.db").unlink()
        block_until(lambda: "diverged" in http.get("/readyz").json().get("not_ready", {}), 10, "the node has diverged")
        failure(http.get("/api/rooms/any/messages", headers=publisher("ann")), 503, "unavailable")
        assert http.get("/healthz").status_code == 200
