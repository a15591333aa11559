"""`RabbitManager` from first to last: processes without a server, event loops that end, transient events, what concerns nobody."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import socketio

import broker.manager
import broker.manager_transient
from broker.manager import RabbitManager
from broker.manager_wire import address_of
from tests.support.chatters import PATIENCE_S, Guest, all_hear, guest
from tests.support.js import js_clients
from tests.support.rabbit import Rabbit
from tests.support.served import served
from tests.support.wait import wait_until

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def pair(url: str, **options: Any) -> AsyncIterator[tuple[RabbitManager, RabbitManager, Guest, Guest]]:
    """Two managers with a client each, who hear each other."""
    managers = RabbitManager(url, **options), RabbitManager(url, **options)
    async with served(managers[0]) as first, served(managers[1]) as second, guest(first) as a, guest(second) as b:
        await all_hear([a, b])
        yield (*managers, a, b)


ONE_SHOT = """
import asyncio, sys
from broker.manager import RabbitManager

async def main():
    manager = RabbitManager(sys.argv[1], write_only=True)
    for number in range(100):
        await manager.emit("said", [sys.argv[2], number], room="red")

asyncio.run(main())
"""


async def test_a_process_that_only_emits(rabbit_url: str) -> None:
    """A program that emits and ends, and waits for nothing, loses nothing: what the broker lacks goes out at the loop's end."""
    async with pair(rabbit_url) as (_, _, a, b):
        await a.ask("enter", "red")
        for name in ("one", "two"):
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", ONE_SHOT, rabbit_url, name)
            assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 0
        assert await a.hears(200) == [[name, number] for name in ("one", "two") for number in range(100)]
        assert b.said() == []


async def test_everything_without_a_server(rabbit_url: str) -> None:
    """Who has no server can do to clients what a server can, but ask them something."""
    manager = RabbitManager(rabbit_url, write_only=True)
    async with pair(rabbit_url) as (_, _, a, b):
        await manager.enter_room(a.sid(), "/", "red")
        await manager.emit("said", ("to red", b"\0"), room="red")
        await manager.leave_room(a.sid(), "/", "red")
        await manager.enter_room(b.sid(), "/", "red")
        await manager.emit("said", "to red", to="red", skip_sid=a.sid())
        await manager.close_room("red")
        await manager.emit("said", "to nobody", room="red")
        await manager.emit("said", "to all")
        await manager.disconnect(b.sid(), "/")
        await manager.flush()
        assert await a.hears(2) == [("to red", b"\0"), "to all"]
        assert await b.hears(2) == ["to red", "to all"]
        await wait_until(lambda: not b.socket.connected, PATIENCE_S, "the disconnect")
        with pytest.raises(RuntimeError, match="context of a server"):
            await manager.emit("question", callback=print, data=None, room=a.sid())
    await manager.aclose()


async def test_several_event_loops(rabbit_url: str) -> None:
    """A manager may be used in one event loop after the other, as a worker's tasks do: each sends what it has at its end."""
    manager = RabbitManager(rabbit_url, write_only=True)

    def tasks() -> None:
        for number in range(3):
            asyncio.run(manager.emit("said", number))

    async with pair(rabbit_url) as (_, _, a, _):
        await asyncio.to_thread(tasks)
        assert await a.hears(3) == [0, 1, 2]


async def test_closed_is_closed(rabbit: Rabbit) -> None:
    """A manager that is closed has sent everything, has no task and no connection left, and takes nothing more."""
    vhost = rabbit.fresh_vhost()
    before = asyncio.all_tasks()
    manager = RabbitManager(rabbit.url_for(vhost), write_only=True)
    listener = RabbitManager(rabbit.url_for(vhost))
    listener.initialize()
    for number in range(100):
        await manager.emit("said", number)
        await listener.emit("said", number)
    for one in (manager, listener):
        await one.aclose()
        await one.aclose()
        with pytest.raises(RuntimeError, match="closed"):
            await one.emit("said", 100)
    await wait_until(lambda: asyncio.all_tasks() <= before, PATIENCE_S, "no task is left")
    connections = "length([C || C <- rabbit_networking:connections()])"
    await wait_until(lambda: rabbit.erlang(connections) == "0", PATIENCE_S, "no connection is left")
    assert listener.counts.sent == manager.counts.sent == 100


