"""Where a token may stand in a handshake, what two of them mean, and when it is judged: at the HTTP request, at CONNECT, at both."""

import base64
import json
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any, NamedTuple

import aiohttp
import pytest
import socketio

from tests.support.client import ConnectRefused, engine_url, raw_client
from tests.support.http import async_http, bearer, exchange, failure
from tests.support.nodes import Cluster, NodeProcess
from tests.support.tokens import token
from tests.support.wait import wait_until
from tests.support.ways_in import COOKIE, NOTHING, Carried, Refused, Verdict, carried, line, together

pytestmark = pytest.mark.anyio

SOURCES = ("auth", "header", "query", "cookie")
TRANSPORTS = ("websocket", "polling")
PAGE = "https://app.example"  # a configured origin
EVIL = "https://evil.example"
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
}


class Nodes(NamedTuple):
    """A node as it is by default, and one for each place where handshakes are judged."""

    plain: NodeProcess
    namespace: NodeProcess
    globally: NodeProcess
    both: NodeProcess


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """`both` takes the sources in the opposite order, and pages of every origin."""
    folder = tmp_path_factory.mktemp("ways")
    everywhere = {"token_sources": f"auth,header,query,cookie:{COOKIE}", "origins": PAGE, "log_level": "debug"}
    settings: list[dict[str, str]] = [
        {"log_level": "debug"},
        everywhere,
        everywhere | {"handshake": "global"},
        everywhere | {"handshake": "both", "token_sources": f"cookie:{COOKIE},query,header,auth", "origins": "*"},
    ]
    cluster = Cluster(folder, count=len(settings))
    admission = {"handshake_rate": "10000", "handshake_burst": "10000"}
    cluster.nodes = [NodeProcess(node.id, folder, admission | own) for node, own in zip(cluster, settings, strict=True)]
    with cluster:
        yield Nodes(*cluster)


@pytest.fixture
async def http() -> Any:
    async with aiohttp.ClientSession() as session:
        yield session


def sent(**headers: str) -> Carried:
    """These headers in the HTTP request."""
    return Carried(headers=tuple(headers.items()))


async def samples(node: NodeProcess, http: aiohttp.ClientSession) -> Counter[str]:
    """All samples of the node's metrics, by name and labels as they are written; what is not there is 0."""
    async with http.get(f"{node.url}/metrics") as answer:
        lines = (line.rpartition(" ") for line in (await answer.text()).splitlines() if not line.startswith("#"))
        return Counter({name: int(float(value)) for name, _, value in lines})


def handshakes(namespace: str, outcome: str, transport: str, *, code: str = "", source: str = "") -> str:
    """The name of one counter of handshakes."""
    labels = f'code="{code}",namespace="{namespace}",outcome="{outcome}",source="{source}",transport="{transport}"'
    return f"tidegate_handshakes_total{{{labels}}}"


class Handshake:
    """One handshake with what carries tokens in it."""

    def __init__(self, node: NodeProcess, transport: str, http: aiohttp.ClientSession) -> None:
        self._node, self._transport, self._http = node, transport, http

    async def judged(self, *, auth: Any = None, carries: Carried = NOTHING) -> str:
        """The code, or accepted."""
        try:
            async with line(self._node.url, self._transport, carries, self._http) as opened:
                await opened.send("40" + (json.dumps(auth) if auth is not None else ""))
                return (await opened.verdict()).code
        except Refused as refused:
            return refused.verdict.code

    async def with_tokens(self, **tokens: str) -> str:
        """With a token in each of these sources."""
        ways = [carried(source, one, self._node.url) for source, one in tokens.items() if source != "auth"]
        return await self.judged(auth={"token": tokens["auth"]} if "auth" in tokens else None, carries=together(*ways))


# Where it may stand


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("source", SOURCES)
async def test_each_source_by_itself(nodes: Nodes, http: aiohttp.ClientSession, source: str, transport: str) -> None:
    """A token is taken from every configured source, and counted under it; where the source is off, there is no token."""
    good = token("ann")
    counted = handshakes("/", "accepted", transport, source=source)
    before = (await samples(nodes.namespace, http))[counted]
    assert await Handshake(nodes.namespace, transport, http).with_tokens(**{source: good}) == "accepted"
    assert (await samples(nodes.namespace, http))[counted] == before + 1
    by_default = await Handshake(nodes.plain, transport, http).with_tokens(**{source: good})
    assert by_default == ("accepted" if source in ("auth", "header") else "token_missing")


