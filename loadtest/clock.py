"""The two clocks of a storm. What is timed goes by the monotonic one; what several machines have to agree on, by the wall's."""

import time

_LOOKS = 5  # a busy machine may take its time between two of them


def _apart() -> float:
    """How far the two are, from the quickest of some looks at both."""
    looks = [(time.monotonic(), time.time(), time.monotonic()) for _ in range(_LOOKS)]
    before, wall_s, after = min(looks, key=lambda look: look[2] - look[0])
    return wall_s - (before + after) / 2


_wall_s = _apart()
monotonic = time.monotonic


def begin() -> None:
    """A run begins: how far the two are apart is found anew, and stays so for all of it. A process may outlive a suspend between two."""
    global _wall_s  # noqa: PLW0603 - one process has one pair of clocks
    _wall_s = _apart()


def wall() -> float:
    """Now, in seconds since the epoch."""
    return monotonic() + _wall_s


def wall_of(moment: float) -> float:
    """What the wall's clock shows at a moment of the monotonic one."""
    return moment + _wall_s


def wall_ms() -> int:
    """Now, in ms since the epoch."""
    return int(wall() * 1000)


def monotonic_at(moment: float) -> float:
    """When the monotonic clock will show what the wall's shows as `moment`."""
    return moment - _wall_s
