"""What is counted and timed, as cheap as it can be: a counter is an addition, a histogram two and a search of its bounds.

prometheus_client's own instruments take a lock at each observation and two at each look-up by labels: 2 to 6 µs here, 0.2 to 0.4 these
(`bench/observing.py`). So it is used for what a scrape needs, its formats and its collectors, and nowhere else: the only import of it.
All of one node's belong to its event loop, where nothing is counted in two places at once.
"""

import itertools
import math
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Generic, Literal, TypeVar

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

Kind = Literal["counter", "gauge", "histogram"]
Values = tuple[str, ...]
OTHER = (
    "other"  # in the place of values that a label is not to have: a mistake of ours, which must not cost the scraper its memory
)
MOST_ZEROES = 16  # series: a counter with so few is there from the start, so that its first step is one
TRACE_CHARS = 32  # of a trace's id; a session's lineage has a shorter one


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

    @property
    def unit(self) -> str:
        """In which its values are; empty for a number of things."""
        last = self.name.rpartition("_")[2]
        return last if last in ("seconds", "bytes") else ""


class Counter:
    """How often something happened."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def inc(self, by: int = 1) -> None:
        """It happened, or it did so many times."""
        self.value += by


class Histogram:
    """How long something took, each time, and an example of each length."""

    __slots__ = ("_bounds", "counts", "exemplars", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.exemplars: list[tuple[str, float, float] | None] = [None] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, example: str = "") -> None:
        """It took so long; `example` is the id of the trace or of the session's lineage in which it did."""
        place = bisect_left(self._bounds, value)
        self.counts[place] += 1
        self.sum += value
        if example:
            self.exemplars[place] = example, value, time.time()


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


Gauge = tuple[str, Values, float]
"""One sample of a gauge: the metric's name, the values of its labels, its value."""


class Registry:
    """The metrics of one node as a scraper gets them: instruments, the gauges of whoever `watch` was told of, the process."""

    def __init__(self, described: Iterable[Described]) -> None:
        self.described: Mapping[str, Described] = {one.name: one for one in described}
        self._families: dict[str, Family[Counter] | Family[Histogram]] = {}
        self._gauges: list[Callable[[], Iterable[Gauge]]] = []
        self._collectors = CollectorRegistry()
        self._collectors.register(self)
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._collectors)

    def counters(self, name: str) -> Family[Counter]:
        """The counters of this name."""
        family = Family(self.described[name], Counter)
        self._families[name] = family
        return family

    def histograms(self, name: str) -> Family[Histogram]:
        """The histograms of this name."""
        described = self.described[name]
        family = Family(described, lambda: Histogram(described.bounds))
        self._families[name] = family
        return family

    def watch(self, read: Callable[[], Iterable[Gauge]]) -> None:
        """Read gauges of live state at each scrape."""
        self._gauges.append(read)

    def expose(self, accept: str) -> tuple[bytes, str]:
        """The exposition and its content type: OpenMetrics where the scraper asks for it, else Prometheus text."""
        if "application/openmetrics-text" in accept:
            return openmetrics.generate_latest(self._collectors), openmetrics.CONTENT_TYPE_LATEST
        return generate_latest(self._collectors), CONTENT_TYPE_LATEST

    def describe(self) -> Iterable[Metric]:
        """See `prometheus_client`: what `collect` has is known to be unlike the rest."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """See `prometheus_client`."""
        for family in self._families.values():
            yield _collected(family)
        gauges: dict[str, GaugeMetricFamily] = {}
        for read in self._gauges:
            for name, values, value in read():
                described = self.described[name]
                if name not in gauges:
                    gauges[name] = GaugeMetricFamily(name, described.help, labels=described.label_names, unit=described.unit)
                gauges[name].add_metric(values, value)
        yield from gauges.values()


def _collected(family: Family[Counter] | Family[Histogram]) -> Metric:
    one = family.described
    if one.kind == "counter":
        counters = CounterMetricFamily(one.name, one.help, labels=one.label_names)
        for values, child in family.children.items():
            assert isinstance(child, Counter)
            counters.add_metric(values, child.value)
        return counters
    histograms = HistogramMetricFamily(one.name, one.help, labels=one.label_names, unit=one.unit)
    names = [*map(floatToGoString, one.bounds), "+Inf"]
    for values, child in family.children.items():
        assert isinstance(child, Histogram)
        histograms.add_metric(values, list(_buckets(names, child)), child.sum)
    return histograms


def _buckets(names: Sequence[str], histogram: Histogram) -> Iterable[tuple[str, float] | tuple[str, float, Exemplar]]:
    below = 0
    for name, count, example in zip(names, histogram.counts, histogram.exemplars, strict=True):
        below += count
        if example is None:
            yield name, below
        else:
            of, value, at = example
            yield name, below, Exemplar({"trace_id" if len(of) == TRACE_CHARS else "lineage": of}, value, at)