async def test_no_token_is_no_way_in(nodes: Nodes, http: aiohttp.ClientSession) -> None:
    """Without two steps a bare socket is refused, whatever the shape of its emptiness, and closed soon after."""
    for node in (nodes.plain, nodes.namespace):
        for transport in TRANSPORTS:
            handshake = Handshake(node, transport, http)
            for auth in (None, {}, {"token": None}, {"token": ""}, {"Token": token("ann")}):
                assert await handshake.judged(auth=auth) == "token_missing", auth
    async with raw_client(nodes.plain.url) as bare:
        with pytest.raises(ConnectRefused) as refused:
            await bare.join_namespace(None)
        assert refused.value.code == "token_missing"
        assert await bare.wait_closed() == 1000


async def test_a_token_in_the_query_is_never_logged(nodes: Nodes, http: aiohttp.ClientSession) -> None:
    """However the request fares, no output of a node has any part of it, at the lowest level too."""
    said: list[str] = []
    for node in nodes:
        tokens = [
            token("ann"),
            token("ann", ttl=-1),
            token("ann", secret="x" * 40),
            token("ann", scope="nothing"),
            token("ann", sub=5),
        ]
        async with async_http(base_url=node.url) as other:
            for one in tokens:
                for transport in TRANSPORTS:
                    await Handshake(node, transport, http).with_tokens(query=one)
                for path in ("/healthz", "/nowhere", "/api/cluster", "/socket.io/", "/socket.io/nowhere"):
                    assert (await other.get(path, params={"token": one})).status_code in (200, 400, 401, 404)
                assert (await other.post("/socket.io/", params={"EIO": "4", "sid": "x", "token": one})).status_code == 400
        broken = f"GET /socket.io/?token={tokens[0]} HTTP/9.9\r\nBad Header: {tokens[0]}\r\n\r\n".encode()
        assert exchange(node.address, broken, end=True).startswith(b"HTTP/1.1 400")
        said += tokens
    for node in nodes:
        logged = "".join(path.read_text() for path in node.folder.glob(f"{node.id}.1.*"))
        assert "listening on" in logged and '"level": "warning"' in logged
        assert not [one for one in said if any(part in logged for part in one.split(".")[1:])]
        async with http.get(f"{node.url}/metrics") as answer:
            told = await answer.text()
        assert not [one for one in said if one.split(".")[2] in told]


# Cookies


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_cookie_counts_for_our_own_pages(nodes: Nodes, http: aiohttp.ClientSession, transport: str) -> None:
    """With the node's own origin or a configured one; in a request that names no origin it is nothing."""
    handshake = Handshake(nodes.namespace, transport, http)
    cookie = f"{COOKIE}={token('ann')}"
    for origin in (nodes.namespace.url, nodes.namespace.url.upper(), PAGE):
        assert await handshake.judged(carries=sent(Cookie=cookie, Origin=origin)) == "accepted"
    assert await handshake.judged(carries=sent(Cookie=cookie)) == "token_missing"
    assert await handshake.judged(carries=sent(Cookie=f"x{cookie}", Origin=PAGE)) == "token_missing"
    # where it counts for nothing it cannot disagree either
    beside = sent(Cookie=cookie, **bearer(token("ann", jti="another")))
    assert await handshake.judged(carries=beside) == "accepted"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_cookie_of_any_page_is_nobodys(nodes: Nodes, http: aiohttp.ClientSession, transport: str) -> None:
    """`*` lets pages of every origin talk to the node, but not with the cookies that a browser adds by itself."""
    handshake = Handshake(nodes.both, transport, http)
    cookie = f"{COOKIE}={token('ann')}"
    for origin in (EVIL, PAGE, "null", "http://127.0.0.1:1", nodes.both.url + ".evil.example"):
        assert await handshake.judged(carries=sent(Cookie=cookie, Origin=origin)) == "token_missing", origin
        assert await handshake.judged(carries=sent(Origin=origin, **bearer(token("ann")))) == "accepted", origin
    assert await handshake.judged(carries=sent(Cookie=cookie)) == "token_missing"
    assert await handshake.judged(carries=sent(Cookie=cookie, Origin=nodes.both.url)) == "accepted"


