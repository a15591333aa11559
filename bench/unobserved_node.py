"""A node that counts, times and tells nothing, for `bench/observing.py` alone: `python -m bench.unobserved_node node`.

There is no setting for this: whoever runs a node wants to see it. What decides whether the node is ready, how far it is behind its log,
is no mere observation and stays. What is left of the observations are the calls of functions that do
nothing; what they cost is measured beside (`empty call`).
"""

from typing import Any

from node import app, instruments
from node.cli import main
from node.edge import fanout, witness
from node.instruments import Histogram


class _Nothing:
    """In the place of any instrument."""

    bounds = ()

    def inc(self, by: int = 1) -> None:
        """Count nothing."""

    def observe(self, value: float, example: str = "") -> None:
        """Time nothing."""


_NOTHING = _Nothing()


def _leave_out(owner: Any, *names: str) -> None:
    """Put functions that do nothing in the place of these methods."""
    for name in names:
        setattr(owner, name, lambda *_, **__: None)


if __name__ == "__main__":
    instruments.Family.labels = lambda *_: _NOTHING  # type: ignore[method-assign,assignment]
    _leave_out(instruments.Counter, "inc")
    _leave_out(Histogram, "observe")
    _leave_out(fanout, "Delivery")  # nobody is told when an event is written
    told = (
        "judged",
        "turned_away",
        "opened",
        "replayed",
        "resumed",
        "renewed",
        "asked_to_renew",
        "answered",
        "withdrawn",
        "ended",
        "tell_left_out",
    )
    _leave_out(witness.Witness, *told)
    _leave_out(app.Node, "count")
    main()
