"""The model of docs/planning.md: what it must say whatever the costs are."""

import pytest

from bench.plan import BEGIN, END, PAGE, WINDOWS_S, Costs, Crowd, cores, plan, table

COSTS = Costs(idle_us=10, renewal_us=500, return_us=1_500, message_us=250, followed_us=100, delivery_us=15)


def test_a_wider_window_never_takes_more_nodes() -> None:
    """And the peak of renewals is the crowd over the window, on top of any day's."""
    crowd = Crowd(name="c", sessions=200_000)
    plans = [plan(crowd, COSTS, window_s) for window_s in WINDOWS_S]
    needed = [one.nodes or 10**9 for one in plans]
    assert needed == sorted(needed, reverse=True) and needed[-1] < 100
    for one in plans:
        over = 200_000 * crowd.together * crowd.renewing / one.window_s
        assert one.renewals_cliff - one.renewals_any_day == pytest.approx(over)
        assert not one.nodes or (one.cores_any_day <= crowd.utilised and one.cores_cliff <= crowd.at_worst)


def test_what_every_node_follows_cannot_be_shared() -> None:
    """Where it is more than a core by itself, no number of nodes will do, and the table says so."""
    crowd = Crowd(name="c", sessions=1_000_000)
    assert plan(crowd, COSTS, 30).nodes == 0
    assert cores(crowd, COSTS, 10_000, 20_000) > 1
    assert any("none do" in line for line in table(crowd, COSTS))


def test_one_node_serves_a_few() -> None:
    """With another to spare, and what they cost is what was measured."""
    few = Crowd(name="c", sessions=1_000, messages_s=0.0, renewing=0.0)
    assert plan(few, COSTS, 60).nodes == 2
    assert cores(few, COSTS, 1, 0.0) == 1_000 * 10 / 1e6


def test_the_page_has_a_place_for_the_table() -> None:
    """Once, in this order."""
    text = PAGE.read_text()
    assert text.count(BEGIN) == text.count(END) == 1 and text.index(BEGIN) < text.index(END)
