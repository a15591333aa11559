"""The operator's namespace over real sockets on two nodes: stats, sessions, withdrawals, drain."""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client, ConnectRefused, chat_client, error, ok, raw_client
from tests.support.nodes import Cluster
from tests.support.tokens import token
from tests.support.wait import wait_until

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes for the tests that end neither."""
    with Cluster(tmp_path_factory.mktemp("admin"), count=2) as cluster:
        yield cluster


@asynccontextmanager
async def operator(url: str) -> AsyncIterator[Client]:
    """A client in `/admin`."""
    async with raw_client(url) as client:
        await client.join_namespace({"token": token("boss", scope="admin")}, "/admin")
        yield client


async def test_admin_wants_its_scope(tmp_path: Path) -> None:
    """`/admin` refuses a chat token, and the same connection may still chat."""
    with Cluster(tmp_path, count=1) as cluster:
        async with chat_client(cluster[0].url, token("ann")) as ann:
            with pytest.raises(ConnectRefused) as refused:
                await ann.join_namespace({"token": token("ann")}, "/admin")
            assert refused.value.code == "scope_missing"
            ok(await ann.ask("room:create", {"room": "hall"}))


async def test_the_operator_sees_and_ends_sessions_anywhere(tmp_path: Path) -> None:
    """Stats come every second with both nodes; a session on the other node is listed, closed for good, a user revoked and suspended."""
    with Cluster(tmp_path, count=2) as cluster:
        async with operator(cluster[0].url) as boss, chat_client(cluster[1].url, token("ann")) as ann:
            session = ann.named("welcome")[0]["session"]

            def both() -> bool:
                seen = boss.named("stats")
                return bool(seen) and set(seen[-1]["nodes"]) == {"n1", "n2"} and seen[-1]["sessions"] == 2

            await wait_until(both, 10, "stats of both nodes")
            assert set(boss.named("stats")[-1]) >= {"nodes", "sessions", "expiring", "handshakes", "lag_seconds"}
            listed = ok(await boss.ask("sessions", {}, namespace="/admin"))["sessions"]
            assert {(one["user"], one["node"], one["namespace"]) for one in listed} == {
                ("boss", "n1", "/admin"),
                ("ann", "n2", "/"),
            }

            began = time.monotonic()
            ok(await boss.ask("session:close", {"session": session}, namespace="/admin"))
            assert await ann.expect("auth:revoked") == {"code": "token_revoked"}
            await ann.wait_closed()
            assert time.monotonic() - began < 1
            await _refuses(cluster[1].url, "suspended", boss, "suspend", {"user": "suspended"}, "user_suspended")
            ok(await boss.ask("suspend", {"user": "suspended", "until": 0}, namespace="/admin"))
            async with chat_client(cluster[1].url, token("suspended")):
                pass
            await _refuses(cluster[1].url, "gone", boss, "revoke", {"user": "gone"}, "token_revoked")
            await _refuses(cluster[1].url, "one", boss, "revoke", {"jti": "j-1"}, "token_revoked", jti="j-1")


async def _refuses(url: str, user: str, boss: Client, command: str, fields: dict[str, str], code: str, **claims: Any) -> None:
    """After the operator's command an open session of the user ends, and the same token opens none on the other node."""
    issued = token(user, iat=int(time.time()) - 5, **claims)
    async with chat_client(url, issued) as client:
        ok(await boss.ask(command, fields, namespace="/admin"))
        assert await client.expect("auth:revoked") == {"code": code}
        await client.wait_closed()
    async with raw_client(url) as client:
        with pytest.raises(ConnectRefused) as refused:
            await client.join_namespace({"token": issued})
        assert refused.value.code == code


async def test_the_operator_drains_a_node(tmp_path: Path) -> None:
    """Another node tells its sessions and ends by itself; it is asked again where the first was lost, in a full queue here; one that is
    not seen to drain within seconds is not acked, and one that is not there is a bad request. Who comes later still sees who is gone, and
    how.
    """
    with Cluster(tmp_path, {"commands_per_second": "100000", "commands_burst": "100000"}, count=3) as cluster:
        one, two, three = cluster
        async with (
            operator(one.url) as boss,
            chat_client(one.url, token("bob")) as bob,
            chat_client(two.url, token("ann")) as ann,
        ):
            await wait_until(lambda: len((boss.named("stats") or [{"nodes": {}}])[-1]["nodes"]) == 3, 10, "n1 knows of both")
            unknown = error(await boss.ask("drain", {"node": "n9"}, namespace="/admin"))
            assert (unknown["code"], unknown["field"]) == ("bad_request", "node")

            ok(await bob.ask("room:create", {"room": "hall"}))
            two.pause()
            for _ in range(50):  # five times as many as a socket's queue usually takes
                ok(await bob.ask("typing", {"room": "hall", "on": True}))
            asked = await boss.begin_ask("drain", {"node": "n2"}, namespace="/admin")
            ok(await bob.ask("presence", {"room": "hall"}))  # so that the first of it has been said
            two.expect_end()
            two.resume()
            await wait_until(lambda: boss.acked(asked), 5, "the drain is acked")
            assert boss.acked(asked) == [{"ok": True}]
            assert (await ann.expect("draining"))["retry_after"] > 0
            await ann.wait_closed()
            assert two.wait_ended() == 0

            three.pause()
            began = time.monotonic()
            refused = error(await boss.ask("drain", {"node": "n3"}, namespace="/admin"))
            assert (refused["code"], refused["retry_after"]) == ("unavailable", 1_000)
            assert time.monotonic() - began < 4
            three.kill()
        async with operator(one.url) as late:
            await wait_until(lambda: len(late.named("stats")[-1]["gone"]) == 2, 10, "both are missed by who has just come")
            stats = late.named("stats")[-1]
            assert set(stats["nodes"]) == {"n1"}
            assert {name: left["draining"] for name, left in stats["gone"].items()} == {"n2": True, "n3": False}
            assert all(3.5 <= left["silent_seconds"] < 60 for left in stats["gone"].values())


