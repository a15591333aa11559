"""Levelled renewals: inside the window, never past the end, as flat as they can be made for what is known."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.auth.deadlines import Schedule
from node.auth.levelling import SLOT_MS, TAIL, Levels, refresh_window

WINDOW_MS = 8_000  # 64 slots: small enough for a brute force
START = 1_700_000_000_000
moments = st.integers(0, 20_000).map(lambda ms: START + ms)
widths = st.integers(0, WINDOW_MS)


def per_slot(promised: list[int]) -> Counter[int]:
    return Counter(at // SLOT_MS for at in promised)


def whole_slots(first: int, end: int) -> range:
    return range(-(-first // SLOT_MS), end // SLOT_MS)


def lowest_peak(fixed: Counter[int], slots: range, more: int) -> int:
    """By trying: the lowest peak over `slots` with `more` sessions on top of what is promised already."""
    peak = max((fixed[slot] for slot in slots), default=0)
    while sum(peak - fixed[slot] for slot in slots) < more:
        peak += 1
    return peak


@given(st.integers(0, 2**42), st.none() | st.integers(0, 2**42), st.integers(-(10**6), 10**9), st.integers(0, 10**8))
def test_the_window(now: int, issued_at: int | None, left: int, window_ms: int) -> None:
    """Inside the last `window_ms`, the second half of the token's life and the future; a sixteenth is left; never behind `exp`."""
    expires_at = now + left
    first, end = refresh_window(now=now, issued_at=issued_at, expires_at=expires_at, window_ms=window_ms)
    life = max(0, expires_at - min(now, now if issued_at is None else issued_at))
    assert expires_at - window_ms <= first <= end <= expires_at
    assert 2 * (expires_at - first) <= life
    assert first >= min(now, expires_at)
    assert TAIL * (expires_at - end) >= expires_at - first


def test_tokens_that_were_minted_together_have_one_window() -> None:
    """Whenever their sessions come before it opens; who comes later has what is left of it."""
    windows = {refresh_window(now=now, issued_at=0, expires_at=60_000, window_ms=60_000) for now in range(0, 30_001, 1_000)}
    assert windows == {(30_000, 58_125)}
    assert refresh_window(now=48_000, issued_at=0, expires_at=60_000, window_ms=60_000) == (48_000, 59_250)
    assert refresh_window(now=0, issued_at=None, expires_at=10_000, window_ms=60_000) == (5_000, 9_687)


