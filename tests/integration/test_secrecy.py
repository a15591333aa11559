"""Tokens and keys in every place where a node might write them down: at the end of the test, all that it wrote is searched."""

import contextlib
import json
import time
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import WebSocketException

from tests.support.client import ConnectRefused, engine_url, raw_client, websocket
from tests.support.http import async_http, bearer, exchange
from tests.support.nodes import Cluster
from tests.support.tokens import SECRET, token

pytestmark = pytest.mark.anyio

SETTINGS = {
    "log_level": "debug",
    "token_sources": "auth,header,query,cookie:session",
    "handshake": "both",
    "two_step_seconds": "5",
    "jwt_issuer": "the-issuer",
    "token_bytes": "2000",
}


def tokens() -> list[str]:
    """A good one, and bad ones of many kinds, each signed."""
    now = time.time()
    good: dict[str, Any] = {"iss": "the-issuer", "jti": "one"}
    return [
        token("ann", **good),
        token("ann", ttl=-5, **good),
        token("ann", iat=now + 1_000, **good),
        token("ann", iss="another"),
        token("ann", scope="nothing", **good),
        token("ann", secret="another-secret-that-is-long-enough-for-hmac", **good),
        token("ann", exp=None, **good),
        token("ann", crit=["x"], **good)[:-2],
        token("ann", padding="x" * 2_000, **good),
    ]


async def test_nothing_secret_is_written(tmp_path: Path) -> None:
    """Good and bad tokens by every way in, in places where none belongs, in junk, with all that a node can log."""
    with Cluster(tmp_path, SETTINGS, count=1) as cluster:
        url, address = cluster[0].url, cluster[0].address
        async with async_http() as http:
            for one in tokens():
                await http.get(engine_url(url, "polling", token=one))
                await http.get(engine_url(url, "polling"), headers=bearer(one))
                await http.get(engine_url(url, "polling"), headers={"Cookie": f"session={one}", "Origin": url})
                await http.get(f"{url}/{one}")
                await http.get(f"{url}/api/rooms/{one}/messages", headers=bearer(one))
                await http.post(f"{url}/api/revoke", headers=bearer(one), content=one)
                await http.get(engine_url(url, "polling", sid=one, token=one))
                with contextlib.suppress(WebSocketException):
                    async with websocket(url, token=one) as opened:
                        await opened.send("40" + json.dumps({"token": one}))
                        await opened.send(f"42{one}")
                with contextlib.suppress(WebSocketException, ConnectRefused, AssertionError):
                    async with raw_client(url, token=tokens()[0]) as client:
                        await client.join_namespace({"token": one})
                for junk in (f"GET /{one}\r\n\r\n", f"{one} / HTTP/1.1\r\n\r\n", f"GET / HTTP/1.1\r\n{one}\r\n\r\n"):
                    exchange(address, junk.encode(), end=True)
            metrics = (await http.get(f"{url}/metrics", headers={"Accept": "application/openmetrics-text"})).text
        good = tokens()[0]
        async with raw_client(url, token=good) as ann:
            await ann.join_namespace({"token": good})
            await ann.ask("auth:refresh", {"token": tokens()[3]})
            await ann.ask("auth:refresh", {"token": tokens()[0]})
            await ann.ask("auth:refresh", tokens()[0], SECRET)
            await ann.ask(tokens()[0], {"room": tokens()[0]})
        assert 'outcome="refused"' in metrics
        cluster[0].terminate()
        assert cluster[0].wait_ended() == 0
        assert "draining" in cluster[0].stderr()
