"""A node whose log cannot be written: what it refuses, what it still serves, and that nothing is lost or doubled by it."""

import asyncio
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from broker.address import MemoryAddress
from broker.memory import MemoryBroker
from broker.sqlite import open_sqlite
from node.app import Node
from node.config import Settings
from node.core.events import SessionClosed, SessionOpened
from node.flow.committer import MOST_RECORDED
from node.flow.store import open_store
from tests.property.test_committer import appearances, committer_of, lives
from tests.support.client import chat_client, error, ok, raw_client
from tests.support.held import log_held
from tests.support.http import fetch
from tests.support.nodes import Cluster
from tests.support.tokens import SECRET, token
from tests.support.wait import wait_until

pytestmark = pytest.mark.anyio


def readiness(url: str) -> tuple[int, list[str]]:
    """The status of `/readyz`, and what is not ready."""
    answer = fetch(f"{url}/readyz")
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
            await wait_until(lambda: readiness(node.url) == (200, []), 5, "the node is ready again")
            sent = ok(await ann.ask("message:send", {"room": "hall", "text": "meanwhile", "id": "m1"}))
            again = ok(await ann.ask("message:send", {"room": "hall", "text": "meanwhile", "id": "m1"}))
            assert (sent["seq"], again["seq"], again["duplicate"]) == (3, 3, True)
            assert [event["id"] for event in ann.named("message")] == ["m0", "m1"]
            assert not ann.closed


async def test_each_of_many_sends_is_refused_in_time(tmp_path: Path) -> None:
    """Six sends of one session, handed over at once, are all `unavailable` within 3 s; a moment behind the log's return all six go."""
    with Cluster(tmp_path, count=1) as cluster:
        async with chat_client(cluster[0].url, token("ann")) as ann:
            ok(await ann.ask("room:create", {"room": "hall"}))
            posts = [{"room": "hall", "text": "six", "id": f"m{number}"} for number in range(6)]
            with log_held(tmp_path):
                began = time.monotonic()
                asked = [await ann.begin_ask("message:send", post) for post in posts]
                await wait_until(lambda: all(ann.acked(one) for one in asked), 3.2, "all six are answered")
                assert time.monotonic() - began < 3.2
                assert [(ann.acked(one) or [{}])[0]["error"]["code"] for one in asked] == ["unavailable"] * 6

            async def goes() -> bool:
                return bool((await ann.ask("message:send", posts[0]))["ok"])

            await wait_until(goes, 1.0, "the first goes again")
            assert [ok(await ann.ask("message:send", post))["id"] for post in posts] == [f"m{number}" for number in range(6)]
            assert [event["id"] for event in ann.named("message")] == [f"m{number}" for number in range(6)]


async def test_the_life_of_sessions_keeps_its_order_over_an_outage(tmp_path: Path) -> None:
    """What was recorded while the log was locked first appears in the order of its recording, though it took several tries."""
    events, interval = lives(1_500), sys.getswitchinterval()
    async with open_sqlite(tmp_path / "log.db", partitions=1, name="here") as broker:
        committer = committer_of(broker.log)
        running = asyncio.ensure_future(committer.run())
        sys.setswitchinterval(0.0005)  # threads take turns as they do on a busy machine
        try:
            with log_held(tmp_path):
                for event in events:
                    committer.record(event)
                await wait_until(lambda: not broker.log.up, 5, "an append has failed")
            await committer.recorded(limit_s=20)
        finally:
            sys.setswitchinterval(interval)
            running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert await appearances(broker.log) == [event.id for event in events]


async def test_too_much_that_waits_keeps_new_sessions_out(tmp_path: Path) -> None:
    """With 50,000 events waiting for the log the node takes no handshakes and says why; none is lost, and it takes them again."""
    async with AsyncExitStack() as stack:
        broker = MemoryBroker(2)
        store = await stack.enter_async_context(open_store(tmp_path / "n1.db", epoch=broker.log.epoch))
        node = Node(Settings(log=MemoryAddress(), partitions=1, jwt_secret={None: SECRET}), broker, store)
        stack.push_async_callback(node.aclose)
        node.projector.ready.set()
        for number in range(MOST_RECORDED):
            assert node.status.refusing() is None
            node.chat.record(
                SessionOpened(
                    id=f"{number}",
                    at=1,
                    by="ann",
                    session=f"s{number}",
                    node="n1",
                    namespace="/",
                    transport="websocket",
                    expires_at=2,
                )
            )
        assert node.status.refusing() == "log behind"
        assert list(node.status.not_ready()) == ["log behind"]
        node.chat.record(SessionClosed(id="end", at=2, by="ann", session="s0", reason="transport"))
        running = asyncio.ensure_future(node.committer.run())
        await node.committer.recorded(limit_s=20)
        running.cancel()
        assert node.status.refusing() is None
        assert (await broker.log.end(1)).offset == MOST_RECORDED + 1


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
