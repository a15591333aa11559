"""The sockets beside an embedded log, by which its processes nudge and signal one another."""

import asyncio
import os
import shutil
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from broker.sqlite import SqliteBroker, open_sqlite
from tests.support.log_process import opened
from tests.support.wait import wait_until

pytestmark = pytest.mark.anyio
PATIENCE_S = 10.0


def opening(folder: Path, name: str) -> AbstractAsyncContextManager[SqliteBroker]:
    return open_sqlite(folder / "log.db", partitions=3, name=name)


async def test_signals_go_from_the_first_moment(tmp_path: Path) -> None:
    """As soon as both have their sockets, each reaches the other."""
    async with opening(tmp_path, "here") as here, opened(tmp_path / "log.db") as there:
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
    async with opening(tmp_path, "here") as here, opened(tmp_path / "log.db", how={"name": "other"}) as other:
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
    async with opening(tmp_path, "new"):
        assert [name.partition("-")[0] for name in _sockets(tmp_path)] == ["new"]


async def test_who_leaves_takes_its_socket_along(tmp_path: Path) -> None:
    """After a close there is nothing of it in the folder."""
    async with opening(tmp_path, "here"):
        assert len(_sockets(tmp_path)) == 1
    assert _sockets(tmp_path) == []


async def test_a_removed_folder_is_made_again(tmp_path: Path) -> None:
    """Who removes the sockets under running nodes makes them deaf for some seconds, not for ever."""
    async with opening(tmp_path, "a") as a, opening(tmp_path, "b") as b:
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
    async with opening(folder, "a") as a, opening(folder, "b") as b:
        got: list[bytes] = []
        b.signals.subscribe(got.append)

        def heard() -> bool:
            a.signals.publish(b"one")
            return bool(got)

        await wait_until(heard, PATIENCE_S, "a signal")


def _sockets(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder / "log.db.nodes") if name.endswith(".sock"))
