"""What is handed over at the end of a storm, and what there is to say of it. Pure."""

from collections import Counter
from collections.abc import Sequence

import msgspec

from loadtest.checker import Verdict, check
from loadtest.journal import Names, Pages

MOST_FAULTS = 20  # that are told one by one


class Leftover(msgspec.Struct, frozen=True, kw_only=True):
    """What had not come to rest at the end; empty when all is well."""

    away: int = 0  # people without a connection, or behind the cluster
    unacked: int = 0  # messages that are not known to be in the log
    barred: dict[str, int] = {}  # people whom the cluster would not have, by code

    def __bool__(self) -> bool:
        return bool(self.away or self.unacked or self.barred)

    def __add__(self, other: "Leftover") -> "Leftover":
        barred = Counter(self.barred) + Counter(other.barred)
        return Leftover(away=self.away + other.away, unacked=self.unacked + other.unacked, barred=dict(barred))

    def __str__(self) -> str:
        parts = [f"{self.away} not back"] if self.away else []
        parts += [f"{self.unacked} messages without an answer"] if self.unacked else []
        return ", ".join(parts + [f"{count} refused for good: {code}" for code, count in sorted(self.barred.items())])


class Handover(msgspec.Struct, frozen=True, kw_only=True):
    """What a process gives to whoever judges the run."""

    names: Sequence[str]
    pages: list[Pages]
    leftover: Leftover
    late_ms: int  # the longest that this process itself kept a packet waiting


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a storm ended."""

    verdict: Verdict
    leftover: Leftover
    late_ms: int  # the longest that a process of the load test itself kept a packet waiting
    missing: int = 0  # workers that did not hand over their histories

    @property
    def ok(self) -> bool:
        """Clean, of all histories, and of a storm in which something happened."""
        return self.verdict.ok and not self.leftover and not self.missing and self.verdict.seen > 0

    def lines(self) -> list[str]:
        """What there is to tell of it."""
        lines = [f"verdict: {'clean' if self.ok else 'NOT CLEAN'}: {self.verdict}"]
        lines += [
            f"  {fault.kind}: {fault.client} in {fault.room} at {fault.seq} {fault.event}"
            for fault in self.verdict.faults[:MOST_FAULTS]
        ]
        if len(self.verdict.faults) > MOST_FAULTS:
            lines.append(f"  and {len(self.verdict.faults) - MOST_FAULTS} more")
        if self.leftover:
            lines.append(f"  at the end: {self.leftover}")
        if self.missing:
            lines.append(f"  {self.missing} workers did not hand over what their users saw")
        if not self.verdict.seen:
            lines.append("  nobody saw anything")
        return [*lines, f"the load test itself kept packets waiting for {self.late_ms} ms at most"]


def judged(handovers: list[Handover], *, tolerance_ms: int, missing: int) -> Outcome:
    """The outcome of a storm from what all its processes handed over."""
    histories = []
    for handover in handovers:
        names = Names(handover.names)
        histories += [pages.history(names) for pages in handover.pages]
    return Outcome(
        verdict=check(histories, tolerance_ms=tolerance_ms),
        leftover=sum((handover.leftover for handover in handovers), Leftover()),
        late_ms=max((handover.late_ms for handover in handovers), default=0),
        missing=missing,
    )
