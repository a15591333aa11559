"""When each open session is warned and when it ends: one schedule for all, one timer for the schedule.

`Schedule` is pure: times (ms) go in, what is due comes out. `Ticker` drives it on the event loop.
"""

import asyncio
import heapq
from bisect import bisect_left, insort
from collections.abc import Callable
from typing import Literal

from node.auth.levelling import Levels, count, refresh_window

Kind = Literal["refresh", "expire"]


class Schedule:
    """The deadlines of the open sessions: a heap with lazy removal, O(log n) a change, and what lies ahead as counts."""

    SLACK = (
        1_000  # entries of the heap that may be stale, besides as many as are wanted: who comes and goes leaves some each time
    )

    def __init__(self, levels: Levels) -> None:
        self.levels = levels
        self._heap: list[tuple[int, Kind, str]] = []
        self._wanted: dict[str, dict[Kind, int]] = {}
        self.end_seconds: dict[int, int] = {}  # how many end in each second since the epoch, where any do
        self._ends: list[int] = []  # the ends, negated and sorted: the next one is the last, where taking it out moves nothing

    def __len__(self) -> int:
        return len(self._wanted)

    def place(self, session: str, *, now: int, issued_at: int | None, expires_at: int) -> int:
        """Give a session its moments, in place of those it had; returns the one at which it is asked to renew."""
        self.drop(session)
        window = refresh_window(now=now, issued_at=issued_at, expires_at=expires_at, window_ms=self.levels.window_ms)
        refresh_at = self.levels.emptiest(*window)
        self.set(session, refresh_at=refresh_at, expires_at=expires_at)
        return refresh_at

    def set(self, session: str, *, refresh_at: int, expires_at: int) -> None:
        """Put a session's moments, in place of those it had."""
        self.drop(session)
        self._wanted[session] = {"refresh": refresh_at, "expire": expires_at}
        self.levels.add(refresh_at)
        insort(self._ends, -expires_at)
        count(self.end_seconds, expires_at // 1_000, 1)
        heapq.heappush(self._heap, (refresh_at, "refresh", session))
        heapq.heappush(self._heap, (expires_at, "expire", session))
        if len(self._heap) > self.SLACK + 4 * len(self._wanted):
            wanted = self._wanted.items()
            self._heap = [(at, kind, session) for session, kinds in wanted for kind, at in kinds.items()]
            heapq.heapify(self._heap)

    def drop(self, session: str) -> None:
        """Forget a session; idempotent."""
        kinds = self._wanted.pop(session, None)
        if kinds is not None:
            del self._ends[bisect_left(self._ends, -kinds["expire"])]
            count(self.end_seconds, kinds["expire"] // 1_000, -1)
            if "refresh" in kinds:
                self.levels.release(kinds["refresh"])

    def next(self) -> int | None:
        """The earliest moment that is still wanted."""
        while self._heap:
            at, kind, session = self._heap[0]
            if self._wanted.get(session, {}).get(kind) == at:
                return at
            heapq.heappop(self._heap)
        return None

    def take(self, now: int) -> tuple[Kind, str] | None:
        """Take out the earliest moment that is due at `now`; each comes once. Nobody is asked to renew what has ended."""
        while (at := self.next()) is not None and at <= now:
            _, kind, session = heapq.heappop(self._heap)
            kinds = self._wanted[session]
            if kind == "expire":
                self.drop(session)
                return kind, session
            del kinds[kind]
            self.levels.release(at)
            if kinds["expire"] > now:
                return kind, session
        return None

    def expiring(self, until: int) -> int:
        """How many sessions end at `until` (ms) or before."""
        return len(self._ends) - bisect_left(self._ends, -until)


class Ticker:
    """Calls `due(kind, session)` when a moment comes: one timer handle, set to the earliest of all."""

    LONGEST_S = 0.2  # a wall clock may be set while a timer sleeps: look at it so often that an end is still kept to the 250 ms

    def __init__(self, schedule: Schedule, clock: Callable[[], int], due: Callable[[Kind, str], None]) -> None:
        self._schedule, self._clock, self._due = schedule, clock, due
        self._handle: asyncio.Handle | None = None
        self._wakes = 0.0  # when the handle calls, by the loop's clock: uvloop's handle of less than half a ms does not say it
        self._closed = False

    def place(self, session: str, *, now: int, issued_at: int | None, expires_at: int) -> int:
        """As `Schedule.place`; wakes earlier where that is needed."""
        refresh_at = self._schedule.place(session, now=now, issued_at=issued_at, expires_at=expires_at)
        self._arm()
        return refresh_at

    def set(self, session: str, *, refresh_at: int, expires_at: int) -> None:
        """As `Schedule.set`; wakes earlier where that is needed."""
        self._schedule.set(session, refresh_at=refresh_at, expires_at=expires_at)
        self._arm()

    def drop(self, session: str) -> None:
        """As `Schedule.drop`."""
        self._schedule.drop(session)

    def close(self) -> None:
        """Stop; idempotent."""
        self._closed = True
        if self._handle is not None:
            self._handle.cancel()

    def _arm(self) -> None:
        at = self._schedule.next()
        if at is None or self._closed:
            return
        loop = asyncio.get_running_loop()
        delay = min(self.LONGEST_S, max(0.0, (at - self._clock()) / 1000))
        wakes = loop.time() + delay
        if self._handle is not None:
            if self._wakes <= wakes:
                return  # what stands looks early enough
            self._handle.cancel()
        self._wakes, self._handle = wakes, loop.call_later(delay, self._tick)

    def _tick(self) -> None:
        self._handle = None
        try:
            while (moment := self._schedule.take(self._clock())) is not None:
                self._due(*moment)
        finally:  # a fault of one session never keeps the next one open past its end
            self._arm()