async def test_sessions_are_found_by_what_is_known_of_them(pair: Cluster) -> None:
    """By user, part of a name, token, session or node, alone and together; with how many on which node, and whether he is suspended."""
    one, two = pair.urls
    async with (
        operator(one) as boss,
        chat_client(one, token("ann", jti="a1")) as first,
        chat_client(two, token("ann", jti="a2")),
        chat_client(two, token("Joanna")),
    ):

        async def found(**asked: Any) -> dict[str, Any]:
            return ok(await boss.ask("sessions", asked, namespace="/admin"))

        async def all_there() -> bool:
            return bool((await found())["total"] == 4)

        await wait_until(all_there, 5, "n1 knows of all sessions")
        answer = await found(user="ann")
        assert [session["jti"] for session in answer["sessions"]] == ["a1", "a2"]
        assert (answer["total"], answer["nodes"], answer["more"]) == (2, {"n1": 1, "n2": 1}, False)
        assert answer["suspended_until"] is None
        answer = await found(query="ANN", limit=1)
        assert [session["user"] for session in answer["sessions"]] == ["Joanna"]
        assert (answer["total"], answer["nodes"], answer["more"]) == (3, {"n1": 1, "n2": 2}, True)
        assert "suspended_until" not in answer
        assert (await found(jti="a2"))["nodes"] == {"n2": 1}
        assert (await found(node="n2", user="ann"))["total"] == 1
        assert (await found(user="nobody"))["sessions"] == []
        session = first.named("welcome")[0]["session"]
        assert [one["session"] for one in (await found(session=session))["sessions"]] == [session]
        until = int(time.time() * 1000) + 60_000
        ok(await boss.ask("suspend", {"user": "ann", "until": until}, namespace="/admin"))
        assert (await found(user="ann"))["suspended_until"] == until
        ok(await boss.ask("suspend", {"user": "ann", "until": 0}, namespace="/admin"))
        assert (await found(user="ann"))["suspended_until"] is None


async def test_stats_tell_what_lies_ahead_and_what_became_of_handshakes(pair: Cluster) -> None:
    """The second in which tokens of both nodes end has their number; refusals are counted by code; each node says since when it runs."""
    end = int(time.time()) + 40
    async with operator(pair[0].url) as boss, AsyncExitStack() as stack:
        for number in range(4):
            await stack.enter_async_context(chat_client(pair[number % 2].url, token(f"user-{number}", exp=end)))
        async with raw_client(pair[1].url) as late:
            with pytest.raises(ConnectRefused):
                await late.join_namespace({"token": token("late", ttl=-5)})

        def told() -> bool:
            stats = (boss.named("stats") or [{}])[-1]
            counted = stats.get("sessions") == 5 and stats["handshake_codes"] == {"token_expired": 1}
            return counted and sum(stats["forecast"]["1s"]["ends"]) == 4  # which is counted once a second

        await wait_until(told, 10, "stats of all of it")
        stats = boss.named("stats")[-1]
        seconds = stats["forecast"]["1s"]
        at_end = (end * 1_000 - seconds["begin"]) // 1_000
        assert {place: count for place, count in enumerate(seconds["ends"]) if count} == {at_end: 4}
        assert sum(seconds["renewals"][:at_end]) == 4 and max(stats["forecast"]["10s"]["ends_peak"]) == 4
        for state in stats["nodes"].values():
            assert "forecast" not in state and state["log_up"] is True and state["canary_seconds"] is None
            assert 0 < stats["at"] - state["started_at"] < 120_000
            assert (state["slow_sockets"], state["fullest"], state["unrecorded"]) == (0, [], 0)


async def test_bad_operator_commands_are_answered(tmp_path: Path) -> None:
    """Wrong shapes are `bad_request` with the field; chat commands are unknown here."""
    with Cluster(tmp_path, count=1) as cluster:
        async with operator(cluster[0].url) as boss:
            for name, payload in (
                ("revoke", {}),
                ("revoke", {"user": "a", "jti": "b"}),
                ("revoke", {"user": 1}),
                ("suspend", {}),
                ("suspend", {"user": "a", "until": "soon"}),
                ("sessions", {"at": -1}),
                ("sessions", {"user": ""}),
                ("sessions", {"limit": 0}),
                ("message:send", {"room": "hall", "text": "hello"}),
                ("nothing", {}),
            ):
                assert error(await boss.ask(name, payload, namespace="/admin"))["code"] == "bad_request", (name, payload)
