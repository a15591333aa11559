"""How many lines of each kind are written in a storm."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from node.line_rate import MOST_KINDS, LineRate

arrivals = st.lists(st.tuples(st.sampled_from(["opened", "ended", "refused"]), st.floats(0, 0.5)), max_size=300)


@given(arrivals, st.integers(1, 20), st.integers(1, 10))
def test_few_stand_for_many(arrivals: list[tuple[str, float]], burst: int, per_s: int) -> None:
    """Of each kind no more than its allowance; what was left out and what was written is all there was."""
    rate, now = LineRate(per_s=per_s, burst=burst), 100.0
    written, came = Counter[str](), Counter[str]()
    for kind, pause in arrivals:
        now += pause
        came[kind] += 1
        written[kind] += rate.take(kind, now)
    assert all(count <= burst + (now - 100.0) * per_s for count in written.values())
    assert all(written[kind] == came[kind] for kind in came if came[kind] <= burst)
    assert came - written == Counter(rate.dropped())
    assert rate.dropped() == {}


def test_it_comes_again() -> None:
    """After a pause the allowance is whole again."""
    rate = LineRate(per_s=2, burst=3)
    assert [rate.take("a", 0.0) for _ in range(5)] == [True, True, True, False, False]
    assert (rate.take("a", 0.5), rate.take("a", 0.5), rate.dropped_of("a"), rate.dropped_of("a")) == (True, False, 3, 0)
    assert [rate.take("a", 60.0) for _ in range(4)] == [True, True, True, False]


def test_memory_is_bounded() -> None:
    """More kinds than can be told apart share one allowance, and are counted together."""
    rate = LineRate(per_s=1, burst=1)
    written = sum(rate.take(f"kind {number}", 0.0) for number in range(10 * MOST_KINDS))
    assert written == MOST_KINDS + 1
    assert rate.dropped() == {"": 9 * MOST_KINDS - 1}
