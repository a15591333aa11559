"""What a storm measures adds up over its processes, and says what was put in."""

import math
from collections.abc import Sequence

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from loadtest.measures import Measures, Times, all_back_s, dense

SECONDS = st.floats(1e-5, 1e4)


@given(st.lists(SECONDS, min_size=1, max_size=200), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_percentile_is_what_that_share_does_not_exceed(values: Sequence[float], share: float) -> None:
    """To 2%, whatever the values; the most is exact."""
    times = Times()
    for value in values:
        times.add(value)
    exact = sorted(values)[math.ceil(share * len(values)) - 1]
    assert exact / 1.02 <= times.percentile(share) <= exact * 1.02
    assert (times.most, times.count) == (max(values), len(values))
    assert times.summary().max_ms == round(1000 * max(values), 1)


def test_what_two_clocks_have_under_nothing_counts_as_nothing() -> None:
    """In every figure alike: it takes nothing off a mean, and is no percentile below it."""
    times = Times()
    for seconds in (-0.5, 0.0, 0.5):
        times.add(seconds)
    summary = times.summary()
    assert (summary.count, summary.mean_ms, summary.p50_ms, summary.max_ms) == (3, round(500 / 3, 1), 0.0, 500.0)


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from("ab"), SECONDS), max_size=40))
def test_processes_add_up_to_one(told: Sequence[tuple[int, str, float]]) -> None:
    """Whatever each process was told: merged, over their bytes too, it is as if one had been told everything."""
    parts, whole = [Measures() for _ in range(3)], Measures()
    for process, name, seconds in told:
        for one in (parts[process], whole):
            one.time(name, seconds)
            one.count(name, seconds)
            one.refuse("connect", name)
            one.end(name)
            one.returns.append((seconds, seconds + 1, "lost"))
    together = Measures()
    for part in parts:
        together.merge(msgspec.msgpack.decode(msgspec.msgpack.encode(part), type=Measures))
    assert (together.series, together.refusals, together.ends) == (whole.series, whole.refusals, whole.ends)
    assert sorted(together.returns) == sorted(whole.returns)
    assert {name: (t.count, t.most, t.buckets) for name, t in together.times.items()} == {
        name: (t.count, t.most, t.buckets) for name, t in whole.times.items()
    }
    assert together.total("a") == sum(name == "a" for _, name, _ in told)


def test_all_are_back_when_the_last_of_the_struck_is() -> None:
    """Who lost his connection before is not counted, nor whose token ended later, as on any day; and nobody lost is nobody back."""
    returns = [(1.0, 99.0, "lost"), (10.2, 11.0, "token_expired"), (30.0, 32.5, "lost"), (40.0, 41.0, "token_expired")]
    assert all_back_s(returns, struck_s=10.0, begins_s=9.0, tokens_end_by_s=15.0) == 22.5
    assert all_back_s(returns[:2] + returns[3:], struck_s=10.0, begins_s=9.0, tokens_end_by_s=15.0) == 1.0
    assert all_back_s(returns[1:2], struck_s=10.0, begins_s=9.0, tokens_end_by_s=9.0) is None
    assert all_back_s(returns, struck_s=50.0, begins_s=49.0, tokens_end_by_s=55.0) is None
    measures = Measures()
    for at_s in (0.2, 3.1, 3.9, 4.0):
        measures.count("tried", at_s)
    assert dense(measures.series["tried"], 0, 5) == [1, 0, 0, 2, 1, 0]
    assert [measures.peak("tried", begins_s=begins_s, ends_s=9) for begins_s in (0, 4.2)] == [2, 1]
    assert (measures.peak("tried", ends_s=2), measures.peak("nothing", ends_s=9)) == (1, 0)
