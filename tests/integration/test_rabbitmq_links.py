"""Single connections of the log on RabbitMQ that are cut, or hang, while the others go on."""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest

from broker.log import START, LogUnavailable
from broker.rabbitmq import RabbitBroker, open_rabbitmq
from broker.rabbitmq_appender import PROOF_LIMIT_S, Appender
from broker.rabbitmq_channel import LinkLost
from broker.rabbitmq_follower import PREFETCH
from broker.rabbitmq_link import SLOWEST_BYTES_PER_S, Link
from tests.support.amqp_proxy import AmqpProxy
from tests.support.load import load
from tests.support.rabbit import Rabbit
from tests.support.rabbit_log import Counting, bare_link, reading
from tests.support.wait import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.rabbitmq]
NOTICED_WITHIN_S = 3.0
BACK_WITHIN_S = 1.0
BUSY_S = 1.0  # what a machine with everything else on it may add
PATIENCE_S = 20.0


class Opened:
    """A log that is reached through a proxy."""

    def __init__(self, broker: RabbitBroker, proxy: AmqpProxy, counting: Counting) -> None:
        self.log, self.proxy, self.counting = broker.log, proxy, counting

    async def back(self, losses: int) -> None:
        """So many connections were lost, and the log is up again."""
        await wait_until(lambda: len(self.counting.lost_for) >= losses and self.log.up, PATIENCE_S, "the log is back")


@asynccontextmanager
async def through_proxy(rabbit: Rabbit, rabbit_url: str, *, partitions: int = 1) -> AsyncIterator[Opened]:
    counting = Counting()
    async with AmqpProxy(rabbit.port).listening() as proxy:
        url = rabbit_url.replace(f":{rabbit.port}", f":{proxy.port}")
        async with open_rabbitmq([url], partitions=partitions, name="here", observe=counting) as broker:
            yield Opened(broker, proxy, counting)


async def test_a_connection_cut_in_the_middle_of_a_batch_loses_nothing(rabbit: Rabbit, rabbit_url: str) -> None:
    """Twenty times the appending connection is cut after some more bytes: everything acked is there, in order; nothing is refused."""
    sizes = random.Random(7)
    async with through_proxy(rabbit, rabbit_url, partitions=2) as here, reading(here.log, 0) as zero, reading(here.log, 1) as one:
        async with load(here.log, workers=50) as working:
            for cut in range(1, 21):
                for passage in here.proxy.named("append"):
                    passage.cut_after(sizes.randrange(1, 8_000))
                await here.back(cut)
                await working.more(100)
            assert working.refused == []
        for partition, notes in enumerate((zero, one)):
            await notes.got(*working.acked[partition])
            working.check(partition, notes.texts)
        repeated = len(zero.texts + one.texts) - len(set(zero.texts + one.texts))
        assert repeated < 20 * 2 * 50  # what was in flight at a cut, at most
        assert len(here.counting.lost_for) == 20


async def test_the_following_connection_goes_while_the_appending_stays(rabbit: Rabbit, rabbit_url: str) -> None:
    """Twenty times it is cut under load: no append notices, and who follows gets each record once, without a gap."""
    async with through_proxy(rabbit, rabbit_url) as here, reading(here.log) as notes:
        async with load(here.log, workers=20) as working:
            for cut in range(1, 21):
                here.proxy.cut("follow")
                await here.back(cut)
                await working.more(50)
            assert working.refused == []
            assert working.slowest_s < 1.0 + BUSY_S
        await notes.got(*working.acked[0])
        working.check(0, notes.texts)
        assert len(notes.texts) == len(set(notes.texts))


async def test_the_appending_connection_goes_while_the_following_stays(rabbit: Rabbit, rabbit_url: str) -> None:
    """Who follows goes on getting what others append, and is not connected anew."""
    async with (
        open_rabbitmq([rabbit_url], partitions=1, name="other") as other,
        through_proxy(rabbit, rabbit_url) as here,
        reading(here.log) as notes,
    ):
        here.proxy.cut("append")
        await other.log.append(0, b"one")
        await notes.got("one")
        await here.back(1)
        await here.log.append(0, b"two")
        await notes.got("one", "two")
        assert len(here.counting.lost_for) == 1


