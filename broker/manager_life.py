"""What a manager runs, from its first emit or client to the end of the event loop."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from typing import Any

import msgspec

from broker.manager_counts import Counts
from broker.manager_interest import Interest
from broker.manager_stream import EmitStream, Settings
from broker.manager_transient import Transients
from broker.manager_wire import address_of_node
from broker.together import together

LAST_LIMIT_S = 5.0
PAUSE_S = 1.0


class Running(msgspec.Struct, frozen=True):
    """What runs in one event loop, under a name of its own."""

    node: str
    stream: EmitStream
    transients: Transients
    task: "asyncio.Task[None]"
    last_words: AsyncGenerator[None, None]


class Life:
    """`receive` is given what comes; `log` returns where faults are told."""

    def __init__(
        self,
        settings: Settings,
        counts: Counts,
        interest: Interest,
        log: Callable[[], Any],
        receive: Callable[[Iterable[bytes]], Awaitable[None]],
    ) -> None:
        self._settings, self._counts, self._interest, self._log, self._receive = settings, counts, interest, log, receive
        self.running: Running | None = None
        self._aside: set[asyncio.Task[None]] = set()
        self._closed = False
        self._last_s = LAST_LIMIT_S

    def begun(self) -> Running:
        """What runs in this event loop, begun where it does not; a manager may see several loops, one after the other."""
        if self._closed:
            raise RuntimeError("the manager is closed")
        running = self.running
        if running is None or running.task.get_loop() is not asyncio.get_running_loop():
            running = self.running = self._begin()
        return running

    async def aclose(self, limit_s: float) -> None:
        """Send what waits, for so long at most, and end everything. Idempotent."""
        self._closed, self._last_s = True, limit_s
        running = self.running
        if running is None:
            return
        tasks = [running.task, *self._aside]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await running.last_words.aclose()

    async def set_aside(self, work: Coroutine[Any, Any, None]) -> None:
        """Run what may wait for something that has yet to come over the stream; return when it has begun, and wait for none of it.

        One runs at most for each socket of this node that ends, and one for each callback that the application has asked for.
        """
        task = asyncio.create_task(self._watched(work))
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)
        await asyncio.sleep(0)

    async def _watched(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:
            logger = self._log()
            logger.exception("a handler or a callback failed")

    def _begin(self) -> Running:
        node = uuid.uuid4().hex  # not sooner: processes may be forked off one that has made a manager
        if self._settings.listen:
            self._interest.add(address_of_node(node))
        stream = EmitStream(self._settings, node, self._counts, self._log, self._receive)
        interest = self._interest if self._settings.listen else None
        transients = Transients(self._settings, node, self._counts, interest, self._log, self._receive)
        last_words = self._say_last(node, stream)
        with suppress(StopIteration):  # its first step: from now on the event loop closes it at its end
            last_words.__anext__().__await__().send(None)
        return Running(node, stream, transients, asyncio.create_task(self._run(stream, transients)), last_words)

    async def _run(self, stream: EmitStream, transients: Transients) -> None:
        while True:
            try:
                await together([stream.run(), transients.run()])
            except Exception:
                logger = self._log()
                logger.exception("a fault in the manager; it goes on from where it was")
            await asyncio.sleep(PAUSE_S)

    async def _say_last(self, node: str, stream: EmitStream) -> AsyncGenerator[None, None]:
        """Closed at the end of the event loop, when every task has been cancelled: what the broker does not have yet is sent now."""
        try:
            yield
        finally:
            await stream.finish(self._last_s)
            if self._settings.listen:
                self._interest.remove(address_of_node(node))
            if self.running is not None and self.running.node == node:
                self.running = None
