"""What signals between nodes guarantee: one test for each sentence of `broker.log.Signals`."""

import asyncio
import itertools
import os
import shutil
import signal
import threading
from pathlib import Path

import pytest

from broker.log import Broker
from broker.memory import open_memory
from broker.nudge import LARGEST
from tests.contract.logs import SIGNALS, Place
from tests.support.log_process import opened
from tests.support.wait import wait_until

pytestmark = pytest.mark.anyio
PATIENCE_S = 10.0
KNOCK = b"are you there?"


@pytest.fixture(params=sorted(SIGNALS))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return SIGNALS[request.param](tmp_path)


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


async def test_every_other_node_gets_a_signal_once_and_its_sender_none(place: Place) -> None:
    """Of three nodes the two others get what one publishes, as it was."""
    async with place.open("a") as a, place.open("b") as b, place.open("c") as c:
        await acquaint(a, b, c)
        at_a, at_b, at_c = inbox(a), inbox(b), inbox(c)
        a.signals.publish(b"\x00one")
        b.signals.publish(b"")
        await wait_until(lambda: at_c == [b"\x00one", b""] and at_b and at_a, PATIENCE_S, "both signals at c")
        assert at_a == [b""]
        assert at_b == [b"\x00one"]


async def test_signals_are_received_on_the_event_loop(place: Place) -> None:
    """The receiver is called by the thread of the loop, whatever thread published."""
    async with place.open("a") as a, place.open("b") as b:
        await acquaint(a, b)
        threads: list[threading.Thread] = []
        b.signals.subscribe(lambda _: threads.append(threading.current_thread()))
        await asyncio.to_thread(a.signals.publish, b"one")
        await wait_until(lambda: threads, PATIENCE_S, "a signal")
        assert set(threads) == {threading.current_thread()}


async def test_a_node_without_a_receiver_ignores_signals(place: Place) -> None:
    """What comes before `subscribe` does no harm, and what comes after it arrives."""
    async with place.open("a") as a, place.open("b") as b, place.open("c") as c:
        await acquaint(a, b)
        at_b = inbox(b)
        a.signals.publish(b"early")
        await wait_until(lambda: at_b, PATIENCE_S, "the early signal at b")
        at_c = inbox(c)
        a.signals.publish(b"late")
        await wait_until(lambda: b"late" in at_c, PATIENCE_S, "the late signal at c")


async def test_an_over_long_signal_is_dropped(place: Place) -> None:
    """64 KiB go; one byte more is dropped without an error, and the next one goes again."""
    async with place.open("a") as a, place.open("b") as b:
        await acquaint(a, b)
        got = inbox(b)
        a.signals.publish(b"x" * LARGEST)
        await wait_until(lambda: got, PATIENCE_S, "the long signal")
        a.signals.publish(b"x" * (LARGEST + 1))
        a.signals.publish(b"next")
        await wait_until(lambda: got[-1] == b"next", PATIENCE_S, "the next signal")
    assert LARGEST == 64 * 1024
    assert [len(data) for data in got] == [LARGEST, 4]


async def test_publishing_never_raises_after_the_close(place: Place) -> None:
    """Who still has the signals of a closed log may publish, and nothing happens."""
    async with place.open("a") as a:
        signals = a.signals
    signals.publish(b"too late")


async def test_the_log_of_one_process_has_nobody_to_signal() -> None:
    """The memory log's signals reach nobody, not even the node itself."""
    async with open_memory(partitions=1) as broker:
        got: list[bytes] = []
        broker.signals.subscribe(got.append)
        broker.signals.publish(b"one")
        await broker.log.append(0, b"one")
        assert got == []


# Between processes


async def test_another_process_gets_it_and_answers(tmp_path: Path) -> None:
    """Signals cross processes in both directions, from the first moment."""
    async with SIGNALS["sqlite"](tmp_path).open("here") as here, opened(tmp_path / "log.db") as there:
        got: list[bytes] = []
        here.signals.subscribe(got.append)
        await wait_until(lambda: len(_sockets(tmp_path)) == 2, PATIENCE_S, "both sockets")
        await there.ask("subscribe")
        await asyncio.sleep(0)  # its hello is read
        here.signals.publish(b"ping")
        assert await there.hear() == {"signal": "ping", "length": 4}
        await there.ask("publish", text="pong")
        await wait_until(lambda: got == [b"pong"], PATIENCE_S, "the answer")


