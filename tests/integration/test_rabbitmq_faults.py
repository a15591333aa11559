"""The log on RabbitMQ while its broker is killed, hangs, or takes nothing: what was acked is there, what is refused is refused in time."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from broker.log import Log, LogUnavailable
from broker.rabbitmq import open_rabbitmq
from broker.rabbitmq_appender import MOST_WAITING
from tests.support.load import Load, load
from tests.support.rabbit import Rabbit
from tests.support.rabbit_log import Counting, Reading, reading
from tests.support.wait import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.rabbitmq]
REFUSED_WITHIN_S = 3.0
BLOCKED_WITHIN_S = 10.0  # from the alarm to the first append that is refused: a broker tells its connections in its own time
NOTICED_WITHIN_S = 3.0
BACK_WITHIN_S = 1.0
CLOSED_WITHIN_S = 5.0
BUSY_S = 1.0  # what a machine with everything else on it may add
PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def own_rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rabbit]:
    """The broker of this file, to be killed and frozen; each test leaves it running."""
    with Rabbit(tmp_path_factory.mktemp("own-rabbit")) as rabbit:
        yield rabbit


@pytest.fixture
def url(own_rabbit: Rabbit) -> Iterator[str]:
    vhost = own_rabbit.fresh_vhost()
    yield own_rabbit.url_for(vhost)
    own_rabbit.drop_vhost(vhost)


@pytest.fixture(autouse=True)
async def nothing_forgotten() -> AsyncIterator[None]:
    """Failures that nobody looked at are told when they are collected: that is now, and each is an error of the test."""
    yield
    gc.collect()


async def noticed(log: Log) -> None:
    await wait_until(lambda: not log.up, NOTICED_WITHIN_S + BUSY_S, "the log notices")


async def back(log: Log, since: float, load: Load) -> None:
    """The log is up again, and takes records again, within a second from `since` on."""
    await wait_until(lambda: log.up and load.last_ack > since, BACK_WITHIN_S + BUSY_S, "the log is back")


async def whole(load: Load, notes: list[Reading]) -> None:
    """Everything that was acked comes to who follows."""
    for partition, reading_ in enumerate(notes):
        await reading_.got(*load.acked[partition])
        load.check(partition, reading_.texts)


# Killed


async def test_kill_9_of_the_broker_loses_nothing_acked(own_rabbit: Rabbit, url: str) -> None:
    """Under load: meanwhile appends are refused in time; back within a second from its start; everything acked is there, in order."""
    counting = Counting()
    async with (
        open_rabbitmq([url], partitions=2, name="here", observe=counting) as broker,
        reading(broker.log, 0) as zero,
        reading(broker.log, 1) as one,
    ):
        async with load(broker.log) as working:
            await working.more(200)
            own_rabbit.kill()
            await noticed(broker.log)
            await wait_until(lambda: working.refused, REFUSED_WITHIN_S + BUSY_S, "appends are refused")
            own_rabbit.start()
            await asyncio.to_thread(own_rabbit.wait_ready)
            await back(broker.log, time.monotonic(), working)
            assert working.slowest_s < REFUSED_WITHIN_S
            await working.more(200)
        await whole(working, [zero, one])
        assert len(counting.lost_for) == 3  # the three connections that there were, and none that was made since
        assert broker.deaf is None


async def test_an_idle_log_notices_and_comes_back_by_itself(own_rabbit: Rabbit, url: str) -> None:
    """Without any append `up` says that the broker is gone, and that it is back; the next append goes at once, over what there is."""
    counting = Counting()
    async with open_rabbitmq([url], partitions=3, name="here", observe=counting) as broker, reading(broker.log) as notes:
        await broker.log.append(0, b"before")
        own_rabbit.kill()
        await noticed(broker.log)
        own_rabbit.start()
        await asyncio.to_thread(own_rabbit.wait_ready)
        await wait_until(lambda: broker.log.up, BACK_WITHIN_S + BUSY_S, "the log is back")
        lost = len(counting.lost_for)
        for partition in range(3):
            began = time.monotonic()
            await broker.log.append(partition, b"after")
            assert time.monotonic() - began < 0.5
        await notes.got("before", "after")
        assert len(counting.lost_for) == lost == 3


# Frozen


async def test_a_frozen_broker_refuses_in_time_and_loses_nothing_acked(own_rabbit: Rabbit, url: str) -> None:
    """SIGSTOP for 6 s under load: noticed and refused within 3 s, again and again; a second after SIGCONT everything goes on."""
    async with (
        open_rabbitmq([url], partitions=2, name="here") as broker,
        reading(broker.log, 0) as zero,
        reading(broker.log, 1) as one,
    ):
        async with load(broker.log) as working:
            own_rabbit.freeze()
            frozen_at = time.monotonic()
            await noticed(broker.log)
            await wait_until(lambda: time.monotonic() - frozen_at > 6, 10, "6 s are over")
            assert len(working.refused) >= 2 * 4 * 2  # each worker twice at least
            own_rabbit.thaw()
            await back(broker.log, time.monotonic(), working)
            assert working.slowest_s < REFUSED_WITHIN_S
            await working.more(50)
        await whole(working, [zero, one])


async def test_an_idle_log_notices_a_frozen_broker(own_rabbit: Rabbit, url: str) -> None:
    """Nobody appends, and nothing is closed: `up` says within 3 s that the broker does not answer, and soon that it does."""
    async with open_rabbitmq([url], partitions=1, name="here") as broker:
        own_rabbit.freeze()
        try:
            await noticed(broker.log)
        finally:
            own_rabbit.thaw()
        await wait_until(lambda: broker.log.up, BACK_WITHIN_S + BUSY_S, "the log is back")


async def test_closing_does_not_wait_for_a_frozen_broker(own_rabbit: Rabbit, url: str) -> None:
    """A log that is followed and appended to is closed within 5 s while its broker hangs; soon no task of it is left."""
    before = asyncio.all_tasks()
    appending: list[asyncio.Future[None]] = []
    try:
        async with open_rabbitmq([url], partitions=3, name="here") as broker, reading(broker.log) as notes:
            await broker.log.append(0, b"one")
            await notes.got("one")
            own_rabbit.freeze()
            appending += [asyncio.ensure_future(broker.log.append(partition, b"two")) for partition in range(3)]
            await asyncio.sleep(0)  # they begin
            began = time.monotonic()
        assert time.monotonic() - began < CLOSED_WITHIN_S + BUSY_S
        outcomes = await asyncio.gather(*appending, return_exceptions=True)
        assert all(isinstance(outcome, LogUnavailable) for outcome in outcomes)
        await wait_until(lambda: asyncio.all_tasks() <= before, CLOSED_WITHIN_S, "no task of the log")
    finally:
        own_rabbit.thaw()


async def test_more_than_the_buffer_takes_is_refused_at_once(own_rabbit: Rabbit, url: str) -> None:
    """While the broker hangs, appends past the bound of the buffer do not wait, and all others are refused in time."""
    async with open_rabbitmq([url], partitions=1, name="here") as broker:
        own_rabbit.freeze()
        try:
            began = time.monotonic()
            waiting = [asyncio.ensure_future(broker.log.append(0, b"x")) for _ in range(MOST_WAITING + 100)]
            done, _ = await asyncio.wait(waiting, timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
            assert len(done) == 100
            assert "too many" in str(done.pop().exception())
            outcomes = await asyncio.gather(*waiting, return_exceptions=True)
            assert time.monotonic() - began < REFUSED_WITHIN_S + BUSY_S
            assert all(isinstance(outcome, LogUnavailable) for outcome in outcomes)
        finally:
            own_rabbit.thaw()
        await wait_until(lambda: broker.log.up, BACK_WITHIN_S + BUSY_S, "the log is back")
        await broker.log.append(0, b"after")


# It takes nothing

# set as the broker's monitors set them: what those can see of the machine's memory and disks differs from one to the next
ALARM = "{{resource_limit, %s, node()}, []}"


@pytest.mark.parametrize("short_of", ["memory", "disk"])
async def test_a_broker_short_of_room_refuses_until_it_is_not(own_rabbit: Rabbit, url: str, short_of: str) -> None:
    """An alarm blocks whoever publishes: appends are refused in time, the log is down, and comes back by itself when the alarm ends."""
    async with open_rabbitmq([url], partitions=1, name="here") as broker, reading(broker.log) as notes:
        await broker.log.append(0, b"before")

        async def refused() -> bool:
            began = time.monotonic()
            try:
                await broker.log.append(0, b"refused")
            except LogUnavailable:
                return True
            finally:
                assert time.monotonic() - began < REFUSED_WITHIN_S
            return False

        own_rabbit.erlang(f"rabbit_alarm:set_alarm({ALARM % short_of})")
        try:
            await wait_until(refused, BLOCKED_WITHIN_S, "an append is refused")
            assert not broker.log.up
        finally:
            own_rabbit.erlang(f"rabbit_alarm:clear_alarm(element(1, {ALARM % short_of}))")
        await wait_until(lambda: broker.log.up, BACK_WITHIN_S + BUSY_S, "the log is back")
        await broker.log.append(0, b"after")
        await notes.got("before", "after")
        assert set(notes.texts) <= {"before", "refused", "after"}
