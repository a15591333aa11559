"""Waiting in tests: ask again until it is so, or fail at a deadline saying what was waited for."""

import asyncio
import time
from collections.abc import Awaitable, Callable

_FIRST_PAUSE_S, _MOST_PAUSE_S, _LONGER = 0.005, 0.05, 1.2  # a question may be a request to each node of a cluster


class Late(AssertionError):
    """It was not so in time."""


async def wait_until(condition: Callable[[], object | Awaitable[object]], deadline_s: float, what: str) -> None:
    """Return once `condition()` is true; raises `Late` with `what` after `deadline_s`. Exceptions of the condition go through."""
    end, pause_s = time.monotonic() + deadline_s, _FIRST_PAUSE_S
    while True:
        found = condition()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return
        if time.monotonic() > end:
            raise Late(f"not within {deadline_s} s: {what}")
        await asyncio.sleep(pause_s)
        pause_s = min(_LONGER * pause_s, _MOST_PAUSE_S)


def block_until(condition: Callable[[], object], deadline_s: float, what: str) -> None:
    """`wait_until` where there is no event loop."""
    end, pause_s = time.monotonic() + deadline_s, _FIRST_PAUSE_S
    while not condition():
        if time.monotonic() > end:
            raise Late(f"not within {deadline_s} s: {what}")
        time.sleep(pause_s)
        pause_s = min(_LONGER * pause_s, _MOST_PAUSE_S)
