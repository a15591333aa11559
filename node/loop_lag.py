"""How late the event loop is: the first thing to suffer when a node has too much to do."""

import asyncio
from collections.abc import Callable

EVERY_S = 0.25


async def measure_loop_lag(observe: Callable[[float], None]) -> None:
    """Observe, four times a second and for ever, by how many seconds a timer came late."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + EVERY_S
        await asyncio.sleep(EVERY_S)
        observe(max(0.0, loop.time() - due))
