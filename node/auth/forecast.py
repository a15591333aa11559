"""What lies ahead of the sessions: how many end and how many are asked to renew, in buckets that every node cuts alike.

Pure: counts by second go in; a value comes out that fits into a heartbeat, and that can be added to other nodes' of about the same time.
"""

from collections.abc import Iterable, Mapping
from itertools import repeat
from typing import Any

import msgspec

BUCKETS = 60
WIDTHS = {"1s": 1, "10s": 10, "60s": 60}  # seconds of one bucket, by the name of the span


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """`BUCKETS` buckets from `begin` (ms; a multiple of the buckets' width) on. A peak is the most in any one second of the bucket."""

    begin: int
    ends: list[int]
    ends_peak: list[int]
    renewals: list[int]
    renewals_peak: list[int]


Forecast = dict[str, Span]  # by the names of WIDTHS


def forecast(ends: Mapping[int, int], renewals: Mapping[int, int], now: int) -> Forecast:
    """What lies ahead of `now` (ms), from how many end and renew in each second since the epoch."""
    widest = max(WIDTHS.values())
    base = now // 1_000 // widest * widest
    seconds = range(base, base + (BUCKETS + 1) * widest)
    sums = [list(map(ends.get, seconds, repeat(0))), list(map(renewals.get, seconds, repeat(0)))]
    peaks, narrower, found = sums, 1, {}
    for name, width in WIDTHS.items():  # each from the one before it
        parts, narrower = width // narrower, width
        if parts > 1:
            sums = [list(map(sum, _in_parts(counts, parts))) for counts in sums]
            peaks = [list(map(max, _in_parts(counts, parts))) for counts in peaks]
        first = (now // 1_000 - base) // width
        last = first + BUCKETS
        found[name] = Span(
            begin=(base + first * width) * 1_000,
            ends=sums[0][first:last],
            ends_peak=peaks[0][first:last],
            renewals=sums[1][first:last],
            renewals_peak=peaks[1][first:last],
        )
    return found


def _in_parts(counts: list[int], size: int) -> Iterable[tuple[int, ...]]:
    return zip(*[iter(counts)] * size, strict=True)


def added(forecasts: Iterable[Any], now: int) -> Forecast:
    """The sum of nodes' forecasts as seen at `now`, however old each is: a peak is at most that high. What is none is passed over."""
    total = {name: _nothing(now // 1_000 // width * width * 1_000) for name, width in WIDTHS.items()}
    for one in forecasts:
        try:
            spans = msgspec.convert(one, Forecast)
        except msgspec.ValidationError:
            continue  # of another version
        for name in total.keys() & spans.keys():
            _add(total[name], spans[name], WIDTHS[name] * 1_000)
    return total


def _nothing(begin: int) -> Span:
    none = [0] * BUCKETS
    return Span(begin=begin, ends=none.copy(), ends_peak=none.copy(), renewals=none.copy(), renewals_peak=none.copy())


def _add(total: Span, other: Span, width_ms: int) -> None:
    """Add to the lists of `total` what `other` has in the same buckets."""
    ahead = (other.begin - total.begin) // width_ms
    for name in ("ends", "ends_peak", "renewals", "renewals_peak"):
        counts = getattr(total, name)
        for at, count in enumerate(getattr(other, name)[:BUCKETS], start=ahead):
            if 0 <= at < BUCKETS:
                counts[at] += count
