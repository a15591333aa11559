"""What the benchmark of renewals computes from what it saw, and what it draws."""

import xml.etree.ElementTree as ET

import pytest

from bench.chart import WIDTH, Line, Panel, chart, round_up
from bench.renewals import Moment, in_last_second, lateness, level_line, peak_second, plot

SVG = "{http://www.w3.org/2000/svg}"


def test_in_last_second() -> None:
    """A second is open at its beginning and closed at its end: two seconds in a row count nobody twice."""
    times = [-2.0, -1.5, -1.0, -0.5, 0.0]
    assert in_last_second(times, -1.0) == 2
    assert in_last_second(times, 0.0) == 2
    assert in_last_second(times, -2.0) == 1
    assert in_last_second(times, -2.5) == in_last_second(times, 1.0) == 0


def test_peak_second_wherever_it_begins() -> None:
    """Ten on both sides of a whole second are twenty in one second, not ten in each of two."""
    times = [5.0] + [9.9] * 10 + [10.1] * 10 + [15.0]
    assert peak_second(times) == Moment(10.1, 20)
    with pytest.raises(ValueError, match="empty"):
        peak_second([])


@pytest.mark.parametrize(("spread_s", "ratio"), [(16.0, 1.0), (8.0, 2.0), (1.0, 16.0)])
def test_peak_over_level(spread_s: float, ratio: float) -> None:
    """Evenly over the window the peak is the level line itself; over a part of it, so many times that."""
    times = [number * spread_s / 2_048 - 16 for number in range(2_048)]  # powers of two: sums without a rounding
    assert peak_second(times).count / level_line(2_048, 16.0) == ratio


def test_lateness() -> None:
    """In milliseconds, earliest and latest included; what came too early is negative."""
    figures = lateness([100.2, 99.9, 100.1, 100.05], 100.0)
    assert figures == {"min": -100.0, "p50": 100.0, "p99": 200.0, "max": 200.0}


@pytest.mark.parametrize(("value", "expected"), [(1, 4), (113, 120), (150, 160), (2_000, 2_000), (2_001, 2_400), (33, 40)])
def test_round_up(value: float, expected: int) -> None:
    """The top of an axis: not under the value, and its quarters are whole."""
    assert round_up(value) == expected


def test_chart() -> None:
    """It is an SVG that says what it shows, has both themes, and puts each point where its axes say."""
    lines = [
        Line(name="a < b", colour="blue", points=[(-20, 0), (-10, 113), (0, 40)]),
        Line(name="level", colour="grey", points=[(-20, 100), (0, 100)], dashed=True),
    ]
    svg = ET.fromstring(chart([Panel(title="one", lines=lines), Panel(title="two", lines=lines[:1])], title="T & U", x_label="s"))
    assert svg.findtext(f"{SVG}title") == "T & U"
    assert "prefers-color-scheme: dark" in (svg.findtext(f"{SVG}style") or "")
    texts = [element.text for element in svg.iter(f"{SVG}text")]
    assert texts.count("a < b") == 2 and {"one", "two", "120", "-20"} <= set(texts)
    drawn = [line.get("points", "").split() for line in svg.iter(f"{SVG}polyline")]
    assert [len(points) for points in drawn] == [3, 2, 3]
    assert drawn[0] == ["66.0,272.0", "451.0,74.2", "836.0,202.0"]


def test_plot_names_each_line_within_the_picture() -> None:
    """Every line has its key with its peak, and the last one ends before the edge."""
    spread = [number / 100 - 20 for number in range(2_000)]
    svg = ET.fromstring(chart(plot({"told": spread, "drawn": spread, "margin": [-10.0] * 2_000}), title="t", x_label="s"))
    keys = {text.text or "": float(text.get("x", 0)) for text in svg.iter(f"{SVG}text") if text.get("y") == "48"}
    assert any("by timers: at most 2,000" in name for name in keys)
    assert {"level: 100", "1.5 times level: 150"} <= set(keys)
    assert max(x + 7.2 * len(name) for name, x in keys.items()) < WIDTH
