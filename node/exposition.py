"""Metrics as a scraper reads them, in Prometheus' text or in OpenMetrics 1.0. The only import of `prometheus_client`.

The lines of our own metrics are put together here: all of a line but its value is made once. prometheus_client makes each anew, and to
count the open files it lists them: with 10,000 sockets that is 40 ms of the event loop at each scrape where this is 5 (`bench/scrape.py`).
The tests hold both forms to its parsers.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.platform_collector import PlatformCollector

from node.instruments import Counter, Described, Family, Histogram, Values

TRACE_CHARS = 32  # of a trace's id; that of a session's lineage is shorter
UNITS = ("seconds", "bytes")
Reading = tuple[str, Values, float]
"""What is read when it is scraped: the metric's name, the values of its labels, its value."""


class Registry:
    """The metrics of one node: instruments, what is read by whoever `watch` was told of, and those of Python itself."""

    def __init__(self, described: Iterable[Described]) -> None:
        self._lines = {one.name: _Lines(one) for one in described}
        self._counters: list[Family[Counter]] = []
        self._histograms: list[Family[Histogram]] = []
        self._reads: list[Callable[[], Iterable[Reading]]] = []
        self._before: list[Callable[[], None]] = []
        self._python = CollectorRegistry()
        for collector in (PlatformCollector, GCCollector):
            collector(registry=self._python)

    def counters(self, name: str) -> Family[Counter]:
        """The counters of this name."""
        self._counters.append(family := Family(self._lines[name].described, Counter))
        return family

    def histograms(self, name: str) -> Family[Histogram]:
        """The histograms of this name."""
        described = self._lines[name].described
        self._histograms.append(family := Family(described, lambda: Histogram(described.bounds)))
        return family

    def watch(self, read: Callable[[], Iterable[Reading]]) -> None:
        """Read live state at each scrape."""
        self._reads.append(read)

    def before(self, settle: Callable[[], None]) -> None:
        """Have what is not counted yet counted, at the beginning of each scrape."""
        self._before.append(settle)

    def expose(self, accept: str) -> tuple[bytes, str]:
        """The exposition and its content type: OpenMetrics where the scraper asks for it, else Prometheus text."""
        for settle in self._before:
            settle()
        rich = "application/openmetrics-text" in accept
        parts: list[str] = []
        for counters in self._counters:
            self._lines[counters.described.name].counters(parts, counters.children, rich)
        for histograms in self._histograms:
            self._lines[histograms.described.name].histograms(parts, histograms.children, rich)
        readings: dict[str, list[str]] = {}
        for read in self._reads:
            for name, values, value in read():
                readings.setdefault(name, []).append(f"{self._lines[name].sample(values)}{value!r}\n")
        for name, samples in readings.items():
            parts += (self._lines[name].head(rich), *samples)
        body = "".join(parts).encode()
        if rich:
            return body + openmetrics.generate_latest(self._python), openmetrics.CONTENT_TYPE_LATEST
        return body + generate_latest(self._python), CONTENT_TYPE_LATEST


class _Lines:
    """The lines of one metric."""

    def __init__(self, described: Described) -> None:
        self.described = described
        self._samples: dict[Values, str] = {}
        self._buckets: dict[Values, list[str]] = {}
        self._bounds = [*map(repr, map(float, described.bounds)), "+Inf"]

    def head(self, rich: bool) -> str:
        """What stands before the samples."""
        one, base = self.described, self.described.name.removesuffix("_total")
        name, unit = base if rich and one.kind == "counter" else one.name, base.rpartition("_")[2]
        units = f"# UNIT {name} {unit}\n" if rich and unit in UNITS else ""
        return f"# HELP {name} {one.help}\n# TYPE {name} {one.kind}\n{units}"

    def sample(self, values: Values) -> str:
        """The beginning of the sample with these values."""
        found = self._samples.get(values)
        if found is None:
            found = self._samples[values] = _beginning(
                self.described.name, dict(zip(self.described.label_names, values, strict=True))
            )
        return found

    def counters(self, parts: list[str], children: Mapping[Values, Counter], rich: bool) -> None:
        """The lines of these counters."""
        parts.append(self.head(rich))
        parts += [f"{self.sample(values)}{child.value}\n" for values, child in children.items()]

    def histograms(self, parts: list[str], children: Mapping[Values, Histogram], rich: bool) -> None:
        """The lines of these histograms, with their examples where the form is `rich`."""
        parts.append(self.head(rich))
        for values, child in children.items():
            *buckets, count, total = self._buckets.get(values) or self._make_buckets(values)
            below = 0
            for bucket, here, example in zip(buckets, child.counts, child.examples, strict=True):
                below += here
                parts.append(f"{bucket}{below}{_example(example) if rich and example is not None else ''}\n")
            parts += (f"{count}{below}\n", f"{total}{child.sum!r}\n")

    def _make_buckets(self, values: Values) -> Sequence[str]:
        name, labels = self.described.name, dict(zip(self.described.label_names, values, strict=True))
        made = [_beginning(f"{name}_bucket", labels | {"le": bound}) for bound in self._bounds]
        made += [_beginning(f"{name}_count", labels), _beginning(f"{name}_sum", labels)]
        self._buckets[values] = made
        return made


def _beginning(name: str, labels: Mapping[str, str]) -> str:
    written = ",".join(f'{label}="{_escaped(value)}"' for label, value in sorted(labels.items()))
    return f"{name}{{{written}}} " if written else f"{name} "


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _example(example: tuple[str, float, float]) -> str:
    of, value, at = example
    return f' # {{{"trace_id" if len(of) == TRACE_CHARS else "lineage"}="{of}"}} {value!r} {at:.3f}'
