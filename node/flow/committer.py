"""Carry a wish into the log: decide, append, and wait until this node has applied it."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

import structlog

from broker.log import Log, LogUnavailable
from broker.topology import partition_for
from node.core.commands import Command
from node.core.decide import decide
from node.core.effects import Applied, Lost
from node.core.errors import Refused
from node.core.events import ControlEvent, RoomEvent, encode
from node.core.identity import Principal
from node.core.limits import Limits
from node.core.view import View
from node.flow.lag import Lag
from node.spans import Spans

LIMIT_S = 2.7  # PROTOCOL section 6: `unavailable` within 3 s, on a node that is busy too
DEAF_S = 1.0  # after an event that did not come in time, before another one is tried
RETRY_MS = 500
RETRY_S = 0.25
MOST_RECORDED = 50_000  # events of the life of sessions that wait for a log that is away, before no more sessions are taken
_AT_ONCE = 200
_UNAVAILABLE = Refused(
    "unavailable", "the log cannot take this now; what was on its way may still take effect, send it again", retry_after=RETRY_MS
)
_log = structlog.get_logger()


class Committer:
    """The only way into the log. Commands wait until this node has applied them; the life of sessions does not."""

    def __init__(
        self,
        *,
        log: Log,
        view: View,
        room_partitions: int,
        control_partition: int,
        limits: Limits,
        clock: Callable[[], int],
        new_id: Callable[[], str],
        lag: Lag,
        observe_append: Callable[[float, str], None],
        spans: Spans | None = None,
    ) -> None:
        """`observe_append` is told the seconds that each append took, and the trace that it was part of, if any."""
        self._append_to, self._view, self._room_partitions, self._control = log, view, room_partitions, control_partition
        self._limits, self._clock, self._new_id = limits, clock, new_id
        self._lag, self._observe_append, self._spans = lag, observe_append, spans
        self._deaf_until = 0.0
        self._waiting: dict[str, asyncio.Future[Applied | Lost]] = {}
        self._recorded: deque[ControlEvent] = deque()
        self._leaving: list[ControlEvent] = []  # what is being appended; in front of what is recorded
        self._has_recorded = asyncio.Event()
        self._all_recorded = asyncio.Event()
        self._all_recorded.set()

    async def submit(self, command: Command, principal: Principal) -> Applied | Refused:
        """Carry out a command of `principal`. `Applied` means durable, applied here, and sure to reach every node."""
        now = self._clock()
        if now >= principal.expires_at:
            return Refused("token_expired", "the token has expired")
        outcome = decide(self._view, command, principal, now=now, event_id=self._new_id(), limits=self._limits)
        if isinstance(outcome, Applied | Refused):
            return outcome
        return await self._commit(partition_for(outcome.room, self._room_partitions), outcome)

    async def withdraw(self, event: ControlEvent) -> Applied | Refused:
        """Append a revocation or suspension and wait until it is applied here."""
        return await self._commit(self._control, event)

    def record(self, event: ControlEvent) -> None:
        """Append to the control partition in the order of the calls, as soon as the log takes it.

        Nothing is ever dropped: a session whose opening or renewal the log does not know could not be revoked. See `is_full`.
        """
        self._recorded.append(event)
        self._all_recorded.clear()
        self._has_recorded.set()

    @property
    def unrecorded(self) -> int:
        """How many recorded events are not in the log yet."""
        return len(self._leaving) + len(self._recorded)

    @property
    def is_full(self) -> bool:
        """Whether so much waits for the log that no more sessions may be opened: those that are open add an end each."""
        return self.unrecorded >= MOST_RECORDED

    def settle(self, outcome: Applied | Lost) -> None:
        """The event has been applied here: answer whoever waits for it."""
        self._lag.came(outcome.event)
        future = self._waiting.get(outcome.event)
        if future is not None and not future.done():
            future.set_result(outcome)

    async def run(self) -> None:
        """Append what is recorded, for ever: one group after the other, each until it is in the log."""
        while True:
            await self._has_recorded.wait()
            self._leaving = [self._recorded.popleft() for _ in range(min(_AT_ONCE, len(self._recorded)))]
            last = self._leaving[-1].id
            self._lag.expect(last, self._control)
            await self._append_until_done([encode(event) for event in self._leaving])
            self._lag.appended(last, asyncio.get_running_loop().time())
            self._leaving = []
            if not self._recorded:
                self._has_recorded.clear()
                self._all_recorded.set()

    async def _append_until_done(self, group: Sequence[bytes]) -> None:
        """What is appended twice is dropped by its id, and stands in its order all the same: nothing behind it has been handed over."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                await self._append_to.append_all(self._control, group)
            except LogUnavailable:
                await asyncio.sleep(RETRY_S)
            else:
                self._observe_append(loop.time() - began, "")
                return

    async def recorded(self, *, limit_s: float) -> None:
        """Return when everything recorded is in the log, or when the time is over."""
        try:
            async with asyncio.timeout(limit_s):
                await self._all_recorded.wait()
        except TimeoutError:
            _log.error("the log is away: part of the life of sessions is not recorded", events=self.unrecorded)

    async def _append(self, partition: int, event: RoomEvent | ControlEvent) -> str:
        """Append one event; the id of its trace, where it has one."""
        if self._spans is None:
            await self._append_to.append(partition, encode(event))
            return ""
        with self._spans.appending(event) as carrying:
            await self._append_to.append(partition, encode(carrying))
            return self._spans.current()

    async def _commit(self, partition: int, event: RoomEvent | ControlEvent) -> Applied | Refused:
        if (
            not self._append_to.up
        ):  # it tries again by itself; each of a session's commands would wait for it, one behind the other
            return _UNAVAILABLE
        loop = asyncio.get_running_loop()
        if loop.time() < self._deaf_until:
            return _UNAVAILABLE
        future = self._waiting[event.id] = loop.create_future()
        began, appended = loop.time(), False
        self._lag.expect(event.id, partition)
        try:
            async with asyncio.timeout(LIMIT_S):
                trace = await self._append(partition, event)
                appended = True
                self._observe_append((now := loop.time()) - began, trace)
                self._lag.appended(event.id, now)
                outcome = await future
        except LogUnavailable:
            return _UNAVAILABLE
        except TimeoutError:  # appended, and it does not come: who waits behind this one would wait as long, one behind the other
            if appended:
                self._deaf_until = loop.time() + DEAF_S
            return _UNAVAILABLE
        finally:
            del self._waiting[event.id]
            if not appended:
                self._lag.came(event.id)
        return outcome.refused if isinstance(outcome, Lost) else outcome
