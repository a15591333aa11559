"""Several things at once: the first failure ends the others, and whoever goes on after it is as he was."""

import asyncio

import pytest

from broker.together import together

pytestmark = pytest.mark.anyio


async def fail(error: Exception) -> None:
    await asyncio.sleep(0)
    raise error


class Endless:
    """Works for ever, and notes that it was ended."""

    ended = False

    async def work(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)  # it has something to give back
            self.ended = True


async def test_it_returns_when_all_are_done() -> None:
    """Each of them is carried out, and all at once: none waits for another to end."""
    met = asyncio.Barrier(3)
    await together(met.wait() for _ in range(3))
    await together([])


async def test_the_first_failure_ends_the_others_and_leaves_as_it_is() -> None:
    """In no group; and not before the others have given back what they had."""
    endless = Endless()
    with pytest.raises(ValueError, match="first"):
        await together([endless.work(), fail(ValueError("first"))])
    assert endless.ended


async def test_who_goes_on_after_a_failure_is_not_taken_for_cancelled() -> None:
    """Time limits work as ever, however often something has failed before."""
    for _ in range(3):
        with pytest.raises(ValueError, match="again"):
            await together([Endless().work(), fail(ValueError("again"))])
    task = asyncio.current_task()
    assert task is not None and task.cancelling() == 0
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()


async def test_a_cancellation_ends_all() -> None:
    """Who waits for them is cancelled as soon as all have ended."""
    endless = [Endless(), Endless()]
    task = asyncio.create_task(together([one.work() for one in endless]))
    await asyncio.sleep(0)  # it begins
    await asyncio.sleep(0)  # they begin
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert all(one.ended for one in endless)
