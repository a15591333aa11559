"""Events on their way to the sockets of this node: counted, timed and traced as they are written to each of them."""

from node.edge.connection import Hearer
from node.metrics import Metrics
from node.spans import Reach


class Deliveries:
    """Counts what is written, a run at a time.

    An event of a large room is written to all its sockets within a millisecond or two. So what was accepted in one millisecond and is
    written in another is counted as it comes, and goes into the metrics once something else does, or they are asked for.
    """

    __slots__ = ("_counter", "_example", "_histogram", "at", "count", "now")

    def __init__(self, metrics: Metrics) -> None:
        self._counter, self._histogram = metrics.deliveries, metrics.delivery_seconds
        self.at, self.now, self.count, self._example = 0, 0, 0, ""
        metrics.before_scrape(self.settle)

    def begin(self, at: int, now: int, example: str) -> None:
        """Another run, whose first this is."""
        self.settle()
        self.at, self.now, self.count, self._example = at, now, 1, example

    def settle(self) -> None:
        """Put what was counted into the metrics."""
        self._counter.inc(self.count)
        if self.at and self.count:
            self._histogram.observe(max(0, self.now - self.at) / 1000, self._example, self.count)
        self.count = 0


class Delivery:
    """One event. `at` is when it was accepted (ms; 0 for what is in no log), `reach` its part of a trace, where it has one."""

    __slots__ = ("_at", "_deliveries", "_reach")

    def __init__(self, deliveries: Deliveries, *, at: int = 0, reach: Reach | None = None) -> None:
        self._deliveries, self._at, self._reach = deliveries, at, reach

    def written(self, to: Hearer, now: int) -> None:
        """It was written to the socket of `to`."""
        run = self._deliveries
        if self._reach is not None:
            self._reach.written()
            run.begin(self._at, now, self._reach.trace)
        elif run.now == now and run.at == self._at:
            run.count += 1
        else:
            run.begin(self._at, now, to.lineage)
