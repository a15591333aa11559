"""A node whose log cannot be written: what it refuses, what it still serves, and that nothing is lost or doubled by it."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.client import chat_client, error, ok, raw_client
from tests.support.nodes import Cluster
from tests.support.tokens import token
from tests.support.wait import wait_until

pytestmark = pytest.mark.anyio


@contextmanager
def log_held(folder: Path) -> Iterator[None]:
    """Hold the lock that every append takes, as a process does that hangs in the middle of its commit."""
    lock = os.open(folder / "log.db.lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def readiness(url: str) -> tuple[int, list[str]]:
    """The status of `/readyz`, and what is not ready."""
    answer = httpx.get(f"{url}/readyz")
    return answer.status_code, list(answer.json().get("not_ready", {}))


async def test_a_log_that_is_away_refuses_in_time_and_doubles_nothing(tmp_path: Path) -> None:
    """A send is `unavailable` within 3 s, reads and the socket go on, `/readyz` says why, and the same id sent again counts once."""
    with Cluster(tmp_path, count=1) as cluster:
        node = cluster[0]
        async with chat_client(node.url, token("ann")) as ann:
            ok(await ann.ask("room:create", {"room": "hall"}))
            ok(await ann.ask("message:send", {"room": "hall", "text": "before", "id": "m0"}))
            with log_held(tmp_path):
                began = time.monotonic()
                refused = error(await ann.ask("message:send", {"room": "hall", "text": "meanwhile", "id": "m1"}))
                assert time.monotonic() - began < 3.2
                assert refused["code"] == "unavailable"
                assert refused["retry_after"] > 0
                assert readiness(node.url) == (503, ["log away"])
                page = ok(await ann.ask("history", {"room": "hall"}))
                assert [message["text"] for message in page["messages"]] == ["before"]
            sent = ok(await ann.ask("message:send", {"room": "hall", "text": "meanwhile", "id": "m1"}))
            again = ok(await ann.ask("message:send", {"room": "hall", "text": "meanwhile", "id": "m1"}))
            assert (sent["seq"], again["seq"], again["duplicate"]) == (3, 3, True)
            await wait_until(lambda: readiness(node.url) == (200, []), 5, "the node is ready again")
            assert [event["id"] for event in ann.named("message")] == ["m0", "m1"]
            assert not ann.closed


async def test_the_life_of_sessions_is_kept_for_a_log_that_is_away(tmp_path: Path) -> None:
    """A session that opened and closed while the log was away is in it, with its times, once it is back."""
    with Cluster(tmp_path, count=1) as cluster:
        node = cluster[0]
        async with raw_client(node.url) as boss:
            await boss.join_namespace({"token": token("boss", scope="admin")}, "/admin")

            async def users(asked: dict[str, int]) -> list[str]:
                return [one["user"] for one in ok(await boss.ask("sessions", asked, namespace="/admin"))["sessions"]]

            with log_held(tmp_path):
                async with chat_client(node.url, token("guest")) as guest:
                    moment = guest.named("welcome")[0]["server_time"]

            async def known() -> bool:
                return "guest" in await users({"at": moment})

            await wait_until(known, 10, "the guest's session is in the log")

            async def gone() -> bool:
                return "guest" not in await users({})

            await wait_until(gone, 10, "its end is in the log")
