"""An event loop whose time is in the test's hand."""

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Any

_MOST_TURNS = 2_000  # of a loop that comes to rest after a few dozen


class SteppedLoop(asyncio.SelectorEventLoop):
    """An event loop whose time stands still: a timer fires once `now` has been moved to it and the loop is turned."""

    def __init__(self) -> None:
        self.now, self._calls = 0.0, 0
        super().__init__()

    def time(self) -> float:
        return self.now

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        self._calls += 1
        return super().call_soon(callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        self._calls += when <= self.now
        return super().call_at(when, callback, *args, context=context)

    def turn(self) -> bool:
        """Call what is due now, once. Whether that has left anything to be called at once."""
        self.call_soon(self.stop)
        before = self._calls
        self.run_forever()
        return self._calls > before

    def settle(self) -> None:
        """Turn until nothing more is to be called at this time."""
        for _ in range(_MOST_TURNS):
            if not self.turn():
                return
        raise AssertionError("the loop does not come to rest")
