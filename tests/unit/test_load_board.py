"""What the nodes took, by second, from looks that come when they can."""

import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.board import Board, Seconds
from loadtest.clock import wall

LOOKS = st.lists(st.tuples(st.floats(0.001, 5), st.floats(0, 8)), min_size=1, max_size=30)


@given(LOOKS)
def test_no_second_between_two_looks_is_left_out_and_nothing_counts_twice(looks: list[tuple[float, float]]) -> None:
    """However late a look is, and however many fall into one second: each second has the mean of what was known of it."""
    levels: dict[int, float] = {}
    seconds, at_s, used = Seconds(levels), 0.0, 0.0
    for took_s, level in looks:
        seconds.was(level, at_s, at_s + took_s)
        at_s, used = at_s + took_s, used + took_s * level
    assert sorted(levels) == list(range(len(levels))) and len(levels) - 1 <= at_s <= len(levels)
    weights = [min(1.0, at_s - second) for second in levels]
    assert sum(level * weight for level, weight in zip(levels.values(), weights, strict=True)) == pytest.approx(used, abs=1e-6)
    assert max(levels.values()) <= max(level for _, level in looks) + 1e-6


def test_a_look_that_slips_leaves_no_second_at_nothing() -> None:
    """What a process took is spread over all the time since the last look; the first look has nothing to tell."""
    board = Board(wall() - 4.5)
    board.look_at([os.getpid()])
    assert board.nodes.cores == {}
    ends = time.process_time() + 0.1
    while time.process_time() < ends:
        pass
    board.began -= 2.5  # so much later it looks again
    board.look_at([os.getpid()])
    assert sorted(board.nodes.cores) == [4, 5, 6, 7]
    assert min(board.nodes.cores.values()) > 0
    board.look_at([os.getpid()])
    assert board.nodes.cores[7] > 0
