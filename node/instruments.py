"""What is counted and timed, as cheap as it can be: a counter is an addition, a histogram two and a search of its bounds.

prometheus_client's own instruments take a lock at each observation and two at each look-up by labels: 2 to 6 µs where these take 0.2 to 0.5
(`bench/observing.py`). All of one node's belong to its event loop, where nothing is counted in two places at once.
"""

import itertools
import math
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, Literal, TypeVar

import msgspec

Kind = Literal["counter", "gauge", "histogram"]
Values = tuple[str, ...]
OTHER = (
    "other"  # in the place of values that a label is not to have: a mistake of ours, which must not cost the scraper its memory
)
MOST_ZEROES = 16  # series: a counter with so few is there from the start, so that its first step is one


class Space(msgspec.Struct, frozen=True):
    """The values that some labels of a metric may have, together."""

    names: Values
    values: frozenset[Values]


def each(name: str, values: Iterable[str]) -> Space:
    """One label with these values."""
    return Space((name,), frozenset((value,) for value in values))


def joint(*names: str, of: Iterable[Values]) -> Space:
    """Labels of which only these combinations occur."""
    return Space(names, frozenset(of))


class Described(msgspec.Struct, frozen=True):
    """A metric: its name as it is scraped, its kind, its words, the values of its labels. A name that ends with a unit is in that unit."""

    name: str
    kind: Kind
    help: str
    spaces: tuple[Space, ...] = ()
    bounds: tuple[float, ...] = ()

    @property
    def label_names(self) -> Values:
        """Its labels, in the order in which their values are given."""
        return tuple(name for space in self.spaces for name in space.names)

    @property
    def most_series(self) -> int:
        """How many series of a node it can have at most."""
        lines = len(self.bounds) + 3 if self.kind == "histogram" else 1  # and +Inf, the sum, the count
        return lines * math.prod(len(space.values) for space in self.spaces)


class Counter:
    """How often something happened."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def inc(self, by: int = 1) -> None:
        """It happened, or it did so many times."""
        self.value += by


class Histogram:
    """How long something took, each time, and an example of each length: `(of what, how long, when)`."""

    __slots__ = ("bounds", "counts", "examples", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.examples: list[tuple[str, float, float] | None] = [None] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, example: str = "", times: int = 1) -> None:
        """It took so long, once or so many times; `example` is the id of the trace or of the session's lineage in which it did."""
        place = bisect_left(self.bounds, value)
        self.counts[place] += times
        self.sum += value * times
        if example:
            self.examples[place] = example, value, time.time()


Instrument = TypeVar("Instrument", Counter, Histogram)


class Family(Generic[Instrument]):
    """The instruments of one metric: one for each combination of its labels' values that has occurred."""

    def __init__(self, described: Described, make: Callable[[], Instrument]) -> None:
        self.described = described
        self._make: Callable[[], Instrument] = make
        self.children: dict[Values, Instrument] = {}
        if described.kind == "counter" and described.most_series <= MOST_ZEROES:
            for parts in itertools.product(*(sorted(space.values) for space in described.spaces)):
                self.labels(*itertools.chain(*parts))

    def labels(self, *values: str) -> Instrument:
        """The one with these values, in the order of the labels."""
        found = self.children.get(values)
        return found if found is not None else self._begin(values)

    def _begin(self, values: Values) -> Instrument:
        allowed: list[str] = []
        for space in self.described.spaces:
            part = values[len(allowed) : len(allowed) + len(space.names)]
            allowed += part if part in space.values else [OTHER] * len(space.names)
        return self.children.setdefault(tuple(allowed), self._make())
