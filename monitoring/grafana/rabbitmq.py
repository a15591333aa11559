"""Dashboard: what of RabbitMQ matters to the log. Names that 3.10 and 4 have in common."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from monitoring.grafana.board import NODE, Mark, Row, board
from monitoring.grafana.panels import Limits, Query, lines, listing, number
from monitoring.grafana.promql import most, of, rate, total

_ALERTS = ("RabbitmqAlarm", "RabbitmqMemberDown", "TidegateBrokerDown", "TidegateDeaf", "TidegateLogLag", "TidegateAppendSlow")
_MARKS = (
    Mark("Restarts", "purple", f"resets(rabbitmq_erlang_uptime_seconds{{{NODE}}}[1m]) > 0", "{{instance}} was started again"),
    Mark("Gone", "red", f"up{{{NODE}}} == bool 0 > 0", "{{instance}} does not answer"),
)


def rabbitmq() -> Dashboard:
    """RabbitMQ essentials."""
    return board(
        "tidegate-rabbitmq",
        "RabbitMQ essentials",
        "The brokers that have the log: whether they are there and take what is appended, how much goes through, what is left of"
        " memory and disk.",
        info="rabbitmq_build_info",
        marks=_MARKS,
        rows=[_now(), _traffic(), _room()],
    )


def _now() -> Row:
    alarms = f"{of('rabbitmq_alarms_memory_used_watermark')} + {of('rabbitmq_alarms_free_disk_space_watermark')}"
    return Row(
        "Now",
        [
            number("Brokers", "That answer.", "short", Query(total(of("up"))), runbook="RabbitmqMemberDown"),
            number(
                "Alarms",
                "Of memory or disk: each blocks whoever appends, on all brokers.",
                "short",
                Query(total(alarms)),
                limits=Limits(1),
                runbook="RabbitmqAlarm",
            ),
            number(
                "Connections",
                "Each node has some for appending, for following and for signals.",
                "short",
                Query(total(of("rabbitmq_connections"))),
            ),
            number(
                "Consumers",
                "One for each partition that a node follows, and one for its signals.",
                "short",
                Query(total(of("rabbitmq_consumers"))),
            ),
            number(
                "Queues", "Streams of the log, and the nodes' queues for signals.", "short", Query(total(of("rabbitmq_queues")))
            ),
            number(
                "Not confirmed",
                "Messages of the log that are on their way: one a partition of each node is usual.",
                "short",
                Query(total(of("rabbitmq_channel_messages_unconfirmed"))),
                runbook="TidegateAppendSlow",
            ),
            listing(
                "Alerts about brokers",
                "What fires, by the brokers and by the nodes. Each has its section in the runbook, under its name.",
                Query(f'ALERTS{{alertname=~"{"|".join(_ALERTS)}", alertstate="firing"}}'),
                columns=["alertname", "severity", "instance"],
                width=12,
            ),
            listing(
                "Versions",
                "What runs where.",
                Query(of("rabbitmq_build_info")),
                columns=["instance", "rabbitmq_version", "erlang_version"],
                width=12,
            ),
        ],
    )


def _traffic() -> Row:
    received, confirmed = "rabbitmq_global_messages_received_total", "rabbitmq_global_messages_confirmed_total"
    return Row(
        "What goes through",
        [
            lines(
                "Appended and confirmed",
                "Messages, each with one event or many. Confirms that stay behind are a broker or a disk that cannot keep up.",
                "ops",
                Query(total(rate(received)), "received"),
                Query(total(rate(confirmed)), "confirmed"),
                runbook="TidegateAppendSlow",
            ),
            lines(
                "Delivered",
                "By each broker, to the nodes that follow.",
                "ops",
                Query(total(rate("rabbitmq_global_messages_delivered_total"), by="instance"), "{{instance}}"),
                stacked=True,
                runbook="TidegateDeaf",
            ),
            lines(
                "Returned",
                "Messages for a stream that is not there. Anything but 0 is a stream that was deleted.",
                "ops",
                Query(total(rate("rabbitmq_global_messages_unroutable_returned_total")), "returned"),
                runbook="TidegateDiverged",
            ),
            lines(
                "Connections opened and closed",
                "In calm there are none.",
                "ops",
                Query(total(rate("rabbitmq_connections_opened_total")), "opened"),
                Query(total(rate("rabbitmq_connections_closed_total")), "ended"),
                runbook="TidegateBrokerDown",
            ),
            lines(
                "Logins refused",
                "A node with an old password, or a stranger.",
                "ops",
                Query(total(rate("rabbitmq_auth_attempts_failed_total"), by="instance"), "{{instance}}"),
                runbook="TidegateBrokerDown",
            ),
            lines(
                "Messages in queues",
                "Of the streams all that is kept, of the nodes' queues what waits.",
                "short",
                Query(total(of("rabbitmq_queue_messages"), by="instance"), "{{instance}}"),
            ),
        ],
    )


def _room() -> Row:
    return Row(
        "What is left",
        [
            lines(
                "Memory, of its watermark",
                "Over it the brokers take nothing any more.",
                "percentunit",
                Query(
                    f"{of('rabbitmq_process_resident_memory_bytes')} / {of('rabbitmq_resident_memory_limit_bytes')}",
                    "{{instance}}",
                ),
                limits=Limits(1, 0.8),
                runbook="RabbitmqAlarm",
            ),
            lines(
                "Free disk, over its limit",
                "At nothing the brokers take nothing any more.",
                "bytes",
                Query(
                    f"{of('rabbitmq_disk_space_available_bytes')} - {of('rabbitmq_disk_space_available_limit_bytes')}",
                    "{{instance}}",
                ),
                runbook="RabbitmqAlarm",
            ),
            lines(
                "Open files, of what it may have",
                "Connections, and the segments of the streams.",
                "percentunit",
                Query(f"{of('rabbitmq_process_open_fds')} / {of('rabbitmq_process_max_fds')}", "{{instance}}"),
                limits=Limits(0.9, 0.7),
            ),
            lines(
                "Erlang processes, of what it may have",
                "Some for each connection, channel, queue and stream.",
                "percentunit",
                Query(f"{of('rabbitmq_erlang_processes_used')} / {of('rabbitmq_erlang_processes_limit')}", "{{instance}}"),
                limits=Limits(0.9, 0.7),
            ),
            lines(
                "Run queue",
                "Erlang processes that wait for a processor.",
                "short",
                Query(most(of("rabbitmq_erlang_scheduler_run_queue"), by="instance"), "{{instance}}"),
                runbook="TidegateAppendSlow",
            ),
            lines(
                "Up for",
                "Since a broker was started. They are not to be started together.",
                "s",
                Query(most(of("rabbitmq_erlang_uptime_seconds"), by="instance"), "{{instance}}"),
                runbook="RabbitmqMemberDown",
            ),
        ],
    )
