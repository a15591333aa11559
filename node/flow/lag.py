"""How far this node is behind what it knows to stand in the log. Pure: times are arguments, in seconds of any one clock."""

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

MOST = 1_000  # events of ours, and what peers have said of one partition, that are kept: the oldest is what counts


class Lag:
    """Of each partition: for how long something has been known to stand there that is not applied here; 0 while nothing is.

    Two things tell of it: an event of ours that was appended has not come yet, and another node has applied more than we have.
    """

    def __init__(self, partitions: int) -> None:
        self._claims: list[deque[tuple[int, float]]] = [deque() for _ in range(partitions)]  # (offset, since), both growing
        self._own: dict[str, int] = {}  # event of ours that has not come -> its partition
        self._since: list[dict[str, float]] = [{} for _ in range(partitions)]  # of each of those that is appended: since when

    def expect(self, event: str, partition: int) -> None:
        """An event of ours is about to be appended."""
        if len(self._own) < MOST:
            self._own[event] = partition

    def appended(self, event: str, now: float) -> None:
        """It is durable; it may have come before we were told so."""
        if event in self._own:
            self._since[self._own[event]][event] = now

    def came(self, event: str) -> None:
        """It is applied, or was not appended; any event may be named here."""
        partition = self._own.pop(event, None)
        if partition is not None:
            self._since[partition].pop(event, None)

    def claimed(self, partition: int, offset: int, now: float, *, position: int) -> None:
        """Another node has applied a partition up to `offset`, we up to `position`."""
        claims = self._claims[partition]
        _forget(claims, position)
        if offset > position and (not claims or offset > claims[-1][0]) and len(claims) < MOST:
            claims.append((offset, now))

    def seconds(self, partition: int, now: float, *, position: int) -> float:
        """For how long we have been behind there, being at `position`."""
        claims = self._claims[partition]
        _forget(claims, position)
        since = min(self._since[partition].values(), default=math.inf)
        return max(0.0, now - min(since, claims[0][1] if claims else math.inf))


def _forget(claims: deque[tuple[int, float]], position: int) -> None:
    while claims and claims[0][0] <= position:
        claims.popleft()


def positions_of(state: Mapping[str, Any]) -> dict[int, int]:
    """How far a node has applied each partition, by what it tells of itself; nothing where it does not say so in our way."""
    told = state.get("positions")
    if not isinstance(told, dict):
        return {}
    return {int(name): offset for name, offset in told.items() if name.isdecimal() and isinstance(offset, int)}