async def test_a_broker_that_confirms_slowly_is_not_given_up(rabbit: Rabbit, rabbit_url: str) -> None:
    """Where each confirm takes almost a second, records are appended all the same, the first ones of a connection too."""
    async with through_proxy(rabbit, rabbit_url) as here, reading(here.log) as notes:
        here.proxy.pace.confirm_s = 0.8
        here.proxy.cut("append")
        await wait_until(lambda: not here.log.up, NOTICED_WITHIN_S, "it is noticed")
        await here.back(1)
        await asyncio.gather(*(here.log.append(0, b"%d" % number) for number in range(3)))
        await notes.got("0", "1", "2")
        assert here.log.up and len(here.counting.lost_for) == 1


async def test_an_appending_connection_that_hangs_refuses_in_time(rabbit: Rabbit, rabbit_url: str) -> None:
    """Nothing comes back over it and nothing closes it: appends are refused within 3 s at most, another connection takes them."""
    async with through_proxy(rabbit, rabbit_url) as here, reading(here.log) as notes:
        await here.log.append(0, b"before")
        for passage in here.proxy.named("append"):
            passage.hold()
        hung = asyncio.ensure_future(here.log.append(0, b"hung"))
        await wait_until(lambda: not here.log.up, NOTICED_WITHIN_S + BUSY_S, "it is noticed")
        await here.back(1)
        outcome = (await asyncio.gather(hung, return_exceptions=True))[0]
        assert outcome is None or isinstance(outcome, LogUnavailable)
        await here.log.append(0, b"after")
        await notes.got("before", "after")
        assert len(here.counting.lost_for) == 1


async def test_a_broker_that_confirms_slowly_is_waited_for_on_each_connection(rabbit: Rabbit, rabbit_url: str) -> None:
    """What takes longer than a new channel is given for its proof is given more: the log is up again, and nothing comes many times."""
    async with through_proxy(rabbit, rabbit_url) as here, reading(here.log) as notes:
        await here.log.append(0, b"before")
        here.proxy.pace.confirm_s = 1.5 * PROOF_LIMIT_S
        for cut in range(1, 4):
            here.proxy.cut("append")
            with contextlib.suppress(LogUnavailable):  # a slow connection may take its time to come about
                await here.log.append(0, f"first:{cut}".encode())
            await here.back(cut)
            await here.log.append(0, f"next:{cut}".encode())
        await notes.got("before", *(f"{name}:{cut}" for cut in range(1, 4) for name in ("first", "next")))
        assert max(Counter(notes.texts).values()) <= 3
        assert len(here.counting.lost_for) == 3


async def test_a_large_message_is_given_time_on_a_slow_line(rabbit: Rabbit, rabbit_url: str) -> None:
    """It takes longer than the proof and the confirm of a small one, and longer than the watch: it is sent once, on one connection."""
    async with AmqpProxy(rabbit.port).listening() as proxy, bare_link(rabbit_url) as beside:
        lost: list[str] = []
        link = Link([rabbit_url.replace(f":{rabbit.port}", f":{proxy.port}")], "tidegate slow", lost=lost.append)
        proxy.pace.bytes_per_s = 1.5 * SLOWEST_BYTES_PER_S
        async with beside.channel(confirms=True) as channel:
            await channel.make_stream("slow", {"x-queue-type": "stream"})
            appender = Appender(link, "slow")
            tasks = [asyncio.create_task(link.run()), asyncio.create_task(appender.run())]
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await appender.put([bytes(6 * SLOWEST_BYTES_PER_S)])
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
            inbox = await channel.consume("slow", offset="first", prefetch=10)
            await channel.append("slow", b"end", "end", limit_s=PATIENCE_S)
            bodies: list[bytes] = []
            async with asyncio.timeout(PATIENCE_S):
                while b"end" not in bodies:
                    bodies += [delivery.body for delivery in await inbox.take(10)]
        assert len(bodies) == 3 and lost == []  # the channel's proof is the first


@pytest.mark.parametrize(("drawn", "part"), [(0.0, 0.5), (1.0, 1.0)])
async def test_a_broker_that_throws_us_out_at_once_is_left_in_peace(rabbit_url: str, drawn: float, part: float) -> None:
    """Connections that end as soon as they have come follow each other with the pauses of those that never came, drawn by lot."""
    loop = asyncio.get_running_loop()
    lost_at: list[float] = []
    link = Link([rabbit_url], "tidegate unwelcome", lost=lambda _: lost_at.append(loop.time()), random=lambda: drawn)
    task = asyncio.create_task(link.run())
    try:
        async with asyncio.timeout(PATIENCE_S):
            while len(lost_at) < 6:
                with contextlib.suppress(LinkLost):
                    async with link.channel():
                        link.drop("thrown out")
    finally:
        task.cancel()
        await asyncio.wait([task])
    pauses = [later - sooner for sooner, later in pairwise(lost_at)]
    assert all(pause >= part * least for pause, least in zip(pauses, (0.1, 0.2, 0.25, 0.25, 0.25), strict=True))


