"""Every metric of the contract (PROTOCOL section 7) in one place: the only import of `prometheus_client`."""

import platform
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

disable_created_metrics()
_FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_VERIFY = (0.000005, 0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.01, 0.1)
_LATENESS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 5)
_GAP = (0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800)
_LIFE = (1, 5, 15, 30, 60, 300, 900, 3600, 14400, 86400)
_AHEAD = (("5s", 5), ("15s", 15), ("30s", 30), ("60s", 60), ("5m", 300), ("15m", 900), ("1h", 3600))


class Metrics:
    """One node's registry. Counters and histograms are observed where the thing happens; gauges are read when scraped."""

    def __init__(self, *, node: str, version: str) -> None:
        self.registry = r = CollectorRegistry()
        self.handshakes = Counter(
            "tidegate_handshakes",
            "Handshakes judged, by outcome and code",
            ["namespace", "outcome", "code", "transport", "source"],
            registry=r,
        )
        self.handshake_seconds = Histogram(
            "tidegate_handshake_seconds", "Time to judge and answer a handshake", ["outcome"], buckets=_FAST, registry=r
        )
        self.verify_seconds = Histogram(
            "tidegate_token_verify_seconds",
            "Time to verify a good token, or to find it verified",
            ["alg", "cache"],
            buckets=_VERIFY,
            registry=r,
        )
        self.jwks_fetches = Counter("tidegate_jwks_fetches", "Fetches of the issuer's key set", ["outcome"], registry=r)
        self.token_ttl_seconds = Histogram(
            "tidegate_token_ttl_seconds", "Life left in a token when it was accepted", buckets=_LIFE, registry=r
        )
        self.refreshes = Counter("tidegate_token_refreshes", "Renewals in place", ["outcome", "code"], registry=r)
        self.expiries = Counter("tidegate_token_expiries", "How the life of a token ended", ["result"], registry=r)
        self.expiry_lateness = Histogram(
            "tidegate_expiry_lateness_seconds", "Close of a session minus its exp", buckets=_LATENESS, registry=r
        )
        self.session_ends = Counter("tidegate_session_ends", "Sessions ended, by reason", ["reason"], registry=r)
        self.revocations = Counter(
            "tidegate_revocations", "Withdrawals of tokens and suspensions that reached this node", registry=r
        )
        self.revocation_seconds = Histogram(
            "tidegate_revocation_seconds", "A withdrawal asked for to a session of this node closed", buckets=_FAST, registry=r
        )
        self.reconnect_gap = Histogram(
            "tidegate_reconnect_gap_seconds", "End of a session to the one that resumes it", ["cause"], buckets=_GAP, registry=r
        )
        self.resumes = Counter("tidegate_resumes", "Rooms resumed at a reconnect", ["outcome"], registry=r)
        self.replayed = Counter("tidegate_replayed_events", "Events sent again to those who missed them", registry=r)
        self.commands = Counter("tidegate_commands", "Commands answered", ["command", "outcome"], registry=r)
        self.command_seconds = Histogram("tidegate_command_seconds", "Command to ack", ["command"], buckets=_FAST, registry=r)
        self.deliveries = Counter("tidegate_deliveries", "Events queued for sockets", registry=r)
        self.slow_sockets = Counter("tidegate_slow_sockets", "Times a socket fell behind its outbox limit", registry=r)
        self.append_seconds = Histogram("tidegate_log_append_seconds", "Append to durable in the log", buckets=_FAST, registry=r)
        self.events = Counter("tidegate_log_events", "Records applied live, by type", ["type"], registry=r)
        self.delivery_seconds = Histogram(
            "tidegate_delivery_seconds", "Event accepted to queued for the local sockets", buckets=_FAST, registry=r
        )
        self.broker_reconnects = Counter(
            "tidegate_broker_reconnects", "Connections to the broker that were lost or given up", registry=r
        )
        self.canary_seconds = Histogram(
            "tidegate_canary_seconds", "A signal of this node to itself through the broker", buckets=_FAST, registry=r
        )
        self.last_canary_s: float | None = None
        self.loop_lag = Histogram("tidegate_loop_lag_seconds", "How late the event loop's timers are", buckets=_FAST, registry=r)
        Gauge("tidegate_build_info", "What runs here", ["version", "python", "node"], registry=r).labels(
            version, platform.python_version(), node
        ).set(1)

    def handshake_counts(self) -> dict[str, int]:
        """Handshakes since the start, by outcome."""
        return {"accepted": 0, "refused": 0, "busy": 0} | totals(self.handshakes, "outcome")

    def count_event(self, type: object, age_ms: int) -> None:
        """One record was applied and handed to the sockets, `age_ms` after its acceptance (by the clocks of two nodes)."""
        self.events.labels(str(type)).inc()
        self.delivery_seconds.observe(max(0, age_ms) / 1000)

    def watch(self, collect: Callable[[], Iterable[tuple[str, str, dict[str, str], float]]]) -> None:
        """Read gauges of live state at each scrape: `(name, help, labels, value)`, samples of one name together."""
        self.registry.register(_Live(collect))

    def expose(self, accept: str) -> tuple[bytes, str]:
        """The exposition and its content type: OpenMetrics where the scraper asks for it, else Prometheus text."""
        if "application/openmetrics-text" in accept:
            return openmetrics.generate_latest(self.registry), openmetrics.CONTENT_TYPE_LATEST
        return generate_latest(self.registry), CONTENT_TYPE_LATEST


def totals(counter: Counter, label: str) -> dict[str, int]:
    """What a counter has counted since the start, by one of its labels; where that is empty it is left out."""
    counts: dict[str, int] = {}
    for metric in counter.collect():
        for sample in metric.samples:
            name = sample.labels[label]
            if name:
                counts[name] = counts.get(name, 0) + int(sample.value)
    return counts


def expiring(ending_by: Callable[[int], int], now: int) -> list[tuple[str, int]]:
    """How many sessions end within each span ahead of `now` (ms), asked of `ending_by` for each span's end."""
    return [(name, ending_by(now + 1_000 * seconds)) for name, seconds in _AHEAD]


class _Live:
    def __init__(self, collect: Callable[[], Iterable[tuple[str, str, dict[str, str], float]]]) -> None:
        self._collect = collect

    def collect(self) -> Iterable[Metric]:
        families: dict[str, GaugeMetricFamily] = {}
        for name, text, labels, value in self._collect():
            family = families.get(name)
            if family is None:
                family = families[name] = GaugeMetricFamily(name, text, labels=list(labels))
            family.add_metric(list(labels.values()), value)
        return families.values()
