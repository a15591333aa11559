"""The two clocks of a storm. What is timed goes by the monotonic one; what several machines have to agree on, by the wall's."""

import time

_LOOKS = 5  # a busy machine may take its time between two of them


def _apart() -> float:
    """How far the two are, from the quickest of some looks at both."""
    looks = [(time.monotonic(), time.time(), time.monotonic()) for _ in range(_LOOKS)]
    before, wall_s, after = min(looks, key=lambda look: look[2] - look[0])
    return wall_s - (before + after) / 2


WALL_S = _apart()  # taken once: within one run the two keep step
monotonic = time.monotonic


def wall() -> float:
    """Now, in seconds since the epoch."""
    return monotonic() + WALL_S


def wall_ms() -> int:
    """Now, in ms since the epoch."""
    return int(wall() * 1000)


def monotonic_at(moment: float) -> float:
    """When the monotonic clock will show what the wall's shows as `moment`."""
    return moment - WALL_S
