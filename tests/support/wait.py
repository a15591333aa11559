"""Waiting in tests: ask again until it is so, or fail at a deadline saying what was waited for."""

import asyncio
import time
from collections.abc import Awaitable, Callable

_PAUSE_S = 0.01


class Late(AssertionError):
    """It was not so in time."""


async def wait_until(condition: Callable[[], object | Awaitable[object]], deadline_s: float, what: str) -> None:
    """Return once `condition()` is true; raises `Late` with `what` after `deadline_s`. Exceptions of the condition go through."""
    end = time.monotonic() + deadline_s
    while True:
        found = condition()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return
        if time.monotonic() > end:
            raise Late(f"not within {deadline_s} s: {what}")
        await asyncio.sleep(_PAUSE_S)


def block_until(condition: Callable[[], object], deadline_s: float, what: str) -> None:
    """`wait_until` where there is no event loop."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise Late(f"not within {deadline_s} s: {what}")
        time.sleep(_PAUSE_S)
