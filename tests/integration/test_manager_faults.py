"""`RabbitManager` through kills, freezes and cuts of a real broker, and through the loss of its stream."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from broker.manager import RabbitManager
from broker.topology import emits_of
from tests.support.chatters import PATIENCE_S, Chatter, Guest, all_hear, chatters, guest
from tests.support.rabbit import Rabbit
from tests.support.served import served
from tests.support.tcp_proxy import TcpProxy
from tests.support.wait import wait_until

pytestmark = pytest.mark.anyio

BACK_S = 60.0  # a broker starts in 5 s on an idle machine
STREAM = emits_of("socketio")


@pytest.fixture(scope="module")
def own_rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rabbit]:
    """A broker that the tests of this file may kill.

    RabbitMQ 3.10 keeps a new vhost, and that there are streams at all, in tables that it writes some seconds later, and forgets
    both for good when it is killed before. So these have been written, and every test has a channel of its own in `/`.
    """
    with Rabbit(tmp_path_factory.mktemp("rabbit")) as rabbit:
        asyncio.run(emit_once(RabbitManager(rabbit.url, "the first stream", write_only=True)))
        rabbit.erlang("[ok = dets:sync(Table) || Table <- dets:all()]")
        yield rabbit


async def emit_once(manager: RabbitManager) -> None:
    await manager.emit("said", "something")


@pytest.fixture
def channel() -> str:
    """A name that no other test has."""
    return f"channel-{secrets.token_hex(4)}"


@asynccontextmanager
async def three(url: str, channel: str) -> AsyncIterator[tuple[list[Chatter], list[Guest]]]:
    """Three processes with a client each, who hear each other and are all in `red`."""
    async with chatters("tidegate", url, 3, channel) as nodes, AsyncExitStack() as stack:
        guests = [await stack.enter_async_context(guest(node.url)) for node in nodes]
        await all_hear(guests)
        for one in guests:
            await one.ask("enter", "red")
        yield nodes, guests


async def all_ticked(guests: list[Guest], count: int) -> None:
    """All clients have had so many ticks, each once, in one order, in which each sender's stand in his."""
    await wait_until(lambda: all(len(one.ticks()) >= count for one in guests), BACK_S, f"{count} ticks at each")
    for one in guests:
        assert one.ticks() == guests[0].ticks()
        for sender in {sender for sender, _ in one.ticks()}:
            numbers = [number for who, number in one.ticks() if who == sender]
            assert numbers == list(range(count // 2))


async def test_a_killed_broker(own_rabbit: Rabbit, channel: str) -> None:
    """What is emitted while the broker is killed and started again reaches all, once, in one order; the log says what happened."""
    async with three(own_rabbit.url, channel) as (nodes, guests):
        for number, one in enumerate(guests[:2]):
            await one.ask("pace", "red", 1_500, 150, f"sender {number}")
        await wait_until(lambda: len(guests[2].ticks()) > 100, PATIENCE_S, "the first ticks")
        own_rabbit.kill()
        await wait_until(lambda: all(node.complained("RabbitMQ is away") for node in nodes), PATIENCE_S, "a word of it")
        own_rabbit.start()
        await asyncio.to_thread(own_rabbit.wait_ready)
        await all_ticked(guests, 3_000)
        await wait_until(lambda: all(node.complained("RabbitMQ is back") for node in nodes), PATIENCE_S, "a word of it")
        for one in guests:
            counts = await one.ask("counts")
            assert (counts["lost"], counts["diverged"], counts["away"]) == (0, 0, 1)


async def test_a_frozen_broker(own_rabbit: Rabbit, channel: str) -> None:
    """A broker that hangs for a while is noticed although its connections stay open; nothing is lost by it."""
    async with three(own_rabbit.url, channel) as (nodes, guests):
        for number, one in enumerate(guests[:2]):
            await one.ask("pace", "red", 1_000, 100, f"sender {number}")
        await wait_until(lambda: len(guests[2].ticks()) > 50, PATIENCE_S, "the first ticks")
        own_rabbit.freeze()
        try:
            await wait_until(lambda: all(node.complained("RabbitMQ is away") for node in nodes), PATIENCE_S, "a word of it")
        finally:
            own_rabbit.thaw()
        await all_ticked(guests, 2_000)


async def test_the_buffer_has_an_end(own_rabbit: Rabbit, channel: str, caplog: pytest.LogCaptureFixture) -> None:
    """While the broker is away emits are kept up to a bound; past it who emits waits, and nothing is dropped."""
    manager = RabbitManager(own_rabbit.url, channel)
    sender = RabbitManager(own_rabbit.url, channel, write_only=True, buffer=5)
    async with served(manager) as address, guest(address) as one:
        await all_hear([one])
        await sender.emit("said", "first")
        await sender.flush()
        own_rabbit.kill()
        try:
            emits = [asyncio.create_task(sender.emit("said", number)) for number in range(20)]
            await wait_until(lambda: sender.counts.waited == 15, PATIENCE_S, "15 emits wait for room")
            assert sum(emit.done() for emit in emits) == 5
            assert "no more are taken" in caplog.text
        finally:
            own_rabbit.start()
            await asyncio.to_thread(own_rabbit.wait_ready)
        await asyncio.gather(*emits)
        assert await one.hears(21) == ["first", *range(20)]
        await sender.aclose()


async def test_an_end_while_the_broker_is_away(own_rabbit: Rabbit, channel: str, caplog: pytest.LogCaptureFixture) -> None:
    """Who is closed without a broker says how many emits are lost by it, and in time."""
    manager = RabbitManager(own_rabbit.url, channel, write_only=True)
    await manager.emit("said", 0)
    await manager.flush()
    own_rabbit.kill()
    try:
        for number in range(3):
            await manager.emit("said", number)
        await asyncio.wait_for(manager.aclose(limit_s=0.5), PATIENCE_S)
        assert "3 emits were not sent" in caplog.text
    finally:
        own_rabbit.start()
        await asyncio.to_thread(own_rabbit.wait_ready)


async def test_a_stream_that_was_removed(rabbit: Rabbit, caplog: pytest.LogCaptureFixture) -> None:
    """A stream that is removed under its nodes is made anew; it is said, and what is emitted from then on reaches all, in one order."""
    vhost = rabbit.fresh_vhost()
    url = rabbit.url_for(vhost)
    managers = [RabbitManager(url), RabbitManager(url)]
    async with served(managers[0]) as first, served(managers[1]) as second, guest(first) as a, guest(second) as b:
        await all_hear([a, b])
        await a.ask("burst", "nowhere", 500, "")
        remove_stream(rabbit, vhost)
        await asyncio.gather(
            *(one.ask("say", None, None, [number, who]) for number in range(10) for who, one in enumerate((a, b)))
        )
        assert await a.hears(20) == await b.hears(20)
        assert [number for number, who in a.said() if who == 0] == list(range(10))
        assert [number for number, who in a.said() if who == 1] == list(range(10))
        assert [manager.counts.diverged for manager in managers] == [1, 1]
        assert "was made anew" in caplog.text


async def test_a_stream_that_was_cut_off(rabbit: Rabbit, rabbit_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Behind a node that was away for longer than the stream keeps, it goes on with what there is, and says and counts what it lacks."""
    with TcpProxy(rabbit.port) as proxy:
        away, there = RabbitManager(proxy.before(rabbit_url), max_bytes=2_000_000), RabbitManager(rabbit_url, max_bytes=2_000_000)
        async with served(away) as first, served(there) as second, guest(first) as a, guest(second) as b:
            await all_hear([b, a])
            proxy.refuse()
            for _ in range(50):
                await b.ask("burst", "nowhere", 20, "x" * 10_000)
                await wait_until(lambda: there.counts.heard >= there.counts.sent, PATIENCE_S, "all came back")
            proxy.accept()
            await wait_until(lambda: away.counts.lost + away.counts.heard >= there.counts.heard, BACK_S, "it says what it lacks")
            assert away.counts.lost + away.counts.heard == there.counts.heard, (away.counts, there.counts)
            assert away.counts.lost > 0
            assert "was truncated" in caplog.text
            assert there.counts.lost == there.counts.diverged == 0
            await b.ask("say", None, None, "and now?")
            assert await a.hears(1) == ["and now?"]


async def test_a_node_that_is_cut_off_for_a_while(rabbit: Rabbit, rabbit_url: str) -> None:
    """A node without a connection keeps what its clients say, and is sent what it missed; then all have heard the same."""
    with TcpProxy(rabbit.port) as proxy:
        managers = RabbitManager(proxy.before(rabbit_url)), RabbitManager(rabbit_url)
        async with served(managers[0]) as first, served(managers[1]) as second, guest(first) as a, guest(second) as b:
            await all_hear([a, b])
            proxy.refuse()
            for number in range(50):
                await a.ask("say", None, None, ["a", number])
                await b.ask("say", None, None, ["b", number])
            assert a.said() == []
            proxy.accept()
            assert await a.hears(100) == await b.hears(100)
            assert a.said() == [[who, number] for who in "ba" for number in range(50)]


def remove_stream(rabbit: Rabbit, vhost: str) -> None:
    name = f'rabbit_misc:r(<<"{vhost}">>, queue, <<"{STREAM}">>)'
    rabbit.erlang(f'begin {{ok, Q}} = rabbit_amqqueue:lookup({name}), rabbit_amqqueue:delete(Q, false, false, <<"tests">>) end')
