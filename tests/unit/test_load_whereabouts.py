"""Of which ways back a storm is told, and from when on they count."""

import time
from collections.abc import Callable

from loadtest.whereabouts import Away, Whereabouts


class Ways:
    """An observer that keeps how each way back began, and how long it took."""

    def __init__(self) -> None:
        self.told: list[tuple[str | None, float]] = []

    def connected(self, took_s: float, *, after: str | None) -> None:
        self.told.append((after, round(took_s)))

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments, **named: None


def test_a_way_back_counts_from_its_first_cause_and_is_told_once() -> None:
    """By the code of the loss, whatever becomes of the tries behind it; the first of all has none."""
    ways = Ways()
    one = Whereabouts(ways, ())
    one.tries()
    one.level()
    one.level()
    one.lost("draining")
    one.lost("lost")
    one.tries()
    one.level()
    assert ways.told == [(None, 0), ("draining", 0)]


def test_the_way_back_from_an_absence_begins_where_it_was_to_end() -> None:
    """And not where this process got round to it."""
    ways, now = Ways(), time.monotonic()
    one = Whereabouts(ways, [Away(now - 20, now - 10), Away(now + 1_000, now + 2_000)])
    assert one.away and one.next is not None
    one.leaves()
    one.back(one.next)
    assert not one.away
    one.level()
    assert ways.told == [("client", 10)]


def test_who_is_called_out_of_an_absence_has_none_left_and_is_not_told() -> None:
    """That way only: the next loss counts again. Who is about to come back by itself, or is here, was not called."""
    now = time.monotonic()
    for absences, connected, called in (
        ([Away(now - 1, now + 1_000)], False, True),
        ([Away(now - 1, now + 1_000)], True, False),
        ([Away(now - 20, now - 10)], False, False),
        ([Away(now + 500, now + 1_000)], False, False),
    ):
        ways = Ways()
        one = Whereabouts(ways, absences)
        one.tries()
        one.stay(connected=connected)
        assert (one.called, one.next is None) == (called, absences[0].ends > now)
        one.level()
        one.lost("lost")
        one.level()
        assert [after for after, _ in ways.told] == ([] if called else [None]) + ["lost"]
