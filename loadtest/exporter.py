"""A storm's figures for Prometheus, made when they are asked for. The only import of `prometheus_client` here.

On Locust's page they are at `/metrics`; without it on a port of their own.
"""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from loadtest import figures, measures
from loadtest.beginnings import LOOPBACK
from loadtest.run import Run

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SERIES = {
    measures.TRIED: ("storm_handshakes_begun", "Handshakes that were begun."),
    measures.LET_IN: ("storm_sessions_begun", "Sessions that were welcomed."),
    measures.LOST: ("storm_sessions_ended", "Sessions that ended."),
    measures.RENEWED: ("storm_renewals", "Tokens that were replaced on an open session."),
    measures.ACKED: ("storm_messages_acked", "Messages that are in the log."),
    measures.DELIVERED: ("storm_deliveries", "Messages that reached a person."),
}
_SHARES = (0.5, 0.95, 0.99)


class _Storm(Collector):
    """Of whichever storm runs."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def collect(self) -> Iterator[Metric]:
        board, result = self._run.board, self._run.result
        if board is None:
            return
        live, measured = board.live, board.measured
        people = GaugeMetricFamily("storm_people", "People of the storm, by where they are.", labels=["state"])
        for state, count in (("here", live.here), ("away", live.away), ("away_on_purpose", live.asleep)):
            people.add_metric([state], count)
        yield people
        for name, (metric, help_text) in _SERIES.items():
            yield CounterMetricFamily(metric, help_text, value=measured.total(name))
        refused = CounterMetricFamily("storm_refusals", "What was refused, by code.", labels=["what"])
        for code, count in sorted(measured.refusals.items()):
            refused.add_metric([code], count)
        yield refused
        yield from self._times()
        yield GaugeMetricFamily("storm_messages_unacked", "Messages without an answer yet.", value=live.unacked)
        faults = GaugeMetricFamily(
            "storm_faults", "Faults by kind: of the verdict, or before it what was skipped or repeated.", labels=["kind"]
        )
        counts = {"skipped": live.skipped, "repeated": live.repeated} if result is None else result.verdict.counts
        for kind, count in counts.items():
            faults.add_metric([kind], count)
        yield faults
        if result is not None:
            yield GaugeMetricFamily("storm_verdict_clean", "1: the storm is over, and clean.", value=int(result.ok))

    def _times(self) -> Iterator[Metric]:
        assert self._run.board is not None
        times = SummaryMetricFamily("storm_seconds", "What people waited for, from when it was due.", labels=["what"])
        quantiles = GaugeMetricFamily(
            "storm_quantile_seconds", "The same: what this share did not exceed.", labels=["what", "share"]
        )
        for name, one in figures.timed(self._run.board):
            times.add_metric([name], one.count, one.total)
            for share in _SHARES:
                quantiles.add_metric([name, f"{share:g}"], one.percentile(share))
        yield times
        yield quantiles


def registry_of(run: Run) -> CollectorRegistry:
    """What answers a scrape."""
    registry = CollectorRegistry()
    registry.register(_Storm(run))
    return registry


def text(registry: CollectorRegistry) -> bytes:
    """An answer to a scrape."""
    return generate_latest(registry)


def serve(run: Run, port: int) -> None:
    """Answer scrapes on this port of loopback for as long as the process lives. Raises `OSError` where it is taken."""
    start_http_server(port, addr=LOOPBACK, registry=registry_of(run))
