"""What is known of a running storm in the process that has the run: from its own people, or from the reports of its workers."""

import math

import msgspec

from loadtest import measures
from loadtest.clock import wall
from loadtest.live import Live, together
from loadtest.measures import Measures
from loadtest.outcome import Outcome
from loadtest.processes import Meter
from loadtest.result import Nodes

_RATE_S = 5  # over which a rate is told


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a process tells now and then: how it stands, and what was measured since the last report."""

    live: Live
    measures: Measures


class Seconds:
    """A level by second, from what it was between moments that lie anywhere: of each second the mean, over as much of it as is known."""

    def __init__(self, levels: dict[int, float]) -> None:
        """`levels` is what is kept up to date."""
        self._levels = levels
        self._known: dict[int, float] = {}  # how much of each second, in seconds

    def was(self, level: float, begins_s: float, ends_s: float) -> None:
        """So much all the time between these."""
        for second in range(math.floor(begins_s), math.ceil(ends_s)):
            known, part = self._known.get(second, 0.0), min(ends_s, second + 1) - max(begins_s, second)
            if part > 0:
                self._levels[second] = (self._levels.get(second, 0.0) * known + level * part) / (known + part)
                self._known[second] = known + part


class Board:
    """Of one storm. It may be read at any time."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.measured, self.nodes = Measures(), Nodes()
        self.outcome: Outcome | None = None  # at the end
        self._live: dict[str, Live] = {}
        self._meter, self._cores = Meter(), Seconds(self.nodes.cores)
        self._looked_s: float | None = None

    @property
    def now_s(self) -> float:
        """Seconds since the start."""
        return wall() - self.began

    @property
    def live(self) -> Live:
        """How it stands, all processes together."""
        return together(self._live.values())

    def report(self, who: str, report: Report) -> None:
        """A process has told something."""
        self._live[who] = report.live
        self.measured.merge(report.measures)

    def look_at(self, pids: list[int]) -> None:
        """Note what processes of the cluster have taken since the last look, however long ago that was."""
        cores, now_s = self._meter.look(pids), self.now_s
        if self._looked_s is not None:
            self._cores.was(cores, self._looked_s, now_s)
        self._looked_s = now_s
        self.nodes.cpu_s = round(self._meter.total_s, 2)

    def rate(self, name: str) -> float:
        """How many a second of late, of one of the names of `measures`."""
        series, now = self.measured.series.get(name, {}), int(self.now_s)
        return sum(series.get(second, 0) for second in range(now - _RATE_S, now)) / _RATE_S

    def line(self) -> str:
        """How it stands, in one line."""
        live = self.live
        parts = [f"{self.now_s:4.0f} s", f"{live.here:,} of {live.people - live.asleep:,} here"]
        parts.append(f"{self.rate(measures.TRIED):,.0f} handshakes/s, {self.rate(measures.REFUSED):,.0f} refused")
        parts.append(f"{self.rate(measures.ACKED):,.0f} messages/s, {self.rate(measures.DELIVERED):,.0f} deliveries/s")
        skips = (
            "nothing missed, nothing twice" if not live.faults else f"{live.skipped} skipped, {live.repeated} repeated or late"
        )
        return " | ".join([*parts, f"so far {skips}"])
