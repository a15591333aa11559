"""The two clocks of a load test."""

import time

import pytest

from loadtest import clock


def test_a_run_begins_with_the_clocks_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of the wall's clock between two runs of one process, as by a suspend, is in none of them."""
    monkeypatch.setattr(clock, "_wall_s", clock._wall_s - 3600)
    assert time.time() - clock.wall() > 3500
    clock.begin()
    assert abs(time.time() - clock.wall()) < 1
    moment = clock.monotonic()
    assert clock.monotonic_at(clock.wall_of(moment)) == pytest.approx(moment)
