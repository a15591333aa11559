"""Who has seen more than the node he comes to: what that node still has to learn is no news to him."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client, chat_client, error, ok
from tests.support.nodes import Cluster
from tests.support.rabbit import Rabbit
from tests.support.tcp_proxy import TcpProxy
from tests.support.tokens import token
from tests.support.wait import wait_until

pytestmark = pytest.mark.anyio

AWAY_S, BACK_S = 20.0, 20.0
MADE_UP = 1_000_000  # a seq that the room does not have


def seqs(client: Client, room: str) -> list[int]:
    """The seqs of a room that came live, in their order."""
    return [
        payload["seq"] for name, payload in client.events if name in ("message", "joined", "room") and payload["room"] == room
    ]


async def say(client: Client, room: str, *ids: str) -> list[int]:
    """Send messages and return their seqs."""
    return [ok(await client.ask("message:send", {"room": room, "text": one, "id": one}))["seq"] for one in ids]


async def test_a_node_that_is_behind_its_client_sends_nothing_twice(rabbit: Rabbit, rabbit_url: str, tmp_path: Path) -> None:
    """It greets him and refuses his sends in time; once it is level he hears what is new to him, of rooms old and unknown to it.

    A cursor that no log has holds nobody back once the node knows that.
    """
    with (
        TcpProxy(rabbit.port) as proxy,
        Cluster(tmp_path, {"log": rabbit_url}, count=2, own={"n2": {"log": proxy.before(rabbit_url)}}) as cluster,
    ):
        ahead, behind = cluster
        async with chat_client(ahead.url, token("ann")) as ann, chat_client(behind.url, token("ann")) as before:
            ok(await ann.ask("room:create", {"room": "old"}))
            await say(ann, "old", "o2", "o3")
            await before.expect("message", room="old", seq=3)
            proxy.refuse()
            await wait_until(lambda: "log away" in (behind.not_ready() or {}), AWAY_S, "n2 notices")
            await say(ann, "old", "o4", "o5")
            ok(await ann.ask("room:create", {"room": "new"}))
            await say(ann, "new", "w2", "w3")
            session = ann.named("welcome")[0]["session"]

            def resume(**cursors: int) -> dict[str, Any]:
                return {"session": session, "cursors": cursors}

            async with (
                chat_client(behind.url, token("ann"), resume=resume(old=5, new=2)) as there,
                chat_client(behind.url, token("ann"), resume=resume(old=MADE_UP)) as liar,
            ):
                for room in ("old", "new"):  # of which the second is none yet, by what n2 knows
                    refused = error(await there.ask("message:send", {"room": room, "text": "x", "id": f"x-{room}"}))
                    assert refused["code"] == "unavailable"
                assert error(await there.ask("history", {"room": "new"}))["code"] == "unavailable"
                assert error(await ann.ask("history", {"room": "none"}))["code"] == "room_not_found"
                assert not there.named("replay")
                proxy.accept()
                replays = [await there.expect("replay") for _ in range(2)]
                assert [(r["room"], r["after"], r["to"], [e["seq"] for e in r["events"]]) for r in replays] == [
                    ("old", 5, 5, []),
                    ("new", 2, 3, [3]),
                ]
                replay = await liar.expect("replay", room="old")
                assert (replay["to"], replay["complete"], replay["events"]) == (5, True, [])
                await wait_until(lambda: behind.not_ready() == {}, BACK_S, "n2 is level")
                assert await say(ann, "old", "o6") == [6]
                assert await say(ann, "new", "w4") == [4]
                for client in (there, liar):
                    await client.expect("message", room="old", seq=6)
                    await client.expect("message", room="new", seq=4)
                assert (seqs(there, "old"), seqs(there, "new")) == ([6], [4])
                assert seqs(liar, "old") == [6]
