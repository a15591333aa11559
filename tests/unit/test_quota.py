"""How many commands a user may give: the burst, then the rate, and never a wait that was too short."""

from hypothesis import given
from hypothesis import strategies as st

from node.edge.quota import Quota


def test_the_burst_then_the_rate() -> None:
    """40 at once, then one each 50 ms; each user by himself."""
    quota = Quota(rate=20, burst=40)
    assert [quota.take("ann", 1_000) for _ in range(41)] == [0] * 40 + [50]
    assert quota.take("bob", 1_000) == 0
    assert quota.take("ann", 1_049) > 0
    assert quota.take("ann", 1_050) == 0
    assert quota.take("ann", 1_050) > 0


def test_a_refused_command_costs_nothing() -> None:
    """Who hammers is let in as early as who waits."""
    quota = Quota(rate=10, burst=1)
    assert quota.take("ann", 0) == 0
    assert all(quota.take("ann", ms) == 100 - ms for ms in range(1, 100))
    assert quota.take("ann", 100) == 0


def test_no_rate_is_no_limit() -> None:
    """A rate of 0 lets everything pass."""
    quota = Quota(rate=0, burst=1)
    assert not any(quota.take("ann", 0) for _ in range(1_000))


def test_a_clock_that_goes_back() -> None:
    """Neither gives nor takes."""
    quota = Quota(rate=10, burst=1)
    assert quota.take("ann", 10_000) == 0
    assert quota.take("ann", 5_000) == 100
    assert quota.take("ann", 5_100) == 0


@given(st.floats(0.001, 10_000), st.integers(1, 100), st.lists(st.integers(0, 5_000), max_size=60))
def test_the_wait_is_enough_and_the_rate_is_held(rate: float, burst: int, pauses: list[int]) -> None:
    """After the wait it names, the command goes; and never do more than the burst and the rate's share go."""
    quota, now, start, taken = Quota(rate=rate, burst=burst), 0, 0, 0
    for pause in pauses:
        now += pause
        wait = quota.take("ann", now)
        assert wait >= 0
        if wait:
            now += wait
            assert quota.take("ann", now) == 0
        taken += 1
    assert taken <= burst + (now - start) * rate / 1000 + 1e-6


def test_forgotten_users_are_those_with_a_full_bucket() -> None:
    """Past the sweep's mark who is full again is forgotten; who is not keeps his count."""
    quota = Quota(rate=20, burst=40)
    for number in range(Quota.SWEEP):
        quota.take(f"early{number}", 0)
    for _ in range(40):
        quota.take("busy", 2_000)
    quota.take("last", 2_000)
    assert quota.take("busy", 2_000) > 0
    assert len(quota._buckets) <= 2
    for number in range(3 * Quota.SWEEP):
        quota.take(f"late{number}", 2_000)
    assert quota._sweep_at > Quota.SWEEP
