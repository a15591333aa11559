"""When the stock JavaScript client of Socket.IO tries again: with its own arithmetic. Pure; seconds.

With the options that it has unless told otherwise: 1 s at first, twice as much each time, a jitter of half, never over 5 s, where the
jitter is lost; one address; no regard to `Retry-After`, which a browser does not show it.
"""

import math
from collections.abc import Callable

from loadtest.route import End

FIRST_S, MOST_S, JITTER = 1.0, 5.0, 0.5
OPEN_S = 20.0  # that it gives a connection to open


class StockRoute:
    """The same face as `loadtest.route.Route`."""

    __slots__ = ("_attempts", "_draw", "url")

    def __init__(self, url: str, draw: Callable[[], float]) -> None:
        self.url, self._draw, self._attempts = url, draw, 0

    def after(self, end: End) -> float:
        """The wait until the next try. A transport that had opened is a success; a CONNECT that was refused is tried again by the page, as
        the documentation of socket.io shows it: at once.
        """
        if end.opened:
            self._attempts = 0
            if end.lasted_s is None and end.code not in ("lost", "disconnected"):
                return 0.0
        return self._next()

    def _next(self) -> float:
        wait_ms = FIRST_S * 1000 * float(2**self._attempts)
        self._attempts = min(self._attempts + 1, 30)
        draw = self._draw()
        deviation = math.floor(draw * JITTER * wait_ms)
        wait_ms += deviation if math.floor(draw * 10) & 1 else -deviation
        return min(wait_ms, MOST_S * 1000) / 1000
