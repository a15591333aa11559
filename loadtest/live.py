"""How a storm stands while it runs, as far as can be told before the end. Pure."""

from collections.abc import Iterable

import msgspec


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """Of one process, or of all."""

    people: int = 0  # who take part
    here: int = 0  # connected, and level with the cluster
    asleep: int = 0  # without a connection on purpose
    unacked: int = 0  # messages that are not known to be in the log
    seen: int = 0  # events that arrived
    skipped: int = 0  # seqs that somebody was not sent in their place
    repeated: int = 0  # events that came again, or behind a later one
    late_ms: int = 0  # the longest that a process of the load test itself was late

    @property
    def away(self) -> int:
        """Who should be here and are not."""
        return max(0, self.people - self.here - self.asleep)

    @property
    def faults(self) -> int:
        """So far; what was skipped and came behind is one of each."""
        return self.skipped + self.repeated


def together(parts: Iterable[Live]) -> Live:
    """Of several processes."""
    all_of = list(parts)
    names = ("people", "here", "asleep", "unacked", "seen", "skipped", "repeated")
    sums = {name: sum(getattr(part, name) for part in all_of) for name in names}
    return Live(**sums, late_ms=max((part.late_ms for part in all_of), default=0))
