"""Deliveries counted in runs: the metrics are as if each write had been observed by itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.edge import delivery
from node.edge.delivery import Deliveries, Delivery
from node.instruments import Histogram
from node.metrics import FAST_S, Metrics

START = 1_000_000  # ms


class Hearer:
    """Somebody who hears everything."""

    lineage = "l"

    def hears(self, now: int) -> bool:
        return True


def write(event: Delivery, hearer: Hearer, now: int) -> None:
    """As a connection does."""
    if now < event.until:
        event.count += 1
        event.moments += now
    else:
        event.written(hearer, now)


#: An event's number and the milliseconds that pass before it is written to one more socket; None: somebody asks for the metrics.
steps = st.lists(st.none() | st.tuples(st.integers(0, 4), st.sampled_from([0, 0, 0, 1, 2, 30, 700, 9_000])), max_size=60)
#: When each event was accepted, beside the moment of the first write: its node's clock may be ahead; None for what is in no log.
accepted = st.lists(st.none() | st.integers(-3_000, 50), min_size=5, max_size=5)


@given(steps=steps, accepted=accepted, most=st.sampled_from([1, 3, delivery.MOST_RUNS]))
def test_runs_count_what_single_writes_would(steps: list[tuple[int, int] | None], accepted: list[int | None], most: int) -> None:
    """Whatever the order of events and sockets, and whoever asks in between: the same counts, buckets and sum."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delivery, "MOST_RUNS", most)
        metrics, single, writes = Metrics(node="n1", version="1"), Histogram(FAST_S), 0
        deliveries = Deliveries(metrics)
        at = [0 if one is None else START + one for one in accepted]
        events, now, hearer = [Delivery(deliveries, at=one) for one in at], START, Hearer()
        for step in steps:
            if step is None:
                deliveries.settle()
                assert metrics.deliveries.value == writes
            else:
                number, passed = step
                now, writes = now + passed, writes + 1
                write(events[number], hearer, now)
                if at[number]:
                    single.observe(max(0, now - at[number]) / 1000)
        deliveries.settle()
    assert metrics.deliveries.value == writes
    assert metrics.delivery_seconds.counts == single.counts
    assert metrics.delivery_seconds.sum == pytest.approx(single.sum)
