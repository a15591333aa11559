"""How many commands a user may give: a token bucket for each user with a session here. Pure: the time is an argument."""

import math

_ROUNDING = 1e-9  # of a command: who waits as long as he was told finds a whole one


class Quota:
    """`rate` commands a second with a burst of `burst`; a rate of 0 is no limit."""

    SWEEP = 10_000  # users at which full buckets are forgotten: they are what a newcomer would get anyway

    def __init__(self, *, rate: float, burst: int) -> None:
        self._rate, self._burst = rate, float(burst)
        self._buckets: dict[str, tuple[float, int]] = {}  # user -> (left, at ms)
        self._sweep_at = self.SWEEP

    def take(self, user: str, now: int) -> int:
        """0 when the command may go; else the ms after which to try again."""
        if not self._rate:
            return 0
        left, at = self._buckets.get(user, (self._burst, now))
        left = min(self._burst, left + max(0, now - at) * self._rate / 1000 + _ROUNDING)
        if left < 1:
            self._buckets[user] = (left, now)
            return max(1, math.ceil((1 - left) * 1000 / self._rate))
        self._buckets[user] = (left - 1, now)
        if len(self._buckets) > self._sweep_at:
            self._sweep(now)
        return 0

    def _sweep(self, now: int) -> None:
        full_after = self._burst * 1000 / self._rate
        self._buckets = {user: (left, at) for user, (left, at) in self._buckets.items() if now - at < full_after}
        self._sweep_at = max(self.SWEEP, 2 * len(self._buckets))  # however many are busy, a command pays for a constant part
