"""Several things at once within one task that goes on when one of them has failed.

Not `asyncio.TaskGroup`: that of Python 3.11 leaves its task marked as cancelled where a child fails while the task waits for the
others (python/cpython#116720), so that whoever goes on in it loses a later time limit, or takes a lost connection for a cancellation.
"""

import asyncio
from collections.abc import Coroutine, Iterable


async def together(work: Iterable[Coroutine[None, None, object]]) -> None:
    """Return once all are done. The first failure, or a cancellation, ends the others, and leaves when they have ended."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        if tasks:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if not task.cancelled():
            task.result()
