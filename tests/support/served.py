"""The application `chatter` in this process, on a manager that the test holds in its hand."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn

from broker.manager import RabbitManager
from tests.support.chatter import make_application
from tests.support.wait import wait_until

START_S = 10.0


@asynccontextmanager
async def served(manager: RabbitManager) -> AsyncIterator[str]:
    """Serve it; gives the URL. The manager is closed with the block."""
    config = uvicorn.Config(make_application(manager), port=0, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
    listener = config.bind_socket()
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve([listener]))  # `serve` would take the signals of the tests
    try:
        await wait_until(lambda: server.started, START_S, "the application serves")
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving
        listener.close()
        await manager.aclose()
