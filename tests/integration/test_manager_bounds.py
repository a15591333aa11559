"""`RabbitManager` where something is away, slow, or too much: nobody waits for what will not come, and nothing grows without end."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiormq
import pytest

import broker.manager_transient
from broker.manager import KICK_LIMIT_S, ORDER_LIMIT_S, RabbitManager
from broker.manager_wire import address_of
from tests.support.amqp_proxy import AmqpProxy
from tests.support.chatters import PATIENCE_S, Guest, all_hear, guest
from tests.support.held_port import HOST, HeldPort
from tests.support.rabbit import Rabbit
from tests.support.served import served
from tests.support.tcp_proxy import TcpProxy
from tests.support.wait import wait_until

pytestmark = pytest.mark.anyio

ROOM = "red"


@asynccontextmanager
async def one_and_another(url: str, another: str) -> AsyncIterator[tuple[RabbitManager, RabbitManager, Guest, Guest]]:
    """Managers at these two URLs of one broker, with a client each, who hear each other and are in `red`."""
    managers = RabbitManager(url, transient=["typing"]), RabbitManager(another, transient=["typing"])
    async with served(managers[0]) as first, served(managers[1]) as second, guest(first) as a, guest(second) as b:
        await all_hear([a, b])
        for one in (a, b):
            await one.ask("enter", ROOM)
        yield (*managers, a, b)


def hears_in_passing(manager: RabbitManager) -> bool:
    """Whether what is transient comes to the room's members here."""
    running = manager._life.running
    return running is not None and address_of("/", ROOM)[0] in running.transients.bound


def typed(one: Guest) -> list[Any]:
    return [data for event, data in one.heard["/"] if event == "typing"]


async def test_transient_events_after_many_cuts(rabbit: Rabbit, rabbit_url: str) -> None:
    """However often the connection for transient events is lost, what runs for it is as it was, and the next one does all it should."""
    async with AmqpProxy(rabbit.port).listening() as proxy:
        way = rabbit_url.replace(f":{rabbit.port}", f":{proxy.port}")
        async with one_and_another(rabbit_url, way) as (first, second, _, b):
            for number in range(8):
                await wait_until(lambda: hears_in_passing(second), PATIENCE_S, "the room's bucket is bound")
                await first.server.emit("typing", number, room=ROOM)
                await wait_until(lambda number=number: number in typed(b), PATIENCE_S, "typing")  # type: ignore[misc]
                proxy.cut("transient")
                await wait_until(lambda: not hears_in_passing(second), PATIENCE_S, "the loss")
            assert [task for task in asyncio.all_tasks() if task.cancelling()] == []


async def test_who_is_kicked_goes_without_a_broker(rabbit: Rabbit, rabbit_url: str) -> None:
    """A client of the same process is disconnected, and its rooms change, while the broker is away: soon at first, then at once."""
    with TcpProxy(rabbit.port) as proxy:
        async with one_and_another(proxy.before(rabbit_url), rabbit_url) as (first, _, a, b):
            proxy.refuse()
            await first.emit("said", "to all")
            began = time.monotonic()
            await first.server.enter_room(a.sid(), "green")
            await first.emit("said", "to green", room="green")
            await first.server.leave_room(a.sid(), "green")
            assert time.monotonic() - began < ORDER_LIMIT_S / 2
            assert first.counts.away == 1
            began = time.monotonic()
            for _ in range(10):
                await first.emit("said", "to blue", room="blue")
                await first.server.enter_room(a.sid(), "blue")
            await first.server.disconnect(a.sid())
            assert time.monotonic() - began < KICK_LIMIT_S
            await wait_until(lambda: not a.socket.connected, PATIENCE_S, "the disconnect")
            proxy.accept()
            assert await b.hears(1) == ["to all"]


async def test_too_much_in_passing(rabbit_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Transient events that come while a node is slow are dropped past a bound, which is said once and counted; the others arrive."""
    monkeypatch.setattr(broker.manager_transient, "MOST_COME", 20)
    monkeypatch.setattr(broker.manager_transient, "TAKEN_AT_ONCE", 1)
    async with one_and_another(rabbit_url, rabbit_url) as (first, second, _, b):
        await wait_until(lambda: hears_in_passing(second), PATIENCE_S, "the room's bucket is bound")
        going, stock = asyncio.Event(), second.server._send_eio_packet

        async def slow(*arguments: Any) -> None:
            await going.wait()
            await stock(*arguments)

        second.server._send_eio_packet = slow
        running = first._life.running
        assert running is not None
        for number in range(60):
            await first.server.emit("typing", number, room=ROOM)
            await wait_until(lambda: not running.transients._waiting, PATIENCE_S, "it has left by itself")
        await wait_until(
            lambda: second.counts.transient_missed == 60 - 21, PATIENCE_S, "one in hand, 20 waiting, the others dropped"
        )
        going.set()
        await wait_until(lambda: typed(b) == list(range(21)), PATIENCE_S, "the first")
        assert caplog.text.count("some are dropped") == 1
        await first.server.emit("typing", "and now?", room=ROOM)
        await wait_until(lambda: typed(b)[-1] == "and now?", PATIENCE_S, "the next")


async def test_an_outage_is_two_lines(rabbit: Rabbit, rabbit_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Of an outage an application's log has that it began and that it ended, and nothing of the attempts in between; only of ours."""
    with TcpProxy(rabbit.port) as proxy:
        nobodys = HeldPort()
        async with one_and_another(proxy.before(rabbit_url), rabbit_url):
            caplog.clear()
            proxy.refuse()
            await wait_until(lambda: "RabbitMQ is away" in caplog.text, PATIENCE_S, "that it is away")
            with pytest.raises(ConnectionError):
                await aiormq.connect(f"amqp://{HOST}:{nobodys}")
            proxy.accept()
            await wait_until(lambda: "RabbitMQ is back" in caplog.text, PATIENCE_S, "that it is back")
    nobodys.release()
    told = [record.name for record in caplog.records if record.levelno >= logging.WARNING]
    assert [name for name in told if name != "asyncio"] == [
        "tidegate.manager",
        "aiormq.connection",
        "tidegate.manager",
    ]  # asyncio: the proxy


async def test_many_callbacks_that_wait_for_their_own_emits(rabbit_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """However many callbacks wait for what they emitted to come back, it comes: none of them is waited for."""
    count, done = 1_500, list[int]()
    async with one_and_another(rabbit_url, rabbit_url) as (first, _, a, b):

        async def called_back(*_: Any) -> None:
            await first.emit("said", len(done), room="green")
            await first.enter_room(a.sid(), "/", "green")
            done.append(len(done))

        for _ in range(count):
            await first.emit("question", "well?", to=b.sid(), callback=called_back)
        await wait_until(lambda: len(done) == count, PATIENCE_S, "all callbacks have run")
    assert "has not come back" not in caplog.text
