"""When each open session is warned and when it ends: one schedule for all, one timer for the schedule.

`Schedule` is pure: times (ms) go in, what is due comes out. `Ticker` drives it on the event loop.
"""

import asyncio
import heapq
from collections.abc import Callable
from typing import Literal

Kind = Literal["refresh", "expire"]


def refresh_at(*, now: int, expires_at: int, window_ms: int, draw: float) -> int:
    """The moment inside the refresh window at which a session is asked to renew.

    The window is the last `window_ms` before the end, never more than half of the life left; `draw` in [0, 1) picks the place.
    The last eighth of it is left free, so that a renewal that was asked for late still arrives in time.
    """
    window = min(window_ms, max(0, expires_at - now) // 2)
    return expires_at - window + int(draw * window * 7 / 8)


class Schedule:
    """The deadlines of the open sessions: a heap with lazy removal, O(log n) a change."""

    SLACK = (
        1_000  # entries of the heap that may be stale, besides as many as are wanted: who comes and goes leaves some each time
    )

    def __init__(self) -> None:
        self._heap: list[tuple[int, Kind, str]] = []
        self._wanted: dict[str, dict[Kind, int]] = {}

    def set(self, session: str, *, refresh_at: int, expires_at: int) -> None:
        """Put a session's moments, in place of those it had."""
        self._wanted[session] = {"refresh": refresh_at, "expire": expires_at}
        heapq.heappush(self._heap, (refresh_at, "refresh", session))
        heapq.heappush(self._heap, (expires_at, "expire", session))
        if len(self._heap) > self.SLACK + 4 * len(self._wanted):
            wanted = self._wanted.items()
            self._heap = [(at, kind, session) for session, kinds in wanted for kind, at in kinds.items()]
            heapq.heapify(self._heap)

    def drop(self, session: str) -> None:
        """Forget a session; idempotent."""
        self._wanted.pop(session, None)

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
                del self._wanted[session]
                return kind, session
            del kinds[kind]
            if kinds["expire"] > now:
                return kind, session
        return None

    def expiries(self) -> list[int]:
        """The deadlines of all open sessions, unordered."""
        return [kinds["expire"] for kinds in self._wanted.values()]


class Ticker:
    """Calls `due(kind, session)` when a moment comes: one timer handle, set to the earliest of all."""

    LONGEST_S = 1.0  # a wall clock may be set while a timer sleeps: look at it again at least so often

    def __init__(self, schedule: Schedule, clock: Callable[[], int], due: Callable[[Kind, str], None]) -> None:
        self._schedule, self._clock, self._due = schedule, clock, due
        self._handle: asyncio.TimerHandle | None = None
        self._closed = False

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
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        at = self._schedule.next()
        if at is not None and not self._closed:
            delay = min(self.LONGEST_S, max(0.0, (at - self._clock()) / 1000))
            self._handle = asyncio.get_running_loop().call_later(delay, self._tick)

    def _tick(self) -> None:
        self._handle = None
        try:
            while (moment := self._schedule.take(self._clock())) is not None:
                self._due(*moment)
        finally:  # a fault of one session never keeps the next one open past its end
            self._arm()
