"""From an emit to the sockets of a node, with no broker in between."""

import time
from collections.abc import AsyncIterator

import pytest
import socketio
from engineio.async_socket import AsyncSocket

from broker.manager import RabbitManager
from broker.manager_wire import Emit
from tests.support.wait import wait_until

pytestmark = pytest.mark.anyio

NOWHERE = "amqp://guest:guest@127.0.0.1:1/"


@pytest.fixture
async def manager() -> AsyncIterator[RabbitManager]:
    """One with a server, which needs no broker for what comes to it."""
    manager = RabbitManager(NOWHERE)
    socketio.AsyncServer(client_manager=manager, async_mode="asgi")
    yield manager
    await manager.aclose(0.1)


async def joined(manager: RabbitManager, name: str) -> AsyncSocket:
    """A socket of that name in Engine.IO, connected to `/`."""
    engine = manager.server.eio
    socket = engine.sockets[name] = AsyncSocket(engine, name)
    sid = await manager.pre_connect(name, "/")
    assert sid is not None
    await manager.connect(sid, "/")
    return socket


@pytest.mark.parametrize("room", ["\ud800x", 2**64, -(2**63) - 1], ids=["half a surrogate pair", "too large", "too small"])
async def test_a_room_that_cannot_be_told_is_not_entered(manager: RabbitManager, room: str | int) -> None:
    """A `TypeError` before anything has changed: whoever asked for it is in his other rooms, and out of them once he has gone."""
    await joined(manager, "ann")
    sid = manager.sid_from_eio_sid("ann", "/")
    with pytest.raises(TypeError, match="a room cannot be"):
        await manager.enter_room(sid, "/", room)
    with pytest.raises(TypeError, match="a room cannot be"):
        await manager.emit("said", 1, room=room)
    await manager.enter_room(sid, "/", "lobby")
    assert set(manager.get_rooms(sid, "/")) == {sid, "lobby"}
    await manager.disconnect(sid, "/")
    assert manager.rooms == {} and manager._rooms_by_client == {}


async def test_a_client_that_has_gone_is_closed(manager: RabbitManager) -> None:
    """A socket that has not answered in time is closed by the next emit, once, its handler runs; the others have the emit at once."""
    gone, there = await joined(manager, "gone"), await joined(manager, "there")
    ended: list[str] = []
    manager.server.on("disconnect", lambda sid, reason: ended.append(reason))
    gone.last_ping = time.time() - 1_000
    for _ in range(3):
        await manager._deliver(Emit("/", None, [], '["said",1]', []))
    assert there.queue.qsize() == 3
    await wait_until(lambda: gone.closed, 5, "it is closed")
    assert ended == ["ping timeout"]
    assert gone.queue.qsize() == 0
