"""One event on its way to the sockets of this node: counted, timed and traced as it is written to each of them."""

from node.edge.connection import Hearer
from node.metrics import Metrics
from node.spans import Reach


class Delivery:
    """`at` is when the event was accepted (ms; 0 for what is in no log), `reach` its part of a trace, where it has one."""

    __slots__ = ("_at", "_metrics", "_reach")

    def __init__(self, metrics: Metrics, *, at: int = 0, reach: Reach | None = None) -> None:
        self._metrics, self._at, self._reach = metrics, at, reach

    def written(self, to: Hearer, now: int) -> None:
        """It was written to the socket of `to`."""
        self._metrics.deliveries.inc()
        if self._reach is not None:
            self._reach.written()
        if self._at:
            example = to.lineage if self._reach is None else self._reach.trace
            self._metrics.delivery_seconds.observe(max(0, now - self._at) / 1000, example)