async def test_who_has_no_member_decodes_nothing(rabbit_url: str) -> None:
    """What is for rooms without a member here is passed over by its first bytes, however much it is."""
    async with pair(rabbit_url) as (_, second, a, b):
        await a.ask("enter", "red")
        await b.ask("enter", "blue")
        before = (second.counts.decoded, second.counts.heard)
        await a.ask("burst", "red", 1_000, "x")
        await a.ask("burst", "green", 1_000, "x")
        await a.ask("say", ["blue", "green"], None, "the last")
        assert await b.hears(1) == ["the last"]
        assert second.counts.decoded == before[0] + 1
        assert second.counts.heard == before[1] + 2_001
        await wait_until(lambda: len(a.ticks()) == 1_000, PATIENCE_S, "those with a member")


async def test_what_is_transient_goes_by_buckets(rabbit_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transient event comes only to nodes that have a member in a room of its bucket, and not over the stream."""
    monkeypatch.setattr(broker.manager_transient, "UNBIND_AFTER_S", 0.2)
    async with pair(rabbit_url, transient=["typing"]) as (first, second, a, b):
        room = next(f"room-{n}" for n in range(1_000) if address_of("/", f"room-{n}")[0] not in buckets(first) | buckets(second))
        bucket = address_of("/", room)[0]
        await b.ask("enter", room)
        await wait_until(lambda: bucket in buckets(second), PATIENCE_S, "the room's bucket is bound")
        heard = first.counts.heard
        for number in range(50):
            await first.server.emit("typing", number, room=room)
            await first.emit("said", number, room=room, transient=True)
        await b.hears(50)
        assert [data for event, data in b.heard["/"] if event == "typing"] == list(range(50))
        assert first.counts.heard == heard
        assert bucket not in buckets(first)
        await b.ask("leave", room)
        await wait_until(lambda: bucket not in buckets(second), PATIENCE_S, "it is not bound any more")
        heard = second.counts.heard
        await first.server.emit("typing", "to nobody", room=room)
        await first.server.emit("typing", "to both", to=[a.sid(), b.sid()])
        for one in (a, b):
            await wait_until(lambda one=one: ("typing", "to both") in one.heard["/"], PATIENCE_S, "typing")  # type: ignore[misc]
        assert second.counts.heard == heard + 1
        with pytest.raises(ValueError, match="in passing"):
            await first.emit("said", 1, to=a.sid(), callback=print, transient=True)


def buckets(manager: RabbitManager) -> set[int]:
    """What a manager's queue is bound to now."""
    running = manager._life.running
    return set(running.transients.bound) if running is not None else set()


async def test_many_sockets_take_one_bucket(rabbit_url: str) -> None:
    """Every socket is a room by itself, and all those of a node are in one bucket: they cost no binding each."""
    async with pair(rabbit_url) as (first, _, _, _):
        before = len(first._interest.buckets)
        sids = [await first.pre_connect(f"engine-{number}", "/") for number in range(500)]
        assert len(set(sids)) == 500
        assert len(first._interest.buckets) == before
        for sid in sids:
            assert sid is not None
            assert first.get_rooms(sid, "/") == [sid]
            await first.disconnect(sid, "/", ignore_queue=True)
        assert not first.pending_connect


async def test_what_cannot_be_sent_is_refused(rabbit_url: str) -> None:
    """What cannot be sent is refused at once, and what comes after it goes on its way."""
    manager = RabbitManager(rabbit_url, write_only=True, largest=10_000)
    for bad in (object(), {1, 2}):
        with pytest.raises(TypeError):
            await manager.emit("said", bad)
    with pytest.raises(TypeError, match="a room is"):
        await manager.emit("said", 1, room=[object()])
    for in_passing in (False, True):
        with pytest.raises(ValueError, match="the manager takes 10000 at most"):
            await manager.emit("said", "x" * 20_000, transient=in_passing)
    with pytest.raises(ValueError, match="largest is"):
        RabbitManager(rabbit_url, largest=16 * 1024 * 1024)
    with pytest.raises(ValueError, match="amqp"):
        RabbitManager("redis://localhost")
    await manager.emit("said", 1)
    await manager.flush()
    assert manager.counts.sent == 1
    await manager.aclose()


async def test_nobody_is_nobody(rabbit_url: str) -> None:
    """An emit to no room at all reaches nobody, and one to skip several skips them, in whatever they are handed over."""
    async with pair(rabbit_url) as (first, _, a, b):
        await first.emit("said", "to nobody", room=[])
        await first.emit("said", "to b", skip_sid=(a.sid(), "somebody"))
        await first.emit("said", "to all", skip_sid=[])
        assert await a.hears(1) == ["to all"]
        assert await b.hears(2) == ["to b", "to all"]


async def test_a_server_that_listens_to_nothing(rabbit_url: str) -> None:
    """The clients of a server whose manager only writes hear what that server emits, and nothing else."""
    deaf = RabbitManager(rabbit_url, write_only=True)
    async with served(deaf) as url, guest(url) as one, pair(rabbit_url) as (first, _, a, _):
        await first.emit("said", "elsewhere")
        await one.ask("say", None, None, "here")
        assert await a.hears(2) == ["elsewhere", "here"]
        assert await one.hears(1) == ["here"]


async def test_callbacks_have_an_end(rabbit_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Callbacks that are never answered do not pile up: past a bound the oldest is forgotten."""
    monkeypatch.setattr(broker.manager, "MOST_ASKED", 10)
    async with pair(rabbit_url) as (first, _, _, b):
        answers: list[Any] = []
        for _ in range(30):
            await first.emit("question", 1, to="nobody", callback=print)
        b.answer = [b"\1", {"a": None}]
        await first.emit("question", 1, to=b.sid(), callback=lambda *arguments: answers.append(arguments))
        await wait_until(lambda: answers, PATIENCE_S, "the answer")
        assert answers == [([b"\1", {"a": None}],)]
        assert len(first._asked) == 9


async def test_another_serializer(rabbit_url: str) -> None:
    """A server with a packet class of its own makes its own packets, out of what any manager said."""

    class Loud(socketio.packet.Packet):  # type: ignore[misc]
        def encode(self) -> Any:
            encoded = super().encode()
            return encoded.replace("softly", "LOUDLY") if isinstance(encoded, str) else encoded

    async with pair(rabbit_url) as (first, second, a, b):
        second.server.packet_class = Loud
        await first.emit("said", ("softly", [1, None]))
        assert await a.hears(1) == [("softly", [1, None])]
        assert await b.hears(1) == [("LOUDLY", [1, None])]


@pytest.mark.nodejs
async def test_the_official_javascript_client(rabbit_url: str) -> None:
    """The official client hears what anyone emits, over either transport, and what comes of itself elsewhere."""
    async with pair(rabbit_url) as (_, _, a, b), js_clients() as js:
        rooms: list[Any] = []
        for number, transports in enumerate((["websocket"], ["polling"])):
            await js.open(f"js-{number}", [b.url], lambda: "", wait=False, transports=transports)
            rooms.append(await js.ask(f"js-{number}", "enter", "red"))
        assert [len(of_one) for of_one in rooms] == [2, 2]
        await a.ask("say", "red", None, {"text": "é"})
        await a.ask("say", "red", None, ["two", 2])
        await a.ask("kick", rooms[1][0])
        for number in range(2):
            await js.told(f"js-{number}", "said", times=2)
            told = [line["payload"] for line in js.of(f"js-{number}", "told", event="said")]
            assert told[:2] == [{"text": "é"}, ["two", 2]]
        await wait_until(lambda: js.of("js-1", "disconnect", reason="io server disconnect"), PATIENCE_S, "the disconnect")
        assert js.of("js-0", "disconnect") == []


async def test_the_first_word_to_the_first_client(rabbit_url: str) -> None:
    """What the handler of the very first connection emits comes to that client, although the broker is not even connected yet."""
    manager = RabbitManager(rabbit_url)
    async with served(manager) as url:

        async def connect(sid: str, *_: Any) -> None:
            await manager.server.emit("said", "welcome", to=sid)

        manager.server.on("connect", connect)
        async with guest(url) as one:
            assert await one.hears(1) == ["welcome"]


async def test_the_rights_that_the_page_names(rabbit: Rabbit) -> None:
    """A user with the rights of docs/rabbitmq.md can do everything that a manager does."""
    vhost = rabbit.fresh_vhost()
    login = rabbit.fresh_user(
        vhost, configure=r"^tidegate\\..*", write=r"^(tidegate\\..*|amq\\.default)$", read=r"^tidegate\\..*"
    )
    async with pair(rabbit.url_for(vhost, login), transient=["typing"]) as (first, second, a, b):
        await b.ask("enter", "red")
        bucket = address_of("/", "red")[0]
        await wait_until(lambda: bucket in buckets(second), PATIENCE_S, "the room's bucket is bound")
        await first.server.emit("typing", 1, room="red")
        await a.ask("say", "red", None, "to red")
        assert await b.hears(1) == ["to red"]
        await wait_until(lambda: ("typing", 1) in b.heard["/"], PATIENCE_S, "typing")
