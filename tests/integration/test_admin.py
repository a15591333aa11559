"""The operator's namespace over real sockets on two nodes: stats, sessions, withdrawals, drain."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client, ConnectRefused, chat_client, error, ok, raw_client
from tests.support.nodes import Cluster
from tests.support.tokens import token
from tests.support.wait import wait_until

pytestmark = pytest.mark.anyio


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
    """Another node is drained by its name: its sessions are told, its process ends by itself; an unknown one is a bad request."""
    with Cluster(tmp_path, count=2) as cluster:
        async with operator(cluster[0].url) as boss, chat_client(cluster[1].url, token("ann")) as ann:
            await wait_until(lambda: "n2" in (boss.named("stats") or [{"nodes": {}}])[-1]["nodes"], 10, "n1 knows of n2")
            unknown = error(await boss.ask("drain", {"node": "n9"}, namespace="/admin"))
            assert (unknown["code"], unknown["field"]) == ("bad_request", "node")
            cluster[1].expect_end()
            ok(await boss.ask("drain", {"node": "n2"}, namespace="/admin"))
            assert (await ann.expect("draining"))["retry_after"] > 0
            await ann.wait_closed()
            assert cluster[1].wait_ended() == 0


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
                ("message:send", {"room": "hall", "text": "hello"}),
                ("nothing", {}),
            ):
                assert error(await boss.ask(name, payload, namespace="/admin"))["code"] == "bad_request", (name, payload)
