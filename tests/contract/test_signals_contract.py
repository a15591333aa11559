"""What signals between nodes guarantee: one test for each sentence of `broker.log.Signals`."""

import asyncio
import itertools
import signal
import threading

import pytest

from broker.log import Broker
from broker.memory import open_memory
from broker.nudge import LARGEST
from tests.contract.logs import SharedPlace
from tests.support.log_process import LogProcess, Message, opened
from tests.support.wait import wait_until

pytestmark = pytest.mark.anyio
PATIENCE_S = 10.0
KNOCK = b"are you there?"


async def acquaint(*brokers: Broker) -> None:
    """Return when each has heard each other one: a node is there for the others a moment after it was opened."""
    for sender, receiver in itertools.permutations(brokers, 2):
        await _heard(sender, receiver)


async def _heard(sender: Broker, receiver: Broker) -> None:
    got: list[bytes] = []
    receiver.signals.subscribe(got.append)

    def ask() -> bool:
        sender.signals.publish(KNOCK)
        return bool(got)

    await wait_until(ask, PATIENCE_S, "the others to be there")


def inbox(broker: Broker) -> list[bytes]:
    """What reaches a node from now on, but for what `acquaint` sends."""
    got: list[bytes] = []
    broker.signals.subscribe(lambda data: got.append(data) if data != KNOCK else None)
    return got


async def test_every_other_node_gets_a_signal_once_and_its_sender_none(shared_place: SharedPlace) -> None:
    """Of three nodes the two others get what one publishes, as it was."""
    async with shared_place.open("a") as a, shared_place.open("b") as b, shared_place.open("c") as c:
        await acquaint(a, b, c)
        at_a, at_b, at_c = inbox(a), inbox(b), inbox(c)
        a.signals.publish(b"\x00one")
        b.signals.publish(b"")
        await wait_until(lambda: sorted(at_c) == [b"", b"\x00one"] and at_b and at_a, PATIENCE_S, "both signals at c")
        assert at_a == [b""]
        assert at_b == [b"\x00one"]


async def test_signals_are_received_on_the_event_loop(shared_place: SharedPlace) -> None:
    """The receiver is called by the thread of the loop, whatever thread published."""
    async with shared_place.open("a") as a, shared_place.open("b") as b:
        await acquaint(a, b)
        threads: list[threading.Thread] = []
        b.signals.subscribe(lambda _: threads.append(threading.current_thread()))
        await asyncio.to_thread(a.signals.publish, b"one")
        await wait_until(lambda: threads, PATIENCE_S, "a signal")
        assert set(threads) == {threading.current_thread()}


async def test_a_node_without_a_receiver_ignores_signals(shared_place: SharedPlace) -> None:
    """What comes before `subscribe` does no harm, and what comes after it arrives."""
    async with shared_place.open("a") as a, shared_place.open("b") as b, shared_place.open("c") as c:
        await acquaint(a, b)
        at_b = inbox(b)
        a.signals.publish(b"early")
        await wait_until(lambda: at_b, PATIENCE_S, "the early signal at b")
        at_c = inbox(c)
        a.signals.publish(b"late")
        await wait_until(lambda: b"late" in at_c, PATIENCE_S, "the late signal at c")


async def test_an_over_long_signal_is_dropped(shared_place: SharedPlace) -> None:
    """64 KiB go; one byte more is dropped without an error, and the next one goes again."""
    async with shared_place.open("a") as a, shared_place.open("b") as b:
        await acquaint(a, b)
        got = inbox(b)
        a.signals.publish(b"x" * LARGEST)
        await wait_until(lambda: got, PATIENCE_S, "the long signal")
        a.signals.publish(b"x" * (LARGEST + 1))
        a.signals.publish(b"next")
        await wait_until(lambda: got[-1] == b"next", PATIENCE_S, "the next signal")
    assert LARGEST == 64 * 1024
    assert [len(data) for data in got] == [LARGEST, 4]


