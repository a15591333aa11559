"""Events on their way to the sockets of this node: counted, timed and traced as they are written to each of them."""

import math
from bisect import bisect_left

from node.edge.connection import Hearer
from node.metrics import Metrics
from node.spans import Reach

MOST_RUNS = 500  # that wait: then they are put into the metrics without being asked for


class Deliveries:
    """Counts what is written, a run at a time, and puts many runs into the metrics at once.

    Between two writes to sockets so much else is done that a dozen lines of Python are as slow as at their first time, ten times as
    slow as in a loop: so a write only adds to the run of its event, which lasts for as long as the histogram's bucket is the same.
    """

    __slots__ = ("_bounds", "_counter", "_ended", "_histogram", "_running")

    def __init__(self, metrics: Metrics) -> None:
        self._counter, self._histogram = metrics.deliveries, metrics.delivery_seconds
        self._bounds = [math.floor(1_000 * bound) for bound in self._histogram.bounds]  # ms: what is timed is whole
        self._running: list[Delivery] = []
        self._ended: list[tuple[int, int, int, str]] = []  # count, sum of the moments (ms), when accepted, an example's lineage
        metrics.before_scrape(self.settle)

    def bucket_ends(self, at: int, now: int) -> float:
        """The moment from which on an event that was accepted at `at`, and is written at `now`, would be in another bucket."""
        place = bisect_left(self._bounds, max(0, now - at))
        return at + self._bounds[place] + 1 if at and place < len(self._bounds) else math.inf

    def begin(self, delivery: "Delivery") -> None:
        """It has a run from now on, which is to be ended by `settle`, or by itself with `end`."""
        self._bound()
        self._running.append(delivery)

    def traced(self, moment: int, at: int, trace: str) -> None:
        """A write that is part of a trace: a run by itself, since the trace ends when nothing holds its event any more."""
        self._bound()
        self.end(1, moment, at, trace)

    def _bound(self) -> None:
        if len(self._running) + len(self._ended) >= MOST_RUNS:
            self.settle()

    def end(self, count: int, moments: int, at: int, example: str) -> None:
        """A run of so many writes has ended."""
        self._ended.append((count, moments, at, example))

    def settle(self) -> None:
        """Put what was counted into the metrics."""
        running, self._running = self._running, []
        for delivery in running:
            delivery.end()
        for count, moments, at, example in self._ended:
            self._counter.inc(count)
            if at:
                self._histogram.observe(max(0.0, moments / count - at) / 1000, example, count)
        self._ended.clear()


class Delivery:
    """One event. `at` is when it was accepted (ms; 0 for what is in no log), `reach` its part of a trace, where it has one.

    Of its run, the writes are counted by whoever writes, until the run has to end; a traced one is told of each.
    """

    __slots__ = ("_at", "_deliveries", "_example", "_reach", "count", "moments", "until")

    def __init__(self, deliveries: Deliveries, *, at: int = 0, reach: Reach | None = None) -> None:
        self._deliveries, self._at, self._reach = deliveries, at, reach
        self.until = 0.0
        self.count = self.moments = 0
        self._example = ""

    def written(self, to: Hearer, now: int) -> None:
        """It was written to the socket of `to`, the first since what was counted is in the metrics, or in the next bucket."""
        if self._reach is not None:
            self._reach.written()
            self._deliveries.traced(now, self._at, self._reach.trace)
            return
        if self.count:
            self._deliveries.end(self.count, self.moments, self._at, self._example)
        else:
            self._deliveries.begin(self)
        self.count, self.moments, self._example = 1, now, to.lineage
        self.until = self._deliveries.bucket_ends(self._at, now)

    def end(self) -> None:
        """What has been counted is in the run that ends here; the next write begins another one."""
        self._deliveries.end(self.count, self.moments, self._at, self._example)
        self.count, self.moments, self.until = 0, 0, 0.0
