"""How far a node says that it is behind the log."""

from hypothesis import given
from hypothesis import strategies as st

from node.flow.lag import MOST, Lag, positions_of


def test_level_is_zero() -> None:
    """Nothing is known to be there that is not here: 0, however long ago that was applied."""
    lag = Lag(2)
    lag.claimed(0, 7, 1.0, position=7)
    assert [lag.seconds(p, 1_000.0, position=7) for p in (0, 1)] == [0, 0]


def test_an_event_of_ours_that_does_not_come() -> None:
    """Grows from its append on, in its partition, until it comes; an append that has not returned says nothing."""
    lag = Lag(2)
    lag.expect("e1", 1)
    assert lag.seconds(1, 5.0, position=0) == 0
    lag.appended("e1", 5.0)
    assert [lag.seconds(1, now, position=0) for now in (5.0, 6.5, 65.0)] == [0, 1.5, 60]
    assert lag.seconds(0, 65.0, position=0) == 0
    lag.came("e1")
    assert lag.seconds(1, 65.0, position=0) == 0


def test_one_that_comes_before_its_append_returns() -> None:
    """Is not waited for."""
    lag = Lag(1)
    lag.expect("e1", 0)
    lag.came("e1")
    lag.appended("e1", 1.0)
    assert lag.seconds(0, 9.0, position=0) == 0


def test_what_another_node_has_applied() -> None:
    """Grows from the first time that a place was heard of which is not reached, and falls to that of the next one then."""
    lag = Lag(1)
    for offset, at in ((5, 1.0), (9, 2.0), (9, 3.0), (7, 4.0)):
        lag.claimed(0, offset, at, position=4)
    assert lag.seconds(0, 4.0, position=4) == 3
    assert lag.seconds(0, 4.0, position=5) == 2
    assert lag.seconds(0, 4.0, position=9) == 0


@given(st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=200))
def test_it_is_the_age_of_the_oldest_claim_that_is_not_reached(steps: list[tuple[int, bool]]) -> None:
    """Whatever is claimed and applied, in whichever order."""
    lag, position, claims = Lag(1), 0, list[tuple[int, int]]()
    for now, (number, applies) in enumerate(steps):
        if applies:
            position = max(position, number)
        else:
            lag.claimed(0, number, float(now), position=position)
            claims.append((number, now))
        behind = [at for offset, at in claims if offset > position]
        assert lag.seconds(0, float(now), position=position) == (now - behind[0] if behind else 0)


def test_it_is_bounded() -> None:
    """A node that is behind for long keeps the oldest things that it is behind of."""
    lag = Lag(1)
    for number in range(3 * MOST):
        lag.claimed(0, number + 1, float(number), position=0)
        lag.expect(f"e{number}", 0)
        lag.appended(f"e{number}", float(number))
    assert len(lag._claims[0]) == len(lag._own) == MOST
    assert lag.seconds(0, 3.0 * MOST, position=0) == 3 * MOST


def test_what_other_versions_tell_is_passed_over() -> None:
    """Positions are taken where they are ours."""
    assert positions_of({"positions": {"0": 5, "1": 0}}) == {0: 5, 1: 0}
    assert positions_of({}) == positions_of({"positions": [1]}) == positions_of({"positions": {"x": 1, "1": "2", "-1": 3}}) == {}
