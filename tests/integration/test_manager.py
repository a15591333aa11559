"""An ordinary python-socketio application on several processes, under its own manager and under ours: one line differs.

The tests of one manager share its processes; each has clients of its own.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from tests.support.chatters import PATIENCE_S, Chatter, Guest, all_hear, chatters, guest
from tests.support.rabbit import Rabbit
from tests.support.wait import wait_until

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=["stock", "tidegate"])
async def nodes(request: pytest.FixtureRequest, rabbit: Rabbit) -> AsyncIterator[list[Chatter]]:
    """Three processes of the application."""
    vhost = rabbit.fresh_vhost()
    async with chatters(request.param, rabbit.url_for(vhost), 3) as nodes:
        yield nodes
    rabbit.drop_vhost(vhost)


@asynccontextmanager
async def three_guests(nodes: list[Chatter], *namespaces: str) -> AsyncIterator[tuple[Guest, Guest, Guest]]:
    """Three clients, each on a process of its own, who hear each other."""
    async with AsyncExitStack() as stack:
        a, b, c = [await stack.enter_async_context(guest(node.url, *namespaces)) for node in nodes]
        await all_hear([a, b, c])
        yield a, b, c


async def test_rooms(nodes: list[Chatter]) -> None:
    """An emit reaches the members of a room, or of several, once each, wherever they are, and nobody else."""
    async with three_guests(nodes) as (a, b, c):
        await a.ask("enter", "red")
        assert await b.ask("enter", "red") == [b.sid(), "red"]
        await b.ask("enter", "blue")
        await c.ask("enter", 7)
        await a.ask("say", "red", None, "to red")
        await c.ask("say", ["red", "blue"], None, "to both")
        await a.ask("say", 7, None, "to seven")
        await c.ask("say", b.sid(), None, "to you alone")
        await a.ask("say", None, None, "to all")
        # what two processes have emitted comes in one order to everybody, which need not be the one in which they did
        assert sorted(await a.hears(3)) == ["to all", "to both", "to red"]
        assert sorted(await b.hears(4)) == ["to all", "to both", "to red", "to you alone"]
        assert sorted(await c.hears(2)) == ["to all", "to seven"]


async def test_rooms_of_others(nodes: list[Chatter]) -> None:
    """A client is put into a room and out of it by any process, and a room is closed on all of them."""
    async with three_guests(nodes) as (a, b, c):
        await a.ask("enter", "red", b.sid())
        await a.ask("say", "red", None, "one")
        assert await b.hears(1) == ["one"]
        await a.ask("leave", "red", b.sid())
        await a.ask("enter", "red", c.sid())
        await a.ask("say", "red", None, "two")
        assert await c.hears(1) == ["two"]
        await a.ask("close", "red")
        await a.ask("say", "red", None, "three")
        await a.ask("say", None, None, "to all")
        assert await b.hears(2) == ["one", "to all"]
        assert await c.hears(2) == ["two", "to all"]


async def test_callbacks(nodes: list[Chatter]) -> None:
    """Who asks a client, on this process or another, has its answer."""
    async with three_guests(nodes) as (a, b, c):
        b.answer, c.answer = ["yes", 1], {"no": [2.5, None]}
        assert await a.ask("ask", b.sid(), "well?") == ["yes", 1]
        assert await a.ask("ask", c.sid(), "well?") == {"no": [2.5, None]}
        assert await b.ask("ask", b.sid(), "and I?") == ["yes", 1]
        assert [event for event in b.heard["/"] if event[0] == "question"] == [("question", "well?"), ("question", "and I?")]


async def test_disconnect(nodes: list[Chatter]) -> None:
    """A client is disconnected by any process, its handler runs once, and it has heard everything that was emitted to it before."""
    async with three_guests(nodes) as (a, b, c):
        sids = [b.sid(), c.sid()]
        await a.ask("kick", b.sid())
        await c.socket.emit("kick", c.sid())
        for one in (b, c):
            await wait_until(lambda one=one: not one.socket.connected, PATIENCE_S, "the disconnect")  # type: ignore[misc]
            assert one.said() == ["the last words"]
        await wait_until(lambda: len(a.gone(sids)) == 2, PATIENCE_S, "both are gone")
        await a.ask("say", None, None, "to all")
        assert await a.hears(1) == ["to all"]
        assert sorted(a.gone(sids)) == sorted(sids)


async def test_order_on_one_node(nodes: list[Chatter]) -> None:
    """Who emits to a room and then takes a client of his own out of it has told that client too."""
    async with three_guests(nodes) as (a, b, _):
        await a.ask("enter", "red")
        await b.ask("enter", "red")
        await a.ask("part", "red")
        assert await a.hears(1) == ["the last words"]
        assert await b.hears(1) == ["the last words"]
        await b.ask("say", "red", None, "gone?")
        await b.ask("say", None, None, "to all")
        assert await a.hears(2) == ["the last words", "to all"]


async def test_skip(nodes: list[Chatter]) -> None:
    """Who is to be skipped hears nothing, on whichever process."""
    async with three_guests(nodes) as (a, b, c):
        await a.ask("say", None, True, "but me")
        await a.ask("say", None, [a.sid(), c.sid()], "to b")
        await a.ask("say", None, c.sid(), "but c")
        await a.ask("say", None, None, "to all")
        assert await a.hears(2) == ["but c", "to all"]
        assert await b.hears(4) == ["but me", "to b", "but c", "to all"]
        assert await c.hears(2) == ["but me", "to all"]


async def test_namespaces(nodes: list[Chatter]) -> None:
    """Namespaces share nothing: not their rooms, not their sids, not their ends."""
    async with three_guests(nodes, "/", "/other") as (a, b, _):
        await b.ask("enter", "red", namespace="/other")
        await a.ask("enter", "red")
        await a.ask("say", "red", None, "in the other", namespace="/other")
        assert await b.hears(1, "/other") == ["in the other"]
        await b.ask("say", "red", None, "in the first")
        assert await a.hears(1) == ["in the first"]
        await a.ask("kick", b.sid("/other"), namespace="/other")
        await wait_until(lambda: ("disconnect", ()) in b.heard["/other"], PATIENCE_S, "the disconnect")
        await a.ask("say", None, None, "to all")
        assert await b.hears(1) == ["to all"]
        assert b.said("/other") == ["in the other", "the last words"]
        assert a.said("/other") == []


async def test_data(nodes: list[Chatter]) -> None:
    """Whatever an emit may carry arrives as Socket.IO has it, on the sender's own process and on others."""
    one = {"text": "é\u2028\U0001f600", "none": None, "big": 2**70, "float": 1.5, "deep": [[{"bytes": b"\x00\xff"}], True]}
    async with three_guests(nodes) as (a, b, _):
        await a.ask("say", None, None, one)
        await a.ask("say", None, None, b"only bytes")
        await a.ask("say", None, None, "two", [b"arguments"])
        await a.ask("say", None, None, [])
        for listener in (a, b):
            assert await listener.hears(4) == [one, b"only bytes", ("two", [b"arguments"]), []]
