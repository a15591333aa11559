"""The two clocks of a storm. What is timed goes by the monotonic one; what several machines have to agree on, by the wall's."""

import time

WALL_S = time.time() - time.monotonic()  # taken once: within one run the two keep step
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
