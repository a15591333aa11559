"""A connection that answers and delivers nothing: noticed, told, counted, and mended by another connection."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

import broker.rabbitmq_signals
from broker.rabbitmq import RabbitBroker, open_rabbitmq
from broker.rabbitmq_hearing import DEAF_S
from broker.rabbitmq_signals import CANARY_EVERY_S, KEPT_S
from broker.rabbitmq_signals import DEAF_S as SILENT_S
from tests.support.amqp_proxy import AmqpProxy
from tests.support.rabbit import Rabbit
from tests.support.rabbit_log import Counting, reading
from tests.support.tcp_proxy import TcpProxy
from tests.support.wait import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.rabbitmq]
BUSY_S = 2.0  # what a machine with everything else on it may add


class Node:
    """One process's broker behind a proxy of its own, and what is counted there."""

    def __init__(self, broker: RabbitBroker, proxy: AmqpProxy, counting: Counting) -> None:
        self.broker, self.log, self.proxy, self.counting = broker, broker.log, proxy, counting


@asynccontextmanager
async def node(rabbit: Rabbit, rabbit_url: str, name: str) -> AsyncIterator[Node]:
    counting = Counting()
    async with AmqpProxy(rabbit.port).listening() as proxy:
        url = rabbit_url.replace(f":{rabbit.port}", f":{proxy.port}")
        async with open_rabbitmq([url], partitions=2, name=name, observe=counting) as broker:
            yield Node(broker, proxy, counting)


async def test_a_node_that_hears_everything_is_not_deaf(rabbit: Rabbit, rabbit_url: str) -> None:
    """Two nodes that say and read things, and then nothing, lose no connection and hear a canary a second."""
    async with AsyncExitStack() as stack:
        one, other = [await stack.enter_async_context(node(rabbit, rabbit_url, name)) for name in ("one", "other")]
        readings = [await stack.enter_async_context(reading(who.log)) for who in (one, other)]
        for number in range(30):
            await (one, other)[number % 2].log.append(0, b"%d" % number)
        for notes in readings:
            await notes.got(*map(str, range(30)))
        heard = len(one.counting.canaries)
        await wait_until(lambda: len(one.counting.canaries) >= heard + 4, 4 * CANARY_EVERY_S + BUSY_S, "four canaries")
        for who in (one, other):
            assert who.broker.deaf is None
            assert who.counting.lost_for == []
            assert all(0 <= seconds < 1 for seconds in who.counting.canaries)


async def test_a_node_misses_its_own_message(rabbit: Rabbit, rabbit_url: str) -> None:
    """What it appended and does not get makes a node say that it is deaf; the next connection brings everything, once and in order."""
    async with node(rabbit, rabbit_url, "one") as one, reading(one.log, 1) as notes:
        await one.log.append(1, b"heard")
        await notes.got("heard")
        one.proxy.deafen("follow")
        await one.log.append(1, b"missed")
        await wait_until(lambda: one.broker.deaf, DEAF_S + 1 + BUSY_S, "it notices")
        await notes.got("missed")
        await wait_until(lambda: one.broker.deaf is None, BUSY_S, "it is not deaf any more")
        assert notes.texts == ["heard", "missed"]
        assert one.counting.lost_for == ["nothing comes of partition 1 of the log although there is more"]
        assert one.log.up


async def test_a_node_misses_what_another_has_read(rabbit: Rabbit, rabbit_url: str) -> None:
    """A node that appends nothing itself hears from the other's canaries that there is more than it gets."""
    async with (
        node(rabbit, rabbit_url, "one") as one,
        node(rabbit, rabbit_url, "other") as other,
        reading(one.log) as notes,
        reading(other.log) as others,
    ):
        await other.log.append(0, b"heard")
        await notes.got("heard")
        one.proxy.deafen("follow")
        await other.log.append(0, b"missed")
        await others.got("missed")
        await wait_until(lambda: one.broker.deaf, CANARY_EVERY_S + DEAF_S + 1 + BUSY_S, "it notices")
        await notes.got("missed")
        await wait_until(lambda: one.broker.deaf is None, BUSY_S, "it is not deaf any more")
        assert notes.texts == ["heard", "missed"]
        assert len(one.counting.lost_for) == 1 and other.counting.lost_for == []


