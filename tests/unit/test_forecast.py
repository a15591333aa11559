"""What lies ahead, in buckets: as counted by hand, and the same for a cluster whose nodes were heard at different moments."""

from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.auth.forecast import BUCKETS, WIDTHS, Forecast, Span, added, forecast

NOW = 1_795_544_588_113
moments = st.lists(st.integers(NOW // 1_000, NOW // 1_000 + 3_700), max_size=40)


def by_hand(seconds: list[int], begin: int, width: int) -> tuple[list[int], list[int]]:
    """How many lie in each bucket, and the most in one second of it."""
    counts = Counter(seconds)
    starts = [begin // 1_000 + place * width for place in range(BUCKETS)]
    parts = [[counts[second] for second in range(start, start + width)] for start in starts]
    return [sum(part) for part in parts], [max(part) for part in parts]


@given(moments, moments, st.integers(0, 59_999))
def test_a_forecast_is_what_one_counts_by_hand(ends: list[int], renewals: list[int], later: int) -> None:
    """Each bucket has what ends and renews in its time, and the worst second of it; the first is the one that is now."""
    now = NOW + later
    found = forecast(Counter(ends), Counter(renewals), now)
    assert set(found) == set(WIDTHS)
    for name, span in found.items():
        width = WIDTHS[name]
        assert span.begin % (width * 1_000) == 0 and span.begin <= now < span.begin + width * 1_000
        assert (span.ends, span.ends_peak) == by_hand(ends, span.begin, width)
        assert (span.renewals, span.renewals_peak) == by_hand(renewals, span.begin, width)


@given(st.lists(st.tuples(moments, st.integers(-4_000, 4_000)), max_size=4))
def test_nodes_forecasts_are_added_by_time(nodes: list[tuple[list[int], int]]) -> None:
    """Whenever each node counted, what it saw stands in the bucket of its time; of peaks the sum is a bound."""
    told = [msgspec.json.decode(msgspec.json.encode(forecast(Counter(ends), {}, NOW + when))) for ends, when in nodes]
    for name, span in added(told, NOW).items():
        seen = [by_node(one[name], span.begin, WIDTHS[name]) for one in told]
        assert span.ends == [sum(counts) for counts in zip(*seen, strict=True)] if seen else [0] * BUCKETS
        everything = [end for ends, _ in nodes for end in ends]
        _, peaks = by_hand(everything, span.begin, WIDTHS[name])
        both = range(5_000 // (WIDTHS[name] * 1_000) + 1, BUCKETS - 5_000 // (WIDTHS[name] * 1_000) - 1)  # what all have in sight
        assert all(span.ends_peak[place] >= peaks[place] for place in both)


def by_node(span: dict[str, object], begin: int, width: int) -> list[int]:
    """A node's ends in the buckets from `begin` on."""
    counts = msgspec.convert(span, Span)
    known = {counts.begin + place * width * 1_000: count for place, count in enumerate(counts.ends)}
    return [known.get(begin + place * width * 1_000, 0) for place in range(BUCKETS)]


@pytest.mark.parametrize("stranger", [None, 3, [], {"1s": {}}, {"1s": {"begin": "soon"}}, {"2s": 1}])
def test_what_is_no_forecast_is_passed_over(stranger: object) -> None:
    """A node of another version spoils nobody's sum; what it has more than fits is left out."""
    own = forecast({NOW // 1_000: 2}, {}, NOW)
    long = {"1s": {"begin": NOW // 1_000 * 1_000, **dict.fromkeys(("ends", "ends_peak", "renewals", "renewals_peak"), [1] * 500)}}
    total: Forecast = added([own, stranger, long], NOW)
    assert total["1s"].ends == [3, *[1] * (BUCKETS - 1)]
    assert total["10s"] == own["10s"]
