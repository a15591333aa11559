"""Where and when a client of the load test comes back."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.route import Backoff, End, Route, final

URLS = ["http://a.test:1", "http://b.test:1", "http://c.test:1"]
SEEDS = st.integers(0, 2**32)


def draws(seed: int) -> random.Random:
    return random.Random(seed)


@given(SEEDS)
def test_waits_stay_between_floor_and_cap_and_the_first_is_short(seed: int) -> None:
    """However long it fails; and a reset makes the next one short again."""
    backoff = Backoff(draws(seed).random)
    assert 0.1 <= backoff.next() < 1
    assert all(0.1 <= backoff.next() <= 20 for _ in range(40))
    backoff.reset()
    assert 0.1 <= backoff.next() < 1


@given(st.floats(0.5, 0.99))
def test_waits_grow_while_it_keeps_failing(draw: float) -> None:
    """To the cap, with the same draw again and again."""
    backoff = Backoff(lambda: draw)
    waits = [backoff.next() for _ in range(30)]
    assert waits == sorted(waits)
    assert waits[-1] == pytest.approx(0.1 + draw * 19.9)


def test_jitter_survives_the_cap() -> None:
    """A thousand clients that have failed for long: no tenth of the range has half of them, and hardly two wait equally long."""
    waits = []
    for seed in range(1_000):
        backoff = Backoff(draws(seed).random)
        waits.append([backoff.next() for _ in range(30)][-1])
    assert max(Counter(int(wait / 2) for wait in waits).values()) < 500
    assert len({round(wait, 3) for wait in waits}) > 900


@given(SEEDS, st.floats(0, 120), st.integers(0, 10))
def test_nobody_comes_earlier_than_the_server_said(seed: int, hint_s: float, failures: int) -> None:
    """And, where that is long, not later than half as long again."""
    backoff = Backoff(draws(seed).random)
    for _ in range(failures):
        backoff.next()
    wait = backoff.after(hint_s)
    assert hint_s <= wait <= max(20, 1.5 * hint_s)


@given(SEEDS, st.lists(st.floats(0, 30), min_size=3, max_size=3))
def test_a_round_asks_every_node_once_and_then_waits_as_long_as_any_has_asked_for(seed: int, hints: list[float]) -> None:
    """Refused everywhere: the others follow at short distances, then the longest hint counts."""
    route = Route(URLS, draws(seed).random)
    asked, waits = [], []
    for hint_s in hints:
        asked.append(route.url)
        waits.append(route.after(End(code="server_busy", retry_after_s=hint_s)))
    assert asked == URLS
    assert all(0.05 <= wait <= 0.3 for wait in waits[:-1])
    assert waits[-1] >= max(hints)
    assert route.url == URLS[0]


@given(SEEDS, st.floats(0, 1000))
def test_a_lost_connection_is_tried_where_it_was_and_a_draining_node_is_left(seed: int, lasted_s: float) -> None:
    """After the time that the draining one asked for."""
    route = Route(URLS, draws(seed).random)
    assert 0.1 <= route.after(End(code="lost", lasted_s=lasted_s)) < 3
    assert route.url == URLS[0]
    assert route.after(End(code="draining", retry_after_s=1.2, lasted_s=lasted_s)) >= 1.2
    assert route.url == URLS[1]


@given(SEEDS, st.sampled_from(["token_expired", "token_unavailable"]))
def test_a_token_is_not_blamed_on_the_node(seed: int, code: str) -> None:
    """It is asked again, after a wait."""
    route = Route(URLS, draws(seed).random)
    assert route.after(End(code=code)) >= 0.1
    assert route.url == URLS[0]


def test_a_connection_that_lasted_makes_the_waits_short_again_and_a_short_one_does_not() -> None:
    """Else a node that takes everybody in and drops them again would be knocked at without a pause."""
    route = Route(URLS[:1], lambda: 0.99)
    for _ in range(10):
        long = route.after(End(code="lost"))
    assert route.after(End(code="lost", lasted_s=1.0)) >= long > 15
    assert route.after(End(code="lost", lasted_s=5.0)) < 1


def test_what_is_final() -> None:
    """What no other try can mend, and what nobody knows, unless the server says when to come back."""
    assert final("token_revoked", 1.0)
    assert final("signature_invalid", None)
    assert final("something_new", None)
    assert not final("something_new", 2.0)
    assert not any(final(code, None) for code in ("lost", "server_busy", "draining", "token_expired", "http_503"))
    assert final("http_404", None)
