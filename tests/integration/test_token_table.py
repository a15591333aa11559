"""The table of hostile, wrong and borderline tokens at every way in, by both transports, wherever handshakes are judged."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

import aiohttp
import pytest

from tests.support.hostile_tokens import JSON, SETTINGS, USER, Case, Keys, claims, good, table
from tests.support.issuer import IssuerServer, issuer_server
from tests.support.nodes import Cluster, NodeProcess
from tests.support.wait import wait_until
from tests.support.ways_in import COOKIE, NOTHING, PollingLine, Refused, Verdict, carried, line, of_http

pytestmark = pytest.mark.anyio

MODES = ("namespace", "global", "both")
AT_ONCE = 8
RENEWALS = 10  # that one session may ask for at once


class World(NamedTuple):
    """A node for each place where handshakes are judged, on the keys of one issuer, and the table."""

    nodes: dict[str, NodeProcess]
    keys: Keys
    cases: list[Case]
    issuer: IssuerServer
    http: aiohttp.ClientSession
    sent: set[str]


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """Three nodes that take a token everywhere; one of the issuer's keys was in force and is withdrawn."""
    folder = tmp_path_factory.mktemp("table")
    async with issuer_server() as issuer, aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        keys = Keys()
        issuer.keys = [keys.rsa.jwk(), keys.ec.jwk(), keys.withdrawn.jwk()]
        settings = SETTINGS | {
            "jwks_url": issuer.jwks_url,
            "jwks_cooldown_seconds": "1",
            "token_sources": f"auth,header,query,cookie:{COOKIE}",
            "two_step_seconds": "30",
            "handshake_rate": "100000",
            "handshake_burst": "100000",
            "commands_per_second": "100000",
            "commands_burst": "100000",
            "log_level": "debug",
        }
        cluster = Cluster(folder, count=len(MODES))
        cluster.nodes = [
            NodeProcess(node.id, folder, settings | {"handshake": mode}) for node, mode in zip(cluster, MODES, strict=True)
        ]
        await asyncio.to_thread(cluster.__enter__)
        world = World(dict(zip(MODES, cluster, strict=True)), keys, table(keys, f"{issuer.url}/stranger"), issuer, http, set())
        try:
            await withdraw(world)
            yield world
        except BaseException as error:
            cluster.__exit__(type(error), error, None)
            raise
        cluster.__exit__(None, None, None)


async def withdraw(world: World) -> None:
    """Take a key out of the issuer's set once every node has accepted a token of it, and wait until none does any more."""
    token = world.keys.withdrawn.sign(claims())

    async def judged(node: NodeProcess) -> str:
        return (await by_api(world, node, "", token)).code

    assert [await judged(node) for node in world.nodes.values()] == ["accepted"] * len(MODES)
    world.issuer.keys = world.issuer.keys[:2]
    for node in world.nodes.values():

        async def refused(node: NodeProcess = node) -> bool:
            await by_api(world, node, "", world.keys.stranger.sign(claims(), kid="look-again"))
            return await judged(node) == "key_unknown"

        await wait_until(refused, 10, f"{node.id} has heard of the withdrawal")


# The ways


async def by_request(world: World, node: NodeProcess, transport: str, token: str, source: str) -> Verdict:
    """In a header, the query or a cookie of every request of the connection."""
    async with line(node.url, transport, carried(source, token, node.url), world.http) as opened:
        await opened.send("40")
        return await opened.verdict()


async def by_header(world: World, node: NodeProcess, transport: str, token: str) -> Verdict:
    return await by_request(world, node, transport, token, "header")


async def by_query(world: World, node: NodeProcess, transport: str, token: str) -> Verdict:
    return await by_request(world, node, transport, token, "query")


async def by_cookie(world: World, node: NodeProcess, transport: str, token: str) -> Verdict:
    return await by_request(world, node, transport, token, "cookie")


async def by_auth(world: World, node: NodeProcess, transport: str, token: Any) -> Verdict:
    """In CONNECT's payload; where the HTTP request is judged, a good token in its header brings CONNECT so far."""
    carries = NOTHING if node is world.nodes["namespace"] else carried("header", good(), node.url)
    async with line(node.url, transport, carries, world.http) as opened:
        await opened.send("40" + json.dumps({"token": token}))
        return await opened.verdict()


async def by_two_steps(world: World, node: NodeProcess, transport: str, token: Any) -> Verdict:
    """With `authenticate`, from a socket that has connected bare."""
    async with line(node.url, transport, http=world.http) as opened:
        await opened.send("40")
        assert (await opened.receive()).startswith('40{"sid":')
        await opened.send("42" + json.dumps(["authenticate", {"token": token}]))
        return await opened.verdict()


async def by_poll(world: World, node: NodeProcess, transport: str, token: str) -> Verdict:
    """In the header of a long-polling request of an open session."""
    async with line(node.url, transport, carried("header", good(), node.url), world.http) as opened:
        assert isinstance(opened, PollingLine)
        await opened.send("40")
        assert (await opened.verdict()).code == "accepted"
        assert await opened.request("POST", b"3", carried("header", token, node.url)) == "ok"
        return Verdict("accepted", "http")