@given(st.lists(st.tuples(moments, widths, st.booleans()), max_size=150))
def test_each_is_given_the_emptiest_slot(script: list[tuple[int, int, bool]]) -> None:
    """Against a search through all slots: inside the window, nowhere are there fewer, whoever came and went before."""
    levels, promised = Levels(WINDOW_MS), list[int]()
    for first, width, goes in script:
        at = levels.emptiest(first, first + width)
        assert first <= at < first + max(1, width)
        counts = per_slot(promised)
        choices = whole_slots(first, first + width) or range(first // SLOT_MS, (first + max(1, width) - 1) // SLOT_MS + 1)
        assert at // SLOT_MS in choices
        assert counts[at // SLOT_MS] == min(counts[slot] for slot in choices)
        levels.add(at)
        promised.append(at)
        if goes:
            levels.release(promised.pop(len(promised) // 2))
        seconds = Counter(one // 1_000 for one in promised)
        assert levels.peak_per_second(0) == max(seconds.values(), default=0)
        assert levels.peak_per_second(first) == max((seconds[s] for s in seconds if s >= first // 1_000), default=0)


@given(st.lists(moments, max_size=200), moments, st.integers(2 * SLOT_MS, WINDOW_MS), st.integers(1, 300))
def test_a_crowd_gets_the_lowest_peak(before: list[int], first: int, width: int, crowd: int) -> None:
    """However uneven what was promised before: over a crowd's window no way of placing it would have a lower peak."""
    levels = Levels(WINDOW_MS)
    for at in before:
        levels.add(at)
    promised = list(before)
    for _ in range(crowd):
        promised.append(levels.emptiest(first, first + width))
        levels.add(promised[-1])
    slots = whole_slots(first, first + width)
    counts = per_slot(promised)
    assert max(counts[slot] for slot in slots) == lowest_peak(per_slot(before), slots, crowd)


@pytest.mark.parametrize(("sessions", "window_s"), [(60, 60), (500, 20), (2_000, 20), (2_000, 60), (10_000, 60), (10_000, 3_600)])
@pytest.mark.parametrize("begin", [0, 37, 999])
def test_a_plateau(sessions: int, window_s: int, begin: int) -> None:
    """Ten thousand tokens that end in one moment: no second is over the level line of the whole window by a tenth and one."""
    schedule, exp = Schedule(Levels(window_s * 1_000)), START + 10_000_000 + begin
    placed = [schedule.place(f"s{number}", now=START + number, issued_at=START, expires_at=exp) for number in range(sessions)]
    assert all(exp - window_s * 1_000 <= at < exp for at in placed)
    level = sessions / window_s
    assert schedule.levels.peak_per_second(START) <= 1.1 * level + 1
    slots = max(per_slot(placed).values())
    assert slots == -(-sessions // len(whole_slots(exp - window_s * 1_000, exp - -(-window_s * 1_000 // TAIL))))


def best_of_all(windows: list[tuple[int, int]]) -> int:
    """The lowest peak if all windows had been known from the start: Hall's condition over every stretch of slots."""
    spans = [whole_slots(first, end) for first, end in windows]
    starts, stops = {span.start for span in spans}, {span.stop for span in spans}
    stretches = ((start, stop) for start in starts for stop in stops if start < stop)
    return max(-(-sum(a <= s.start and s.stop <= b for s in spans) // (b - a)) for a, b in stretches)


@given(st.integers(1, 400), st.integers(1, 40))
def test_a_steady_flow_is_as_flat_as_if_all_had_been_known(sessions: int, apart_ms: int) -> None:
    """Sessions that come one after the other, each with a window of its own: within a tenth, and one, of hindsight."""
    levels, windows, placed = Levels(WINDOW_MS), [], []
    for number in range(sessions):
        first = START + number * apart_ms
        windows.append((first, first + WINDOW_MS))
        placed.append(levels.emptiest(*windows[-1]))
        levels.add(placed[-1])
    assert max(per_slot(placed).values()) <= 1.1 * best_of_all(windows) + 1


@given(st.lists(st.tuples(moments, widths), max_size=60))
def test_nothing_is_kept_of_who_has_gone(windows: list[tuple[int, int]]) -> None:
    """When all have been released, the tree is as empty as a new one."""
    levels, placed = Levels(WINDOW_MS), []
    for first, width in windows:
        placed.append(levels.emptiest(first, first + width))
        levels.add(placed[-1])
    for at in placed:
        levels.release(at)
    assert vars(levels) == vars(Levels(WINDOW_MS))


@pytest.mark.parametrize("sessions", [1_000, 100_000])
def test_the_cost_does_not_grow_with_the_sessions(sessions: int) -> None:
    """A place touches as many nodes of the tree with a hundred thousand sessions open as with a thousand."""
    levels = Levels(60_000)
    for number in range(sessions):
        levels.add(START + number * 60_000 // sessions)
    touched = 0

    class Counting(dict[int, int]):
        def get(self, key: int, default: int = 0) -> int:  # type: ignore[override]
            nonlocal touched
            touched += 1
            return super().get(key, default)

    levels._sums = [Counting(sums) for sums in levels._sums]
    levels._least = [levels._sums[0], *(Counting(least) for least in levels._least[1:])]
    levels.add(levels.emptiest(START + 50, START + 55_050))
    assert 0 < touched <= 130  # about a dozen for each of the ten heights