@pytest.mark.parametrize("age_s", [0.0, 0.1, 0.5])
async def test_a_link_that_is_ended_while_its_connection_is_cut_ends(rabbit_url: str, age_s: float) -> None:
    """Whoever ends it is not told instead that the connection was lost, which would have it connect again for ever."""
    link = Link([rabbit_url], "tidegate ended")
    task = asyncio.create_task(link.run())
    await wait_until(lambda: link.up, PATIENCE_S, "the link is up")
    await asyncio.sleep(age_s)  # first it opens its channel, then it waits for the next question
    link.drop("cut")
    task.cancel()
    await asyncio.wait([task], timeout=PATIENCE_S)
    assert task.cancelled()


async def test_a_following_connection_that_hangs_is_replaced(rabbit: Rabbit, rabbit_url: str) -> None:
    """Nobody is told anything over it: it is noticed within 3 s, and what came meanwhile is read over another one."""
    async with through_proxy(rabbit, rabbit_url) as here, reading(here.log) as notes:
        await here.log.append(0, b"before")
        await notes.got("before")
        for passage in here.proxy.named("follow"):
            passage.hold()
        await here.log.append(0, b"meanwhile")
        await wait_until(lambda: not here.log.up, NOTICED_WITHIN_S + BUSY_S, "it is noticed")
        await notes.got("meanwhile", within_s=BACK_WITHIN_S + BUSY_S)
        await here.back(1)
        assert notes.texts == ["before", "meanwhile"]
        assert len(here.counting.lost_for) == 1


def hung_up(here: Any, use: str) -> int:
    """Close whatever connection there is for this, without a word; how many have been lost so far."""
    for passage in here.proxy.named(use):
        passage.hang_up()
    return len(here.counting.lost_for)


@pytest.mark.parametrize("use", ["append", "follow", "signal"])
async def test_a_connection_that_is_closed_without_a_word_is_replaced(rabbit: Rabbit, rabbit_url: str, use: str) -> None:
    """Ten times, at rest and busy: whoever waits for an answer on it is none the worse, and everything goes on."""
    async with through_proxy(rabbit, rabbit_url) as here, reading(here.log) as notes:
        async with load(here.log, workers=10) as working:
            for losses in range(1, 11):
                await wait_until(lambda n=losses: hung_up(here, use) >= n, NOTICED_WITHIN_S, f"the loss of {use}")  # type: ignore[misc]
                await here.back(losses)
                await working.more(10)
            assert working.refused == []
        await notes.got(*working.acked[0])
        working.check(0, notes.texts)


async def test_a_node_out_of_reach_is_level_as_soon_as_it_is_not(rabbit: Rabbit, rabbit_url: str) -> None:
    """While the broker refuses it, a node that did not append hears nothing; within a second from the cure it has everything."""
    async with (
        open_rabbitmq([rabbit_url], partitions=1, name="other") as other,
        through_proxy(rabbit, rabbit_url) as here,
        reading(here.log) as notes,
    ):
        await other.log.append(0, b"before")
        await notes.got("before")
        here.proxy.refuses = True
        here.proxy.cut()
        await wait_until(lambda: not here.log.up, NOTICED_WITHIN_S, "it is noticed")
        texts = [f"meanwhile:{number}" for number in range(500)]
        for text in texts:
            await other.log.append(0, text.encode())
        with pytest.raises(LogUnavailable):
            await here.log.append(0, b"refused")
        assert notes.texts == ["before"]
        here.proxy.refuses = False
        await wait_until(lambda: here.log.up, BACK_WITHIN_S + BUSY_S, "it is back")
        await notes.got(*texts, within_s=BACK_WITHIN_S + BUSY_S)
        assert notes.texts == ["before", *texts]


async def test_who_reads_slowly_gets_everything(rabbit: Rabbit, rabbit_url: str) -> None:
    """More messages than are sent ahead wait at the broker until those before them are taken, and none is lost or comes twice."""
    async with through_proxy(rabbit, rabbit_url) as here, aclosing(here.log.follow(0, START)) as batches:
        texts = [f"{number}" for number in range(3 * PREFETCH)]
        for text in texts:
            await here.log.append(0, text.encode())
        read: list[str] = []
        async with asyncio.timeout(PATIENCE_S):
            while len(read) < len(texts):
                read += [record.data.decode() for record in await anext(batches)]
        assert read == texts
        assert here.counting.lost_for == []
