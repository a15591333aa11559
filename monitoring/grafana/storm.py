"""Dashboard: one screen for a reconnect storm."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from monitoring.grafana.board import JOB, NODE, Row, board
from monitoring.grafana.panels import Limits, Panel, Query, lines
from monitoring.grafana.promql import most, of, quantile, rate, total

_HEIGHT, _WIDTH = 6, 6  # four in a row, and all on one screen


def storm() -> Dashboard:
    """Storm."""
    return board(
        "tidegate-storm",
        "Storm",
        "A reconnect storm on one screen: what is ahead, what comes, whether all are back, and what it costs.",
        info="tidegate_build_info",
        rows=[_before(), _during(), _back(), _cost()],
    )


def _small(
    title: str, description: str, unit: str, *queries: Query, limits: Limits | None = None, runbook: str | None = None
) -> Panel:
    return lines(title, description, unit, *queries, width=_WIDTH, height=_HEIGHT, limits=limits, runbook=runbook)


def _before() -> Row:
    return Row(
        "Before: what is ahead",
        [
            _small(
                "Crowd ahead",
                "For how long the cluster would be busy with those who fall off in a span, were it in one moment of it.",
                "s",
                Query(most(f"job_span:tidegate_expiry_crowd_seconds:ratio{{{JOB}}}", by="span"), "{{span}}"),
                limits=Limits(10, 5),
                runbook="TidegateCliffAhead",
            ),
            _small(
                "Tokens that end within",
                "Of the open sessions.",
                "short",
                Query(total(of("tidegate_sessions_expiring", 'within=~"5s|15s|30s|60s"'), by="within"), "{{within}}"),
                runbook="TidegateCliffAhead",
            ),
            _small(
                "Not renewed, of the tokens at their end",
                "In ten minutes: 0% is a plateau of renewals, 100% a cliff.",
                "percentunit",
                Query(most(f"job:tidegate_token_expiries_closed:ratio_rate10m{{{JOB}}}"), "closed"),
                runbook="TidegateRenewalsFailing",
            ),
            _small(
                "Capacity",
                "Handshakes that each node has measured it can take.",
                "reqps",
                Query(total(of("tidegate_handshake_capacity_per_second"), by="instance"), "{{instance}}"),
                runbook="TidegateShedding",
            ),
        ],
    )


def _during() -> Row:
    return Row(
        "During: what comes",
        [
            _small(
                "Handshakes",
                "Accepted, refused, or told to come again; and what can be taken.",
                "reqps",
                Query(total(rate("tidegate_handshakes_total"), by="outcome"), "{{outcome}}"),
                Query(total(of("tidegate_handshake_capacity_per_second")), "what can be taken"),
                runbook="TidegateStorm",
            ),
            _small(
                "Ends of sessions, by reason",
                "token_expired is a cliff, transport a network or a proxy, draining a deployment.",
                "ops",
                Query(total(rate("tidegate_session_ends_total"), by="reason"), "{{reason}}"),
                runbook="TidegateStorm",
            ),
            _small(
                "Sent away",
                "Of those who come: 503 with the time after which to come again.",
                "percentunit",
                Query(most(f"job:tidegate_handshakes_shed:ratio_rate1m{{{JOB}}}"), "busy"),
                limits=Limits(0.2),
                runbook="TidegateShedding",
            ),
            _small(
                "Sessions by node",
                "Where they went, and where they came back.",
                "short",
                Query(total(of("tidegate_sessions"), by="instance"), "{{instance}}"),
            ),
        ],
    )


def _back() -> Row:
    return Row(
        "All back?",
        [
            _small(
                "Here, of the most in a quarter of an hour",
                "100% again when all are back.",
                "percentunit",
                Query(most(f"job:tidegate_sessions_back:ratio_max15m{{{JOB}}}"), "back"),
                runbook="TidegateStorm",
            ),
            _small(
                "Away for",
                "From the end of a session to the one that resumes it.",
                "s",
                Query(quantile(0.99, "tidegate_reconnect_gap_seconds"), "p99"),
                Query(quantile(0.95, "tidegate_reconnect_gap_seconds"), "p95"),
                Query(quantile(0.5, "tidegate_reconnect_gap_seconds"), "p50"),
                runbook="TidegateStorm",
            ),
            _small(
                "Away for, by cause",
                "The slowest in twenty, by why the session had ended.",
                "s",
                Query(quantile(0.95, "tidegate_reconnect_gap_seconds", by="cause"), "{{cause}}"),
                runbook="TidegateStorm",
            ),
            _small(
                "Made up for",
                "Rooms that were replayed, whole or in part, and the events in them.",
                "ops",
                Query(total(rate("tidegate_resumes_total"), by="outcome"), "{{outcome}}"),
                Query(total(rate("tidegate_replayed_events_total")), "events"),
            ),
        ],
    )


def _cost() -> Row:
    return Row(
        "What it costs those who are here",
        [
            _small(
                "Delivery",
                "From accepted to written to a socket, the slowest in a hundred.",
                "s",
                Query(quantile(0.99, "tidegate_delivery_seconds"), "p99"),
                limits=Limits(1, 0.25),
                runbook="TidegateLogLag",
            ),
            _small(
                "Time of a handshake",
                "From CONNECT to the answer, the slowest in a hundred.",
                "s",
                Query(quantile(0.99, "tidegate_handshake_seconds", by="outcome"), "{{outcome}}"),
                runbook="TidegateShedding",
            ),
            _small(
                "Loop lag",
                "How late one timer in ten is.",
                "s",
                Query(most(f"instance:tidegate_loop_lag_seconds:p90_rate2m{{{NODE}}}", by="instance"), "{{instance}}"),
                limits=Limits(0.1, 0.05),
                runbook="TidegateLoopLag",
            ),
            _small(
                "Processor",
                "Of one core.",
                "percentunit",
                Query(total(rate("process_cpu_seconds_total"), by="instance"), "{{instance}}"),
                limits=Limits(1, 0.75),
                runbook="TidegateLoopLag",
            ),
        ],
    )