async def test_publishing_never_raises_after_the_close(shared_place: SharedPlace) -> None:
    """Who still has the signals of a closed log may publish, and nothing happens."""
    async with shared_place.open("a") as a:
        signals = a.signals
    signals.publish(b"too late")


async def test_last_words_are_heard(shared_place: SharedPlace) -> None:
    """What a node publishes just before it closes reaches the others."""
    async with shared_place.open("a") as a:
        async with shared_place.open("b") as b:
            await acquaint(a, b)
            got = inbox(a)
            for number in range(5):
                b.signals.publish(b"%d" % number)
        await wait_until(lambda: got == [b"%d" % number for number in range(5)], PATIENCE_S, "its last words")


async def test_the_log_of_one_process_has_nobody_to_signal() -> None:
    """The memory log's signals reach nobody, not even the node itself."""
    async with open_memory(partitions=1) as broker:
        got: list[bytes] = []
        broker.signals.subscribe(got.append)
        broker.signals.publish(b"one")
        await broker.log.append(0, b"one")
        assert got == []


# Between processes


async def test_another_process_gets_it_and_answers(shared_place: SharedPlace) -> None:
    """Signals cross processes in both directions."""
    async with shared_place.open("here") as here, opened(shared_place.where) as there:
        got = inbox(here)
        await known_to(there, here)
        here.signals.publish(b"ping")
        assert await heard_next(there) == {"signal": "ping", "length": 4}
        await there.ask("publish", text="pong")
        await wait_until(lambda: got == [b"pong"], PATIENCE_S, "the answer")


async def test_a_dead_peer_mutes_nobody(shared_place: SharedPlace) -> None:
    """After one process was killed the living get every signal, and so does who comes later."""
    async with shared_place.open("here") as here, opened(shared_place.where, how={"name": "living"}) as living:
        async with opened(shared_place.where, how={"name": "dead"}) as dead:
            await known_to(living, here)
            await dead.kill()
        for number in range(50):
            here.signals.publish(b"%02d" % number)
            assert await heard_next(living) == {"signal": f"{number:02}", "length": 2}
        async with shared_place.open("new") as new:
            await acquaint(here, new)


async def test_a_frozen_peer_mutes_nobody(shared_place: SharedPlace) -> None:
    """While one process is stopped and its queue is full, the others get every signal; the log goes on, too."""
    async with (
        shared_place.open("here") as here,
        opened(shared_place.where, how={"name": "frozen"}) as frozen,
        opened(shared_place.where, how={"name": "living"}) as living,
    ):
        await known_to(living, here)
        await known_to(frozen, here)
        frozen.send(signal.SIGSTOP)
        for number in range(50):
            here.signals.publish(f"{number:02}".encode() + b"x" * 60_000)
            answer = await heard_next(living)
            assert (answer["signal"][:2], answer["length"]) == (f"{number:02}", 60_002)
        await here.log.append(0, b"one")
        frozen.send(signal.SIGCONT)


async def test_two_openers_may_have_one_name(shared_place: SharedPlace) -> None:
    """The same name twice, in one process, is two peers."""
    async with shared_place.open("same") as a, shared_place.open("same") as b:
        await acquaint(a, b)
        got = inbox(b)
        a.signals.publish(b"one")
        await wait_until(lambda: got == [b"one"], PATIENCE_S, "the signal")


async def known_to(child: LogProcess, broker: Broker) -> None:
    """Return when a child, which tells of its signals from now on, has heard this broker."""
    await child.ask("subscribe")
    telling = asyncio.ensure_future(child.hear())

    def ask() -> bool:
        broker.signals.publish(KNOCK)
        return telling.done()

    await wait_until(ask, PATIENCE_S, "the child to hear")
    await telling


async def heard_next(child: LogProcess) -> Message:
    """The next signal that the child tells of, but for what `known_to` sends."""
    while (told := await child.hear()).get("signal") == KNOCK.decode():
        pass
    return told