@pytest.mark.parametrize("origin", [EVIL, "null", PAGE + ".evil.example", "http://app.example", PAGE + ":8443"])
async def test_pages_of_others_are_turned_away(nodes: Nodes, origin: str) -> None:
    """An origin that is not allowed gets 400, by both transports, whatever it brings."""
    headers = {"Cookie": f"{COOKIE}={token('ann')}", "Origin": origin}
    for node in (nodes.namespace, nodes.globally):
        async with async_http(headers=headers) as page:
            failure(await page.get(engine_url(node.url, "polling")), 400, "forbidden_origin")
            failure(
                await page.get(engine_url(node.url, "websocket").replace("ws", "http", 1), headers=UPGRADE),
                400,
                "forbidden_origin",
            )


# Two of them


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_two_that_disagree(nodes: Nodes, http: aiohttp.ClientSession, transport: str) -> None:
    """Two good tokens that differ are refused, whichever two sources they stand in; the same one twice is one."""
    handshake = Handshake(nodes.namespace, transport, http)
    one, other = token("ann"), token("ann", jti="another")
    for pair in combinations(SOURCES, 2):
        first, second = pair
        assert await handshake.with_tokens(**{first: one, second: other}) == "credentials_conflict", pair
        assert await handshake.with_tokens(**{first: one, second: "junk"}) == "credentials_conflict", pair
        assert await handshake.with_tokens(**{first: one, second: one}) == "accepted", pair
    assert await handshake.with_tokens(**dict.fromkeys(SOURCES, one)) == "accepted"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_order_of_preference(nodes: Nodes, http: aiohttp.ClientSession, transport: str) -> None:
    """Where the same token stands in several sources, it counts under the first of the configuration."""
    for node, order in ((nodes.namespace, SOURCES), (nodes.both, SOURCES[::-1])):
        for pair in combinations(order, 2):
            counted = handshakes("/", "accepted", transport, source=pair[0])
            before = (await samples(node, http))[counted]
            assert await Handshake(node, transport, http).with_tokens(**dict.fromkeys(pair, token("ann"))) == "accepted"
            assert (await samples(node, http))[counted] == before + 1, pair


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_two_in_one_source(nodes: Nodes, http: aiohttp.ClientSession, transport: str) -> None:
    """Two `Authorization` headers, two in the query, two cookies of one name: as if they stood in two sources."""
    one, other = token("ann"), token("ann", jti="another")
    for node in (nodes.namespace, nodes.globally):
        handshake = Handshake(node, transport, http)
        for source in ("header", "query"):
            twice = [carried(source, each, node.url) for each in (one, other)]
            assert await handshake.judged(carries=together(*twice)) == "credentials_conflict", source
            assert await handshake.judged(carries=together(twice[0], twice[0])) == "accepted", source
        cookies = [f"{COOKIE}={each}" for each in (one, other)]
        assert await handshake.judged(carries=sent(Cookie="; ".join(cookies), Origin=node.url)) == "credentials_conflict"
        assert await handshake.judged(carries=sent(Cookie=f"{cookies[0]}; {cookies[0]}", Origin=node.url)) == "accepted"
        schemes = Carried(headers=(("Authorization", "Basic YTpi"), ("Authorization", f"Bearer {one}")))
        assert await handshake.judged(carries=schemes) == "accepted"
        halves = Carried(headers=(("Authorization", f"Bearer {one}"), ("Authorization", "junk")))
        assert await handshake.judged(carries=halves) == "token_malformed"


async def test_two_headers_at_the_api(nodes: Nodes) -> None:
    """The API takes one `Authorization` header."""
    async with async_http() as client:
        headers = [("Authorization", f"Bearer {token('ann', jti=jti)}") for jti in ("one", "two")]
        answer = await client.get(f"{nodes.plain.url}/api/rooms/nowhere/messages", headers=headers)
        failure(answer, 401, "credentials_conflict")


# Which request is judged


#: What a handshake that gets anywhere changes.
NOTICED = tuple(f"tidegate_{name}" for name in ("handshakes", "token_ttl", "sessions{", "connections{"))
BAD: dict[str, Callable[[], str]] = {
    "token_missing": lambda: "",
    "token_malformed": lambda: "junk",
    "token_expired": lambda: token("ann", ttl=-0.001),
    "token_not_yet_valid": lambda: token("ann", nbf=4e9),
    "claim_missing": lambda: token("ann", sub=None),
    "signature_invalid": lambda: token("ann", secret="x" * 40),
    "algorithm_not_allowed": lambda: "eyJhbGciOiJub25lIn0.e30.",
}