async def test_a_dead_peer_is_forgotten(tmp_path: Path) -> None:
    """The socket of a process that was killed is removed by the next signal, and the living still get it."""
    async with SIGNALS["sqlite"](tmp_path).open("here") as here, opened(tmp_path / "log.db", how={"name": "other"}) as other:
        async with opened(tmp_path / "log.db", how={"name": "dead"}) as dead:
            await other.ask("subscribe")
            await dead.kill()
        assert len(_sockets(tmp_path)) == 3
        here.signals.publish(b"one")
        assert await other.hear() == {"signal": "one", "length": 3}
        await wait_until(lambda: len(_sockets(tmp_path)) == 2, PATIENCE_S, "the dead socket to go")
        assert not any(name.startswith("dead-") for name in _sockets(tmp_path))


async def test_a_newcomer_removes_the_dead(tmp_path: Path) -> None:
    """Who starts after everything was killed finds itself alone."""
    async with opened(tmp_path / "log.db", how={"name": "dead"}) as dead:
        await dead.kill()
    async with SIGNALS["sqlite"](tmp_path).open("new"):
        assert [name.partition("-")[0] for name in _sockets(tmp_path)] == ["new"]


async def test_who_leaves_takes_its_socket_along(tmp_path: Path) -> None:
    """After a close there is nothing of it in the folder."""
    async with SIGNALS["sqlite"](tmp_path).open("here"):
        assert len(_sockets(tmp_path)) == 1
    assert _sockets(tmp_path) == []


async def test_a_frozen_peer_mutes_nobody(tmp_path: Path) -> None:
    """While one process is stopped and its queue is full, the others get every signal; the log goes on, too."""
    async with (
        SIGNALS["sqlite"](tmp_path).open("here") as here,
        opened(tmp_path / "log.db", how={"name": "frozen"}) as frozen,
        opened(tmp_path / "log.db", how={"name": "living"}) as living,
    ):
        await living.ask("subscribe")
        await frozen.ask("subscribe")
        frozen.send(signal.SIGSTOP)
        for number in range(50):
            here.signals.publish(f"{number:02}".encode() + b"x" * 60_000)
            answer = await living.hear()
            assert (answer["signal"][:2], answer["length"]) == (f"{number:02}", 60_002)
        await here.log.append(0, b"one")
        frozen.send(signal.SIGCONT)


async def test_a_removed_folder_is_made_again(tmp_path: Path) -> None:
    """Who removes the sockets under running nodes makes them deaf for some seconds, not for ever."""
    async with SIGNALS["sqlite"](tmp_path).open("a") as a, SIGNALS["sqlite"](tmp_path).open("b") as b:
        got: list[bytes] = []
        b.signals.subscribe(got.append)
        shutil.rmtree(tmp_path / "log.db.nodes")

        def heard() -> bool:
            a.signals.publish(b"again")
            return bool(got)

        await wait_until(heard, PATIENCE_S, "a signal by way of the new folder")


async def test_a_path_too_long_for_a_socket_address_works(tmp_path: Path) -> None:
    """A log deep down in the file system has signals like any other."""
    folder = tmp_path / ("deep" * 20) / ("down" * 20)
    async with SIGNALS["sqlite"](folder).open("a") as a, SIGNALS["sqlite"](folder).open("b") as b:
        await acquaint(a, b)
        got = inbox(b)
        a.signals.publish(b"one")
        await wait_until(lambda: got == [b"one"], PATIENCE_S, "the signal")


async def test_two_openers_may_have_one_name(tmp_path: Path) -> None:
    """The same name twice, in one process, is two peers."""
    async with SIGNALS["sqlite"](tmp_path).open("same") as a, SIGNALS["sqlite"](tmp_path).open("same") as b:
        await acquaint(a, b)
        got = inbox(b)
        a.signals.publish(b"one")
        await wait_until(lambda: got == [b"one"], PATIENCE_S, "the signal")


def _sockets(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder / "log.db.nodes") if name.endswith(".sock"))
