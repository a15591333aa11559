"""Whether a peer has stopped reading, as the server tells who writes to it."""

import asyncio

import pytest
import uvicorn
from uvicorn.server import ServerState

from node.edge.server import WebSocketProtocol
from tests.support.wait import wait_until

GONE_S = 5.0
CONFIG = uvicorn.Config(app=lambda: None, log_config=None)  # or it would change what this process logs
pytestmark = pytest.mark.anyio


async def test_a_flow_is_stalled_while_the_transport_takes_nothing() -> None:
    """From the transport's word that its buffer is full until its word that there is room; and then nobody waits."""
    protocol = WebSocketProtocol(config=CONFIG, server_state=ServerState(), app_state={})
    assert not protocol.flow.stalled
    protocol.pause_writing()
    assert protocol.flow.stalled and not protocol.writable.is_set()
    protocol.resume_writing()
    assert not protocol.flow.stalled and protocol.writable.is_set()


async def test_nothing_flows_to_who_is_gone() -> None:
    """What cannot be written any more is not told to be written: it fails, as its writer sees."""
    protocol = WebSocketProtocol(config=CONFIG, server_state=ServerState(), app_state={})
    async with await asyncio.get_running_loop().create_server(lambda: protocol, "127.0.0.1", 0) as server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await wait_until(lambda: protocol in protocol.connections, GONE_S, "somebody is there")
        assert not protocol.flow.stalled
        writer.close()
        await wait_until(lambda: protocol.flow.stalled, GONE_S, "he is gone")
