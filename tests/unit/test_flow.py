"""Whether a peer has stopped reading, as the server tells who writes to it."""

import pytest
import uvicorn
from uvicorn.server import ServerState

from node.edge.server import WebSocketProtocol

pytestmark = pytest.mark.anyio


async def test_a_flow_is_stalled_while_the_transport_takes_nothing() -> None:
    """From the transport's word that its buffer is full until its word that there is room; and then nobody waits."""
    protocol = WebSocketProtocol(config=uvicorn.Config(app=lambda: None), server_state=ServerState(), app_state={})
    assert not protocol.flow.stalled
    protocol.pause_writing()
    assert protocol.flow.stalled and not protocol.writable.is_set()
    protocol.resume_writing()
    assert not protocol.flow.stalled and protocol.writable.is_set()
