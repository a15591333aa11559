"""Every metric of a node, written once: its name, its kind, its words, and what its labels may be (PROTOCOL section 7, and more).

No label names a user, a room, a session or a token, and each has a closed list of values: so each metric has a bound on its series
(docs/operations.md has the table, `tests/unit/test_metrics.py` holds both to each other).
"""

import platform
from collections.abc import Callable, Iterable
from typing import Any, get_args

from node.auth.denied import DenialCode
from node.core.commands import NAMES
from node.core.errors import Code
from node.core.events import EndReason, Event
from node.exposition import Registry
from node.instruments import Counter, Described, Family, each, joint
from node.process_readings import ProcessReadings

FAST_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_VERIFY_S = (0.000005, 0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.01, 0.1)
_LATENESS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 5)
_GAP_S = (0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800)
_LIFE_S = (1, 5, 15, 30, 60, 300, 900, 3600, 14400, 86400)
_PAUSE_S = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)
_AHEAD = (("5s", 5), ("15s", 15), ("30s", 30), ("60s", 60), ("5m", 300), ("15m", 900), ("1h", 3600))

#: Why a node may not be ready: the words of `/readyz`.
REASONS = ("diverged", "log away", "deaf", "catching up", "log behind", "read model", "draining")
#: The lines about sessions, of which a storm would make too many.
SESSION_LINES = ("session opened", "session renewed", "session ended", "session refused", "renewal refused", "command")
_HMAC_RSA_EC = ("HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
_FETCHES = ("ok", "unreachable", "timeout", "status", "redirect", "content_type", "too_large", "malformed", "issuer")
_OPERATORS = ("revoke", "suspend", "session:close", "sessions", "drain")
_MOST_PARTITIONS = 257  # TIDEGATE_PARTITIONS at most, and the one of sessions
MOST_PEERS = 64  # other nodes that are told by name: a large cluster, and who has left it lately

_DENIALS, _CODES, _ENDS = get_args(DenialCode), get_args(Code), get_args(EndReason)
_NAMESPACE = each("namespace", ("/", "/admin", "http"))  # http: judged at the HTTP request
_TRANSPORT = each("transport", ("websocket", "polling"))
_OUTCOME = each("outcome", ("accepted", "refused", "busy"))
_HANDSHAKE = joint(
    *("outcome", "code", "source"),
    of=[
        *(("accepted", "", source) for source in ("auth", "header", "query", "cookie")),
        *(("refused", code, "") for code in _DENIALS),
        *(("busy", code, "") for code in ("server_busy", "draining")),
    ],
)
_REFRESH = joint("outcome", "code", of=[("accepted", ""), *(("refused", code) for code in (*_DENIALS, "rate_limited"))])
_COMMANDS = (*NAMES, *_OPERATORS, "auth:refresh", "unknown")
_COMMAND = each("command", _COMMANDS)
_ANSWER = joint(
    *("command", "outcome"),
    of=[
        *((command, outcome) for command in _COMMANDS for outcome in ("ok", *_CODES)),
        *(("auth:refresh", code) for code in _DENIALS),
    ],
)
_PARTITION = each("partition", map(str, range(_MOST_PARTITIONS)))
_PEER = each("node", (f"n{number}" for number in range(MOST_PEERS)))  # so many; their names are what they are called


def _table() -> Iterable[Described]:
    def counter(name: str, help: str, *spaces: Any) -> Described:
        return Described(name, "counter", help, spaces)

    def histogram(name: str, help: str, bounds: tuple[float, ...], *spaces: Any) -> Described:
        return Described(name, "histogram", help, spaces, bounds)

    def gauge(name: str, help: str, *spaces: Any) -> Described:
        return Described(name, "gauge", help, spaces)

    yield from (
        counter("tidegate_handshakes_total", "Handshakes judged, by outcome and code", _NAMESPACE, _TRANSPORT, _HANDSHAKE),
        histogram("tidegate_handshake_seconds", "Time to judge and answer a handshake", FAST_S, _OUTCOME),
        histogram(
            *("tidegate_token_verify_seconds", "Time to verify a good token, or to find it verified", _VERIFY_S),
            *(each("alg", (*_HMAC_RSA_EC, "EdDSA")), each("cache", ("hit", "miss"))),
        ),
        histogram("tidegate_token_ttl_seconds", "Life left in a token when it was accepted", _LIFE_S),
        counter("tidegate_token_refreshes_total", "Renewals in place", _REFRESH),
        counter("tidegate_token_expiries_total", "How the life of a token ended", each("result", ("refreshed", "closed"))),
        histogram("tidegate_expiry_lateness_seconds", "Close of a session minus its exp", _LATENESS_S),
        counter("tidegate_session_ends_total", "Sessions ended, by reason", each("reason", _ENDS)),
        histogram("tidegate_reconnect_gap_seconds", "End of a session to the one that resumes it", _GAP_S, each("cause", _ENDS)),
        counter(
            "tidegate_resumes_total",
            "Clients that came back with what they had, and were sent what they missed",
            each("outcome", ("complete", "partial")),
        ),
        counter("tidegate_replayed_events_total", "Events sent again to those who missed them"),
        counter("tidegate_revocations_total", "Withdrawals of tokens and suspensions that reached this node"),
        histogram("tidegate_revocation_seconds", "A withdrawal asked for to a session of this node closed", FAST_S),
        counter("tidegate_commands_total", "Commands answered", _ANSWER),
        histogram("tidegate_command_seconds", "Command to ack", FAST_S, _COMMAND),
        histogram("tidegate_log_append_seconds", "Append to durable in the log", FAST_S),
        counter(
            *("tidegate_log_events_total", "Records applied live, by type"),
            each("type", (str(one.__struct_config__.tag) for one in get_args(Event))),
        ),
        counter("tidegate_broker_reconnects_total", "Connections to the broker that were lost or given up"),
        histogram("tidegate_canary_seconds", "A signal of this node to itself through the broker", FAST_S),
        counter("tidegate_deliveries_total", "Events written to sockets"),
        histogram("tidegate_delivery_seconds", "Event accepted to written, for each socket", FAST_S),
        counter("tidegate_slow_sockets_total", "Times a socket fell behind its outbox limit"),
        counter("tidegate_jwks_fetches_total", "Fetches of the issuer's key set", each("outcome", _FETCHES)),
        histogram("tidegate_loop_lag_seconds", "How late the event loop's timers are", FAST_S),
        histogram("tidegate_gc_pause_seconds", "Pauses of the garbage collector", _PAUSE_S, each("generation", "012")),
        counter("tidegate_log_lines_dropped_total", "Lines of the journal left out in a storm", each("event", SESSION_LINES)),
        gauge("tidegate_sessions", "Open sessions", _TRANSPORT),
        gauge("tidegate_sessions_limit", "Connections that this node takes at most"),
        gauge("tidegate_sessions_expiring", "Open sessions whose exp lies within", each("within", (name for name, _ in _AHEAD))),
        gauge("tidegate_sessions_overdue", "Open sessions whose exp lies more than 0.25 s back: there must be none"),
        gauge("tidegate_connections", "Open connections", _TRANSPORT),
        gauge("tidegate_renewal_peak_per_second", "The highest rate of renewals scheduled ahead"),
        gauge("tidegate_handshake_capacity_per_second", "Handshakes that this node admits"),
        gauge("tidegate_outbox_bytes", "Unsent on all sockets"),
        gauge("tidegate_broker_up", "Whether the log can be reached"),
        gauge("tidegate_not_ready", "Whether this keeps the node from being ready", each("reason", REASONS)),
        gauge("tidegate_peers", "Other nodes that are there"),
        gauge("tidegate_peer_draining", "Whether the last word of another node, there or gone, was that it drains", _PEER),
        gauge("tidegate_log_position", "Offset of the last applied record", _PARTITION),
        gauge("tidegate_log_lag_seconds", "For how long something known to stand in the log is not applied", _PARTITION),
        gauge("tidegate_log_unrecorded_events", "Events of the life of sessions that wait for the log"),
        gauge("tidegate_jwks_age_seconds", "Time since the key set was last fetched"),
        gauge("tidegate_jwks_stale_after_seconds", "The age from which on the key set is not gone by"),
        gauge("tidegate_memory_limit_bytes", "What the process may use: its cgroup's limit, or the machine's memory"),
        counter("process_cpu_seconds_total", "Processor time, of all threads"),
        gauge("process_resident_memory_bytes", "Memory that is there"),
        gauge("process_virtual_memory_bytes", "Memory that is reserved"),
        gauge("process_start_time_seconds", "When the process began, since the Unix epoch"),
        gauge("process_open_fds", "Open files, sockets among them"),
        gauge("process_max_fds", "Files that may be open"),
        gauge("tidegate_build_info", "What runs here", joint("version", "python", "node", of=[("", "", "")])),
    )


#: Every metric but `python_info` and `python_gc_*`, by name.
METRICS = {one.name: one for one in _table()}


class Metrics:
    """One node's metrics. Counters and histograms are observed where the thing happens; gauges are read when scraped."""

    def __init__(self, *, node: str, version: str) -> None:
        self._registry = r = Registry(METRICS.values())
        self.handshakes, self.handshake_seconds = (
            r.counters("tidegate_handshakes_total"),
            r.histograms("tidegate_handshake_seconds"),
        )
        self.verify_seconds = r.histograms("tidegate_token_verify_seconds")
        self.token_ttl_seconds = r.histograms("tidegate_token_ttl_seconds").labels()
        self.refreshes = r.counters("tidegate_token_refreshes_total")
        self.expiries = r.counters("tidegate_token_expiries_total")
        self.expiry_lateness = r.histograms("tidegate_expiry_lateness_seconds").labels()
        self.session_ends = r.counters("tidegate_session_ends_total")
        self.reconnect_gap = r.histograms("tidegate_reconnect_gap_seconds")
        self.resumes = r.counters("tidegate_resumes_total")
        self.replayed = r.counters("tidegate_replayed_events_total").labels()
        self.revocations = r.counters("tidegate_revocations_total").labels()
        self.revocation_seconds = r.histograms("tidegate_revocation_seconds").labels()
        self.commands, self.command_seconds = r.counters("tidegate_commands_total"), r.histograms("tidegate_command_seconds")
        self.append_seconds = r.histograms("tidegate_log_append_seconds").labels()
        self.events = r.counters("tidegate_log_events_total")
        self.broker_reconnects = r.counters("tidegate_broker_reconnects_total").labels()
        self.canary_seconds = r.histograms("tidegate_canary_seconds").labels()
        self.last_canary_s: float | None = None  # where there is no broker
        self.deliveries = r.counters("tidegate_deliveries_total").labels()
        self.delivery_seconds = r.histograms("tidegate_delivery_seconds").labels()
        self.slow_sockets = r.counters("tidegate_slow_sockets_total").labels()
        self.jwks_fetches = r.counters("tidegate_jwks_fetches_total")
        self.loop_lag = r.histograms("tidegate_loop_lag_seconds").labels()
        self.gc_pauses = r.histograms("tidegate_gc_pause_seconds")
        self.lines_dropped = r.counters("tidegate_log_lines_dropped_total")
        self.watch, self.before_scrape, self.expose = r.watch, r.before, r.expose
        self.watch(ProcessReadings())
        self.watch(lambda: [("tidegate_build_info", (version, platform.python_version(), node), 1)])

    def handshake(self, namespace: str, transport: str, judged: tuple[str, str, str], seconds: float, example: str = "") -> None:
        """A handshake was answered after so long; `judged` are its outcome, code and source, `example` the lineage of its session."""
        self.handshakes.labels(namespace, transport, *judged).inc()
        self.handshake_seconds.labels(judged[0]).observe(seconds, example)

    def handshake_counts(self) -> dict[str, int]:
        """Handshakes since the start, by outcome."""
        return {"accepted": 0, "refused": 0, "busy": 0} | totals(self.handshakes, "outcome")


def totals(counters: Family[Counter], label: str) -> dict[str, int]:
    """What counters have counted since the start, by one of their labels; without what is nought, or has none there."""
    place, counts = counters.described.label_names.index(label), dict[str, int]()
    for values, counter in counters.children.items():
        if values[place] and counter.value:
            counts[values[place]] = counts.get(values[place], 0) + counter.value
    return counts


def expiring(ending_by: Callable[[int], int], now: int) -> list[tuple[str, int]]:
    """How many sessions end within each span ahead of `now` (ms), asked of `ending_by` for each span's end."""
    return [(name, ending_by(now + 1_000 * seconds)) for name, seconds in _AHEAD]