async def test_a_node_that_may_not_read_says_so(rabbit: Rabbit) -> None:
    """A connection that is there and brings no reader to the log is no cure: appends are taken, nothing comes, and the node is deaf."""
    vhost = rabbit.fresh_vhost()
    login = rabbit.fresh_user(vhost, configure=".*", write=".*", read=".*")
    user = login.partition(":")[0]
    async with node(rabbit, rabbit.url_for(vhost, login), "one") as one, reading(one.log) as notes:
        await one.log.append(0, b"heard")
        await notes.got("heard")
        rabbit.permit(user, vhost, configure=".*", write=".*", read="tidegate.signal.*")
        one.proxy.cut("follow")
        await wait_until(lambda: one.broker.deaf, DEAF_S + 1 + BUSY_S, "it notices")
        await one.log.append(0, b"missed")
        assert one.log.up and one.log.deaf is not None and "partition 0" in one.log.deaf and "refused" in one.log.deaf
        rabbit.permit(user, vhost, configure=".*", write=".*", read=".*")
        await notes.got("missed")
        await wait_until(lambda: one.broker.deaf is None, BUSY_S, "it is not deaf any more")
        assert notes.texts == ["heard", "missed"]
        assert one.counting.lost_for and all("nothing comes" not in why for why in one.counting.lost_for)


async def test_a_node_misses_its_canary(rabbit: Rabbit, rabbit_url: str) -> None:
    """A node that does not hear its own signals says so until it does, over another connection; the log goes on meanwhile."""
    async with node(rabbit, rabbit_url, "one") as one, node(rabbit, rabbit_url, "other") as other, reading(one.log) as notes:
        got: list[bytes] = []
        one.broker.signals.subscribe(got.append)
        one.proxy.deafen("signal")
        await wait_until(lambda: one.broker.deaf, SILENT_S + CANARY_EVERY_S + BUSY_S, "it notices")
        await one.log.append(0, b"meanwhile")
        await notes.got("meanwhile")
        await wait_until(lambda: one.broker.deaf is None, CANARY_EVERY_S + BUSY_S, "it is not deaf any more")
        assert one.counting.lost_for == ["no canary came back"]

        def heard() -> bool:
            other.broker.signals.publish(b"are you there?")
            return bool(got)

        await wait_until(heard, BUSY_S, "what the other says")
        assert other.counting.lost_for == []


async def test_a_node_that_stays_deaf_says_so_all_the_time(
    rabbit: Rabbit, rabbit_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where other connections are deaf, too, they are tried again and again, and none of them is taken for a cure."""
    monkeypatch.setattr(broker.rabbitmq_signals, "DEAF_S", 1.5)
    async with node(rabbit, rabbit_url, "one") as one:
        one.proxy.deafen("signal", later=True)
        await wait_until(lambda: one.broker.deaf, SILENT_S + CANARY_EVERY_S + BUSY_S, "it notices")

        def tried_again() -> bool:
            assert one.broker.deaf is not None
            return len(one.counting.lost_for) >= 2

        await wait_until(tried_again, 2 * (SILENT_S + CANARY_EVERY_S) + BUSY_S, "another connection")
        one.proxy.hear("signal")
        await wait_until(lambda: one.broker.deaf is None, SILENT_S + CANARY_EVERY_S + BUSY_S, "it is not deaf any more")


async def test_what_was_said_long_ago_is_not_said_when_the_broker_is_back(rabbit: Rabbit, rabbit_url: str) -> None:
    """A signal waits for a moment, not for the end of an outage: who types, or is asked to drain, is so now or never."""
    loop, heard = asyncio.get_running_loop(), list[bytes]()
    with TcpProxy(rabbit.port) as proxy:
        async with (
            open_rabbitmq([proxy.before(rabbit_url)], partitions=1, name="one") as one,
            open_rabbitmq([rabbit_url], partitions=1, name="other") as other,
        ):
            other.signals.subscribe(heard.append)

            async def says(word: bytes) -> None:
                def is_heard() -> bool:
                    one.signals.publish(word)
                    return word in heard

                await wait_until(is_heard, DEAF_S + BUSY_S, f"{word!r} is heard")

            await says(b"before")
            proxy.refuse()
            await wait_until(lambda: not one.log.up, DEAF_S + BUSY_S, "it is cut off")
            one.signals.publish(b"old")
            old_at = loop.time() + KEPT_S
            await wait_until(lambda: loop.time() > old_at, KEPT_S + BUSY_S, "that is long ago")
            proxy.accept()
            await says(b"after")
            assert b"old" not in heard
