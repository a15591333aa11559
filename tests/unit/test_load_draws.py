"""What people draw from: the same at every run of one seed."""

from statistics import fmean

import pytest

from loadtest.draws import Draws

MANY = 2_000


def test_a_seed_draws_the_same_again_and_another_one_other_numbers() -> None:
    """Each draw goes on where the one before has left off, whatever it was a draw of."""
    one, same, other = Draws("s/ann"), Draws("s/ann"), Draws("s/bob")
    assert [one.random(), one.choice("abcdef"), one.expovariate(2)] == [same.random(), same.choice("abcdef"), same.expovariate(2)]
    assert len({draws.random() for draws in (one, other) for _ in range(MANY)}) == 2 * MANY


def test_draws_are_spread_evenly() -> None:
    """Every part of [0, 1) and every member of a few comes about as often; distances have the mean that their rate asks for."""
    draws = Draws("even")
    numbers = [draws.random() for _ in range(MANY)]
    assert min(numbers) >= 0 and max(numbers) < 1
    assert all(150 < sum(int(10 * number) == tenth for number in numbers) < 250 for tenth in range(10))
    assert all(300 < [draws.choice("abcde") for _ in range(MANY)].count(one) < 500 for one in "abcde")
    distances = [draws.expovariate(4.0) for _ in range(MANY)]
    assert min(distances) >= 0 and fmean(distances) == pytest.approx(0.25, rel=0.1)


def test_a_sample_has_each_at_most_once() -> None:
    """So many as are asked for, in an order that is drawn too; never more than there are."""
    draws, rooms = Draws("rooms"), [f"r{number}" for number in range(5)]
    samples = [draws.sample(rooms, 3) for _ in range(200)]
    assert all(len(set(sample)) == 3 and set(sample) <= set(rooms) for sample in samples)
    assert {sample[0] for sample in samples} == set(rooms)
    assert sorted(draws.sample(rooms, 5)) == rooms
    with pytest.raises(IndexError):
        draws.sample(rooms, 6)
