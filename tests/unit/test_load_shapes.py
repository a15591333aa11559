"""The shape of a storm in time, and the arithmetic of the stock client's waits."""

import random
from collections import Counter
from typing import Any

import msgspec
import pytest

from loadtest.route import End
from loadtest.scenarios import HOPPER, LISTENER, LURKER, SCENARIOS, TALKER
from loadtest.shapes import STALE_S, WAKE_WITHIN_S, Shape
from loadtest.stock import MOST_S, StockRoute


def shape(name: str, **changes: Any) -> Shape:
    return Shape(scenario=msgspec.structs.replace(SCENARIOS[name], **changes))


def test_all_tokens_of_a_cliff_end_in_one_moment() -> None:
    """Whenever they are fetched before it; renewals, and those fetched behind it, live as long as tokens do."""
    cliff = shape("cliff", strike_s=30.0, ttl_s=60.0)
    assert {now + cliff.life_s(now, renewal=False) for now in (0.0, 12.5, 28.0)} == {30.0}
    assert cliff.life_s(20.0, renewal=True) == cliff.life_s(30.5, renewal=False) == cliff.life_s(29.5, renewal=False) == 60.0


def test_sleepers_wake_together_with_tokens_that_have_ended() -> None:
    """All within a second; who stays up has tokens like on any day."""
    morning, draw = shape("morning", arrive_s=10.0, strike_s=30.0), random.Random(1).random
    asleep = [absence for absence in (morning.absence(LISTENER, draw) for _ in range(200)) if absence is not None]
    assert len(asleep) == 200
    for absence in asleep:
        assert absence.stale and morning.scenario.arrive_s < absence.begins_s < 30.0 <= absence.ends_s <= 30.0 + WAKE_WITHIN_S
        assert 5.0 + morning.life_s(5.0, renewal=False, absence=absence) == pytest.approx(30.0 - STALE_S)
        assert morning.life_s(31.0, renewal=False, absence=absence) == morning.scenario.ttl_s
    assert shape("steady").absence(LISTENER, draw) is None


@pytest.mark.parametrize("people", [{TALKER: 3, LISTENER: 4, LURKER: 2, HOPPER: 1}, {TALKER: 1, LURKER: 9}, {TALKER: 1}])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.99, 1.0])
def test_as_many_sleep_as_the_share_says(people: dict[str, int], share: float) -> None:
    """Of all people together; who stays up is a talker before he is anything else. Each draws as often, whatever comes of it."""
    morning, drawn = shape("morning", share=share, people=people), random.Random(2)
    crowd = [kind for kind, weight in people.items() for _ in range(weight * 4_000)]
    up = Counter[str]()
    for kind in crowd:
        draws = [drawn.random() for _ in range(2)]
        up[kind] += morning.absence(kind, draws.pop) is None
        assert draws == []
    assert up.total() / len(crowd) == pytest.approx(1 - share, abs=0.015)
    talkers = people[TALKER] * 4_000
    assert up[TALKER] == talkers or up.total() == up[TALKER]


def test_a_night_in_which_nobody_talks_is_refused() -> None:
    """By the flag that leaves nobody up, or nobody who talks; whoever is alone may stay up."""
    assert shape("morning", share=1.0).problems() == [
        "--share: takes one that leaves somebody up to talk at night, for morning and 1000 people, got 1"
    ]
    assert shape("morning", share=0.9, users=10).problems() == shape("morning", share=0.0, users=1).problems() == []
    assert len(shape("morning", share=0.9, users=9).problems()) == 1
    assert shape("morning", people={LISTENER: 1}).problems() == [
        "--people: takes talkers, for morning: somebody has to talk at night, got none"
    ]


def test_times_that_do_not_fit_are_named() -> None:
    """By the flag that says otherwise."""
    assert all(Shape(scenario=scenario).problems() == [] for scenario in SCENARIOS.values())
    assert shape("cliff", strike_s=10.0).problems() == ["--cliff-at: takes 1 s or more behind the last arrival (15 s), got 10"]
    assert shape("cliff", run_s=31.0).problems() == ["--run-time: takes 2 s or more behind --cliff-at (30 s), got 31"]


def test_the_stock_client_waits_as_socket_io_does() -> None:
    """0.5 to 1.5 s, twice as long each time, exactly 5 s from the fifth on; over a transport that had opened it begins anew."""
    draw = random.Random(7).random
    waits = [[route.after(End(code="lost")) for _ in range(6)] for route in (StockRoute("http://a", draw) for _ in range(500))]
    for attempt, (least, most) in enumerate([(0.5, 1.5), (1.0, 3.0), (2.0, 5.0), (4.0, 5.0), (5.0, 5.0), (5.0, 5.0)]):
        seen = [one[attempt] for one in waits]
        assert least <= min(seen) and max(seen) <= min(most, MOST_S)
        assert max(seen) - min(seen) >= 0.5 * (min(most, MOST_S) - least)
    route = StockRoute("http://a", draw)
    for _ in range(6):
        route.after(End(code="server_busy"))
    assert route.after(End(code="lost", opened=True, lasted_s=0.1)) <= 1.5
    assert route.after(End(code="token_expired", opened=True)) == 0.0