async def by_api(world: World, node: NodeProcess, transport: str, token: str) -> Verdict:
    """In the header of a request to the HTTP API."""
    async with world.http.get(f"{node.url}/api/rooms/nowhere/messages", headers={"Authorization": f"Bearer {token}"}) as answer:
        return of_http(answer.status, answer.headers, await answer.read())


Way = Callable[[World, NodeProcess, str, Any], Awaitable[Verdict]]
WAYS: dict[str, Way] = {
    "auth": by_auth,
    "header": by_header,
    "query": by_query,
    "cookie": by_cookie,
    "two-step": by_two_steps,
    "poll": by_poll,
    "api": by_api,
}


def expected(case: Case, mode: str, place: str) -> Verdict:
    """The verdict that PROTOCOL section 4 has for this token here."""
    match place:
        case "api" | "poll":
            return Verdict(case.code, "http")
        case "two-step":
            return Verdict(case.code, "event")
    if place == "auth" and mode != "namespace":  # it differs from the good one in the header
        return Verdict("token_malformed" if case.places == JSON else "credentials_conflict", "connect")
    if case.code == "accepted":
        return Verdict("accepted", "event")
    # an HTTP request is for no namespace yet, so that no scope is asked of it
    judged_by_connect = mode == "namespace" or case.code == "scope_missing"
    return Verdict(case.code, "connect" if judged_by_connect else "http")


async def in_batches(calls: list[Awaitable[str | None]]) -> list[str]:
    """What the calls return, some at a time; None is left out."""
    found: list[str | None] = []
    for start in range(0, len(calls), AT_ONCE):
        found += await asyncio.gather(*calls[start : start + AT_ONCE])
    return [one for one in found if one is not None]


@pytest.mark.parametrize(
    ("mode", "place", "transport"),
    [
        (mode, place, transport)
        for mode in MODES
        for place in WAYS
        for transport in ("websocket", "polling")
        if (place != "two-step" or mode == "namespace") and (transport == "polling" or place not in ("poll", "api"))
    ],
)
async def test_every_token_at(world: World, mode: str, place: str, transport: str) -> None:
    """Each token gets its code, where this way in says it, or is let in."""

    async def judged(case: Case) -> str | None:
        token = case.make()
        if isinstance(token, str):
            world.sent.add(token)
        try:
            found = await WAYS[place](world, world.nodes[mode], transport, token)
        except Refused as refused:
            found = refused.verdict
        except Exception as error:  # noqa: BLE001  # whatever it is, it belongs to one case, and the others are judged too
            return f"{case.name}: {error!r}"
        right = expected(case, mode, place)
        return None if found == right else f"{case.name}: expected {right}, got {found}"

    wrong = await in_batches([judged(case) for case in world.cases if place in case.places])
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("transport", ["websocket", "polling"])
@pytest.mark.parametrize("mode", MODES)
async def test_every_token_as_a_renewal(world: World, mode: str, transport: str) -> None:
    """Each token gets its code in the ack of `auth:refresh`, or takes the old one's place; refusals change nothing."""
    node, cases = world.nodes[mode], [case for case in world.cases if "refresh" in case.places]

    async def judged(cases: list[Case]) -> str | None:
        wrong = []
        carries = carried("header", good(), node.url)
        async with line(node.url, transport, carries, world.http) as opened:
            await opened.send("40")
            assert (await opened.verdict()).code == "accepted"
            for case in cases:
                await opened.send("420" + json.dumps(["auth:refresh", {"token": case.make()}]))
                found = await opened.verdict()
                if found != Verdict(case.code, "ack"):
                    wrong.append(f"{case.name}: expected {case.code}, got {found}")
        return "\n".join(wrong) or None

    wrong = await in_batches([judged(cases[start : start + RENEWALS]) for start in range(0, len(cases), RENEWALS)])
    assert not wrong, "\n".join(wrong)


async def test_nothing_of_a_token_is_left_behind(world: World) -> None:
    """After all that no node has logged a token or asked for a key where a token said that one could be found."""
    assert len(world.sent) > len(world.cases)
    for node in world.nodes.values():
        logged = "".join(path.read_text() for path in node.folder.glob(f"{node.id}.*.???"))
        signatures = [token.rpartition(".")[2] for token in world.sent]
        assert "listening" in logged
        assert not [one for one in signatures if len(one) > 20 and one in logged]
    assert set(world.issuer.requests) == {"/jwks"}


def test_the_table_is_large() -> None:
    """No case stands twice at one place, and every code that a token's own text can have is in it."""
    cases = table(Keys(), "")
    for place in (*WAYS, "refresh"):
        names = [case.name for case in cases if place in case.places]
        assert len(names) == len(set(names)) >= 130, (place, len(names))
    codes = {
        *("accepted", "token_malformed", "token_too_large", "token_expired", "token_not_yet_valid", "token_ttl_too_long"),
        *("claim_missing", "signature_invalid", "algorithm_not_allowed", "key_unknown", "issuer_invalid", "audience_invalid"),
        *("scope_missing", "token_missing"),
    }
    assert {case.code for case in cases} == codes
    assert {claims()["sub"]} == {USER}
