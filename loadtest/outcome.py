"""What is handed over at the end of a storm, and what there is to say of it. Pure."""

from collections import Counter
from collections.abc import Sequence

import msgspec

from loadtest.checker import Verdict, check
from loadtest.journal import Names, Pages
from loadtest.measures import Measures

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


class Attendance(msgspec.Struct, frozen=True, kw_only=True):
    """How many people were to come."""

    asked: int = 0
    cut_short: bool = False  # the storm was ended by hand: who would have come later is no fault of it

    def told(self, came: int) -> str:
        """What there is to say where fewer came; empty where all did."""
        if came >= self.asked:
            return ""
        return f"{came:,} of {self.asked:,} people came" + (": it was ended before its time" if self.cut_short else "")


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What a process of the load test, or all of them, took of the machine."""

    processes: int = 1
    people: int = 0
    events: int = 0  # packets that came: events, acks, pings, and what handshakes are made of
    cpu_s: float = 0.0  # since the storm began
    memory_kib: int = 0  # resident at the end
    grown_kib: int = 0  # of which since the storm began
    kept_kib: int = 0  # of which for the histories
    late_ms: int = 0  # the longest that it kept a packet waiting

    def __add__(self, other: "Cost") -> "Cost":
        names = ("processes", "people", "events", "cpu_s", "memory_kib", "grown_kib", "kept_kib")
        sums = {name: getattr(self, name) + getattr(other, name) for name in names}
        return Cost(**sums, late_ms=max(self.late_ms, other.late_ms))

    @property
    def us_an_event(self) -> float:
        """Microseconds of processor time, of everything that was done, by event."""
        return round(1e6 * self.cpu_s / self.events, 1) if self.events else 0.0

    @property
    def kib_a_person(self) -> float:
        """Without what is kept for the verdict."""
        return round(max(0, self.grown_kib - self.kept_kib) / self.people, 1) if self.people else 0.0


class Handover(msgspec.Struct, frozen=True, kw_only=True):
    """What a process gives to whoever judges the run."""

    names: Sequence[str]
    pages: list[Pages]
    leftover: Leftover
    cost: Cost = Cost()
    measures: Measures = msgspec.field(default_factory=Measures)  # those that it had not told before
    problems: list[str] = []  # that are no client's


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a storm ended."""

    verdict: Verdict
    leftover: Leftover
    cost: Cost
    attendance: Attendance = Attendance()
    missing: int = 0  # workers that did not hand over their histories
    problems: Sequence[str] = ()  # of the storm itself: what was to happen and did not

    @property
    def ok(self) -> bool:
        """Clean, of all histories, and of a storm to which everybody came and in which something happened."""
        whole = not self.absence or self.attendance.cut_short
        return (
            self.verdict.ok and whole and not self.leftover and not self.missing and not self.problems and self.verdict.seen > 0
        )

    @property
    def absence(self) -> str:
        """Who did not come; empty where everybody did."""
        return self.attendance.told(self.verdict.clients)

    def lines(self, said: str = "") -> list[str]:
        """What there is to tell of it; `said`: the verdict in a few words, where more has been judged than this."""
        lines = [f"verdict: {said or ('clean' if self.ok else 'NOT CLEAN')}: {self.verdict}"]
        lines += [
            f"  {fault.kind}: {fault.client}"
            + (f" in {fault.room} at {fault.seq} {fault.event}" if fault.room else f" {fault.event}")
            for fault in self.verdict.faults[:MOST_FAULTS]
        ]
        if len(self.verdict.faults) > MOST_FAULTS:
            lines.append(f"  and {len(self.verdict.faults) - MOST_FAULTS} more")
        if self.absence:
            lines.append(f"  {self.absence}")
        if self.leftover:
            lines.append(f"  at the end: {self.leftover}")
        if self.missing:
            lines.append(f"  {self.missing} workers did not hand over what their users saw")
        if not self.verdict.seen:
            lines.append("  nobody saw anything")
        lines += [f"  {problem}" for problem in self.problems]
        return [*lines, f"the load test itself kept packets waiting for {self.cost.late_ms} ms at most"]


def judged(
    handovers: Sequence[Handover],
    attendance: Attendance,
    *,
    tolerance_ms: int,
    missing: int,
    problems: Sequence[str] = (),
) -> Outcome:
    """The outcome of a storm from what all its processes handed over."""
    histories = []
    for handover in handovers:
        names = Names(handover.names)
        histories += [pages.history(names) for pages in handover.pages]
    return Outcome(
        verdict=check(histories, tolerance_ms=tolerance_ms),
        leftover=sum((handover.leftover for handover in handovers), Leftover()),
        cost=sum((handover.cost for handover in handovers), Cost(processes=0)),
        attendance=attendance,
        missing=missing,
        problems=(*problems, *(problem for handover in handovers for problem in handover.problems)),
    )