@pytest.mark.parametrize("code", BAD)
@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("mode", ["globally", "both"])
async def test_judged_at_the_http_request(
    nodes: Nodes, http: aiohttp.ClientSession, mode: str, transport: str, code: str
) -> None:
    """No WebSocket and no session for a bad token: 401 with its code and `WWW-Authenticate`, and it counts as refused alone."""
    node: NodeProcess = getattr(nodes, mode)
    url, headers = engine_url(node.url, transport).replace("ws", "http", 1), UPGRADE if transport == "websocket" else {}

    async def idle() -> bool:
        found = await samples(node, http)
        return not sum(value for name, value in found.items() if name.startswith("tidegate_connections{"))

    await wait_until(idle, 5, "the connections of other tests are gone")
    before, bad = await samples(node, http), BAD[code]()
    async with async_http(headers=headers | {"Origin": node.url}) as client:
        ways = [carried(source, bad, node.url) for source in ("header", "query", "cookie")] if bad else [NOTHING]
        for way in ways:
            error = failure(await client.get(url + way.query, headers=list(way.headers)), 401, code)
            assert set(error) == {"code", "message"} and not (bad and bad in error["message"])
    after = await samples(node, http)
    changed = {name: after[name] - before[name] for name in after if name.startswith(NOTICED) and after[name] != before[name]}
    assert changed == {handshakes("http", "refused", transport, code=code): len(ways)}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("mode", ["globally", "both"])
async def test_what_was_judged_connects(nodes: Nodes, http: aiohttp.ClientSession, mode: str, transport: str) -> None:
    """After a good HTTP request a bare CONNECT is welcome as its subject; each namespace still asks for its scope."""
    node: NodeProcess = getattr(nodes, mode)
    async with line(node.url, transport, carried("header", token("ann", scope="chat"), node.url), http) as opened:
        await opened.send("40")
        assert await opened.verdict() == Verdict("accepted", "event")
        await opened.send("40/admin,")
        packet = await opened.receive()
        assert packet.startswith("44/admin,") and json.loads(packet[9:])["data"]["code"] == "scope_missing"
        await opened.send("420" + json.dumps(["room:list", {}]))
        assert json.loads((await opened.receive())[3:])[0]["ok"] is True
    handshake = Handshake(node, transport, http)
    good, other = (carried("header", token("ann", jti=jti), node.url) for jti in ("one", "two"))
    assert await handshake.judged(auth={}, carries=good) == "accepted"
    assert await handshake.judged(auth={"token": token("ann")}, carries=other) == "credentials_conflict"
    assert await handshake.judged(auth={"token": token("ann")}) == "token_missing"  # where the request is judged, it is too late


@pytest.mark.parametrize("code", BAD)
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_judged_at_connect(nodes: Nodes, http: aiohttp.ClientSession, transport: str, code: str) -> None:
    """By default the HTTP request is let alone, whatever stands in it: CONNECT is refused, with the code for the client to read."""
    bad = BAD[code]()
    for node, sources in ((nodes.plain, ("header",)), (nodes.namespace, ("header", "query", "cookie"))):
        for source in sources:
            async with line(node.url, transport, carried(source, bad, node.url) if bad else NOTHING, http) as opened:
                await opened.send("40")
                assert await opened.verdict() == Verdict(code, "connect")


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("mode", ["plain", "globally", "both"])
async def test_the_stock_client_with_a_header(nodes: Nodes, mode: str, transport: str) -> None:
    """python-socketio, given a header and nothing else, is welcome with a good token and fails to connect with a bad one."""
    node: NodeProcess = getattr(nodes, mode)
    welcomes: list[dict[str, Any]] = []
    for one, accepted in ((token("ann"), True), (token("ann", ttl=-1), False)):
        client = socketio.AsyncClient(reconnection=False)
        client.on("welcome", welcomes.append)
        try:
            if accepted:
                await client.connect(node.url, headers=bearer(one), transports=[transport])
                await wait_until(lambda: welcomes, 5, "welcome")
                assert welcomes[0]["user"] == "ann"
            else:
                with pytest.raises(socketio.exceptions.ConnectionError):
                    await client.connect(node.url, headers=bearer(one), transports=[transport])
        finally:
            await client.shutdown()
    assert len(welcomes) == 1
