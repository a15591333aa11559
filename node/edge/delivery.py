"""One event on its way to the sockets of this node: counted, and timed, as it is written to each of them."""

from node.edge.connection import Hearer
from node.metrics import Metrics


class Delivery:
    """`at` is when the event was accepted (ms; 0 for what is in no log), `trace` the id of the trace that it belongs to, if any."""

    __slots__ = ("_at", "_metrics", "_trace")

    def __init__(self, metrics: Metrics, *, at: int = 0, trace: str = "") -> None:
        self._metrics, self._at, self._trace = metrics, at, trace

    def written(self, to: Hearer, now: int) -> None:
        """It was written to the socket of `to`."""
        self._metrics.deliveries.inc()
        if self._at:
            self._metrics.delivery_seconds.observe(max(0, now - self._at) / 1000, self._trace or to.lineage)
