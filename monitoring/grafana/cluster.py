"""Dashboard: the nodes, what they say to each other, and what carries it."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from monitoring.grafana.board import JOB, NODE, Row, board
from monitoring.grafana.panels import Limits, Panel, Query, lines, listing, number, states
from monitoring.grafana.promql import most, of, quantile, rate, total

REFUSED = 'outcome="refused"'


def cluster() -> Dashboard:
    """Cluster and delivery."""
    return board(
        "tidegate-cluster",
        "Cluster and delivery",
        "Which of auth, log, broker and nodes is to blame; sessions, messages and how long they take, the log, sockets and processes.",
        info="tidegate_build_info",
        rows=[_look(), _sessions(), _messages(), _log(), _sockets(), _processes()],
    )


def _look() -> Row:
    append = most(f"instance:tidegate_log_append_seconds:p99_rate5m{{{NODE}}}")
    lag = most(f"instance:tidegate_loop_lag_seconds:p90_rate2m{{{NODE}}}")
    return Row(
        "In one look",
        [
            number("Nodes", "That answer.", "short", Query(total(of("up"))), width=3, runbook="TidegateNodeDown"),
            number(
                "Without a log",
                "Nodes that cannot reach the broker, or the file, that has the log.",
                "short",
                Query(f"count({of('tidegate_broker_up')} == 0) or vector(0)"),
                limits=Limits(1),
                width=3,
                runbook="TidegateBrokerDown",
            ),
            number(
                "Delivery",
                "From accepted to written to a socket, the slowest in a hundred: everything together.",
                "s",
                Query(most(f"job:tidegate_delivery_seconds:p99_rate5m{{{JOB}}}")),
                limits=Limits(1, 0.25),
                runbook="TidegateLogLag",
            ),
            number(
                "Append",
                "Until an event is durable in the log, the slowest in a hundred of the slowest node: the broker or the disk.",
                "s",
                Query(append),
                limits=Limits(0.5, 0.1),
                runbook="TidegateAppendSlow",
            ),
            number(
                "Loop lag",
                "How late one timer in ten is on the busiest node: its processor.",
                "s",
                Query(lag),
                limits=Limits(0.1, 0.05),
                width=5,
                runbook="TidegateLoopLag",
            ),
            number(
                "Refused",
                "Handshakes a second that are refused for their token: keys, clocks, the issuer.",
                "reqps",
                Query(f"{total(rate('tidegate_handshakes_total', REFUSED))} or vector(0)"),
                width=5,
                runbook="TidegateRefusals",
            ),
            *_who_is_to_blame(),
        ],
    )


def _who_is_to_blame() -> list[Panel]:
    return [
        listing(
            "Alerts that fire",
            "Each has its section in the runbook, under its name.",
            Query(f'ALERTS{{{JOB}, alertstate="firing"}}'),
            columns=["alertname", "severity", "instance", "reason", "code", "sign"],
            width=12,
        ),
        states(
            "Ready",
            "Whether a node is in service, by what it says in /readyz.",
            Query(most(of("tidegate_not_ready"), by="instance"), "{{instance}}"),
            names={0: "ready", 1: "not ready"},
            width=6,
            runbook="TidegateNotReady",
        ),
        lines(
            "Not ready, and why",
            "1 for each reason that a node gives. Nothing is the best that this can show.",
            "short",
            Query(f"{of('tidegate_not_ready')} == 1", "{{instance}}: {{reason}}"),
            width=6,
            runbook="TidegateNotReady",
        ),
    ]


def _sessions() -> Row:
    return Row(
        "Sessions",
        [
            lines(
                "Sessions by node",
                "Open sessions.",
                "short",
                Query(total(of("tidegate_sessions"), by="instance"), "{{instance}}"),
                stacked=True,
            ),
            lines(
                "Sessions by transport",
                "Polling costs a node a request each time; many who poll are behind a proxy that lets no WebSocket through.",
                "short",
                Query(total(of("tidegate_sessions"), by="transport"), "{{transport}}"),
                stacked=True,
            ),
            lines(
                "Ends of sessions, by reason",
                "client: they left; transport: the connection broke; timeout: no answer to a ping; slow: read nothing for too long.",
                "ops",
                Query(total(rate("tidegate_session_ends_total"), by="reason"), "{{reason}}"),
                stacked=True,
                runbook="TidegateStorm",
            ),
        ],
    )


def _messages() -> Row:
    return Row(
        "Messages and their delivery",
        [
            lines(
                "Commands by outcome",
                "ok, or the error's code; unavailable is a log that cannot take it.",
                "ops",
                Query(total(rate("tidegate_commands_total"), by="outcome"), "{{outcome}}"),
                stacked=True,
                runbook="TidegateBrokerDown",
            ),
            lines(
                "Time to the ack, by command",
                "What the slowest in a hundred waits for its ack.",
                "s",
                Query(quantile(0.99, "tidegate_command_seconds", by="command"), "{{command}}"),
                runbook="TidegateAppendSlow",
            ),
            lines(
                "Events by type",
                "Applied by the nodes together, each by each of them.",
                "ops",
                Query(total(rate("tidegate_log_events_total"), by="type"), "{{type}}"),
                stacked=True,
            ),
            lines(
                "Deliveries",
                "Events written to sockets: a message in a room of a hundred is a hundred.",
                "ops",
                Query(total(rate("tidegate_deliveries_total"), by="instance"), "{{instance}}"),
                stacked=True,
                runbook="TidegateLoopLag",
            ),
            lines(
                "From accepted to delivered",
                "From the moment in which an event was accepted, by the clock of that node, to written to a socket of another one.",
                "s",
                Query(quantile(0.99, "tidegate_delivery_seconds", by="instance"), "{{instance}} p99"),
                Query(quantile(0.5, "tidegate_delivery_seconds", by="instance"), "{{instance}} p50"),
                limits=Limits(1, 0.25),
                runbook="TidegateLogLag",
            ),
            lines(
                "Sent again",
                "Events replayed to those who came back, and rooms that were replayed, whole or in part.",
                "ops",
                Query(total(rate("tidegate_replayed_events_total")), "events"),
                Query(total(rate("tidegate_resumes_total"), by="outcome"), "{{outcome}}"),
            ),
        ],
    )


def _log() -> Row:
    position = of("tidegate_log_position")
    first = f"max by (job, partition) (tidegate_log_position{{{JOB}}})"
    return Row(
        "The log",
        [
            lines(
                "Append",
                "Until an event is durable: the broker, its disk, or the way to it.",
                "s",
                Query(quantile(0.99, "tidegate_log_append_seconds", by="instance"), "{{instance}} p99"),
                Query(quantile(0.5, "tidegate_log_append_seconds", by="instance"), "{{instance}} p50"),
                limits=Limits(0.5, 0.1),
                runbook="TidegateAppendSlow",
            ),
            lines(
                "Lag",
                "For how long a node has known of something in the log that it has not applied, in the worst of its partitions.",
                "s",
                Query(most(of("tidegate_log_lag_seconds"), by="instance"), "{{instance}}"),
                limits=Limits(5, 1),
                runbook="TidegateLogLag",
            ),
            lines(
                "Behind the first",
                "How far a node stands behind the node that is first, in the log's own units, all partitions together.",
                "short",
                Query(f"sum by (instance) (- ({position} - on (job, partition) group_left () {first}))", "{{instance}}"),
                runbook="TidegateLogLag",
            ),
            states(
                "The log can be reached",
                "By each node.",
                Query(most(of("tidegate_broker_up"), by="instance"), "{{instance}}"),
                names={0: "gone", 1: "ok"},
                runbook="TidegateBrokerDown",
            ),
            lines(
                "Connections lost",
                "To the broker, or given up because nothing came. Nothing with the embedded log.",
                "ops",
                Query(total(rate("tidegate_broker_reconnects_total"), by="instance"), "{{instance}}"),
                runbook="TidegateDeaf",
            ),
            lines(
                "Canary",
                "A signal of a node to itself through the broker: how long the slowest in ten takes. Nothing with the embedded log.",
                "s",
                Query(quantile(0.9, "tidegate_canary_seconds", by="instance"), "{{instance}}"),
                limits=Limits(3.5, 1),
                runbook="TidegateDeaf",
            ),
        ],
    )


def _sockets() -> Row:
    return Row(
        "Sockets",
        [
            lines(
                "Outboxes",
                "What waits for sockets to take it.",
                "bytes",
                Query(total(of("tidegate_outbox_bytes"), by="instance"), "{{instance}}"),
                width=12,
                limits=Limits(67_108_864),
                runbook="TidegateSlowConsumers",
            ),
            lines(
                "Sockets that fell behind",
                "Past their outbox limit: each is told to ask again once it has drained.",
                "ops",
                Query(total(rate("tidegate_slow_sockets_total"), by="instance"), "{{instance}}"),
                width=12,
                runbook="TidegateSlowConsumers",
            ),
        ],
    )


def _processes() -> Row:
    return Row(
        "Processes",
        [
            lines(
                "Loop lag",
                "How late one timer in ten is, and one in a hundred.",
                "s",
                Query(quantile(0.9, "tidegate_loop_lag_seconds", by="instance"), "{{instance}} p90"),
                Query(quantile(0.99, "tidegate_loop_lag_seconds", by="instance"), "{{instance}} p99"),
                limits=Limits(0.1),
                runbook="TidegateLoopLag",
            ),
            lines(
                "Processor",
                "A node uses one core, and some of a second one for its read model.",
                "percentunit",
                Query(total(rate("process_cpu_seconds_total"), by="instance"), "{{instance}}"),
                limits=Limits(1, 0.75),
                runbook="TidegateLoopLag",
            ),
            lines(
                "Memory, of what it may have",
                "Of its container's bound, else of the machine's memory.",
                "percentunit",
                Query(most(f"instance:tidegate_memory:ratio{{{NODE}}}", by="instance"), "{{instance}}"),
                limits=Limits(0.85, 0.7),
                most=1,
                runbook="TidegateMemoryHigh",
            ),
            lines(
                "Garbage collector",
                "The share of the time in which nothing else goes on. The oldest generation walks the whole heap.",
                "percentunit",
                Query(total(rate("tidegate_gc_pause_seconds_sum"), by="generation"), "generation {{generation}}"),
                stacked=True,
                runbook="TidegateLoopLag",
            ),
            lines(
                "Open files",
                "Sockets, most of them, and how many a node may have.",
                "short",
                Query(total(of("process_open_fds"), by="instance"), "{{instance}}"),
                Query(f"min({of('process_max_fds')})", "bound"),
            ),
            listing(
                "Versions",
                "What runs where.",
                Query(of("tidegate_build_info")),
                columns=["instance", "node", "version", "python"],
                width=8,
            ),
        ],
    )
