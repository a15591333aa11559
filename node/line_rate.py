"""How many lines of a kind may be written: a storm must not be told of line by line, and nobody must be left in the dark about it. Pure."""

MOST_KINDS = 256  # so many are told apart; what is more shares one allowance


class LineRate:
    """For each kind of line `burst` at once and `per_s` a second; what is over that is counted. Times are seconds of any one clock."""

    def __init__(self, *, per_s: float, burst: int) -> None:
        self._per_s, self._burst = per_s, burst
        self._left: dict[str, tuple[float, float]] = {}  # kind -> how many may be written, at which time
        self._dropped: dict[str, int] = {}

    def take(self, kind: str, now: float) -> bool:
        """Whether one may be written now; else it counts as left out."""
        kind = self._known(kind)
        left, at = self._left.get(kind, (float(self._burst), now))
        left = min(float(self._burst), left + max(0.0, now - at) * self._per_s)
        if left < 1:
            self._left[kind] = left, now
            self._dropped[kind] = self._dropped.get(kind, 0) + 1
            return False
        self._left[kind] = left - 1, now
        return True

    def dropped(self) -> dict[str, int]:
        """How many of each kind were left out since it was last asked."""
        dropped, self._dropped = self._dropped, {}
        return dropped

    def dropped_of(self, kind: str) -> int:
        """As `dropped`, of one kind."""
        return self._dropped.pop(self._known(kind), 0)

    def _known(self, kind: str) -> str:
        return kind if kind in self._left or len(self._left) < MOST_KINDS else ""
