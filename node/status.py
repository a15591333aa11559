"""What a node tells of itself: whether it is ready, its state for the cluster, its gauges."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from broker.log import Broker
from node.auth.forecast import Forecast, added, forecast
from node.edge.gateway import Gateway
from node.exposition import Reading
from node.flow.committer import Committer
from node.flow.presence import SUMMED, Presence
from node.flow.projector import Projector
from node.flow.store import Store
from node.loop_lag import EVERY_S
from node.memory_limit import memory_limit
from node.metrics import MOST_PEERS, REASONS, Metrics, expiring, totals
from node.watch import Watch

LATELY_S = 5.0  # over which the worst lag of the event loop is told
OVERDUE_MS = 250  # past its end a session is closed within this (PROTOCOL section 5)


class Status:
    """Reads the parts of one node; changes nothing."""

    def __init__(
        self,
        *,
        version: str,
        broker: Broker,
        store: Store,
        projector: Projector,
        metrics: Metrics,
        most_sessions: int,
        clock: Callable[[], int],
    ) -> None:
        self._version, self._broker, self._log, self._store, self._projector = version, broker, broker.log, store, projector
        self._metrics, self._most_sessions, self._clock = metrics, most_sessions, clock
        self._started_at = clock()
        self._forecast_of: tuple[int, Forecast] = (0, {})  # the second of its counting
        self._loop_lag_s: deque[float] = deque([0.0], maxlen=round(LATELY_S / EVERY_S))
        self._memory_limit = memory_limit()
        self.watch = Watch(self.not_ready)
        self.gateway: Gateway
        self.presence: Presence
        self.committer: Committer

    def not_ready(self) -> dict[str, str]:
        """What keeps the node from being ready, with words for people; empty when it is (`/readyz`)."""
        reasons = {}
        if self._projector.diverged is not None:
            reasons["diverged"] = self._projector.diverged
        elif not self._log.up:
            reasons["log away"] = "the event log cannot be reached"
        elif (deaf := self._broker.deaf) is not None:
            reasons["deaf"] = deaf
        if not self._projector.ready.is_set():
            done, total = self._projector.progress()
            reasons["catching up"] = f"{done} of {total} {self._log.unit}s"
        if self.committer.is_full:
            reasons["log behind"] = f"{self.committer.unrecorded} events of the life of sessions wait for the log"
        if self._store.fault is not None:
            reasons["read model"] = self._store.fault
        if self.gateway.draining:
            reasons["draining"] = "this node is being stopped"
        return reasons

    def refusing(self) -> str | None:
        """Why no handshake is taken now. A log that is away is no reason, until too much waits for it: who is here can still read."""
        reasons = self.not_ready()
        return next((name for name in ("draining", "diverged", "catching up", "log behind") if name in reasons), None)

    def late(self, lag_s: float) -> None:
        """The event loop was late by so much."""
        self._loop_lag_s.append(lag_s)

    def state(self) -> dict[str, Any]:
        """What this node tells the others: its entry in `/api/cluster`, and what it adds to the cluster's forecast."""
        partitions, not_ready, now = range(self._log.partitions), self.not_ready(), self._clock()
        schedule, metrics = self.gateway.schedule, self._metrics
        return {
            "version": self._version,
            "started_at": self._started_at,
            "ready": not not_ready,
            "not_ready": not_ready,
            "sessions": self.gateway.roster.session_count,
            "connections": self.gateway.roster.connections_by_transport(),
            "expiring": dict(expiring(schedule.expiring, now)),
            "forecast": self._forecast(now),
            "renewal_peak_per_second": schedule.levels.peak_per_second(now),
            "handshake_capacity_per_second": round(self.gateway.door.capacity(), 1),
            "handshakes": metrics.handshake_counts(),
            "handshake_codes": totals(metrics.handshakes, "code"),
            "renewals": totals(metrics.refreshes, "outcome"),
            "session_ends": totals(metrics.session_ends, "reason"),
            "positions": {str(p): self._store.position(p).offset for p in partitions},
            "lag_seconds": max(map(self.lag_seconds, partitions)),
            "loop_lag_seconds": round(max(self._loop_lag_s), 4),
            "log_up": self._log.up,
            "canary_seconds": metrics.last_canary_s,
            "unrecorded": self.committer.unrecorded,
            **self.gateway.roster.outboxes(),
        }

    def _forecast(self, now: int) -> Forecast:
        """Counted once a second: a heartbeat and an operator's page want it at about the same time."""
        second, schedule = now // 1_000, self.gateway.schedule
        if self._forecast_of[0] != second:
            self._forecast_of = second, forecast(schedule.end_seconds, schedule.levels.seconds, now)
        return self._forecast_of[1]

    def cluster(self) -> dict[str, Any]:
        """All nodes that are there, and those that were lately: `/api/cluster`, and `stats` on `/admin`."""
        nodes, now = dict(sorted(self.presence.nodes().items())), self._clock()
        return {
            "at": now,
            "nodes": {name: _without_forecast(state) for name, state in nodes.items()},
            "gone": dict(sorted(self.presence.gone().items())),
            "sessions": sum(state.get("sessions", 0) for state in nodes.values()),
            "forecast": added((state.get("forecast") for state in nodes.values()), now),
            "renewal_peak_per_second": sum(state.get("renewal_peak_per_second", 0) for state in nodes.values()),  # at most
            "handshake_capacity_per_second": round(
                sum(state.get("handshake_capacity_per_second", 0.0) for state in nodes.values()), 1
            ),
            **{name: _sums(state.get(name, {}) for state in nodes.values()) for name in SUMMED},
            "lag_seconds": max(state.get("lag_seconds", 0.0) for state in nodes.values()),
            "log": {"epoch": self._log.epoch, "partitions": self._log.partitions, "up": self._log.up},
        }

    def gauges(self) -> Iterable[Reading]:
        """The gauges of live state."""
        yield from self._session_gauges()
        yield "tidegate_broker_up", (), float(self._log.up)
        not_ready = self.not_ready()
        for reason in REASONS:
            yield "tidegate_not_ready", (reason,), float(reason in not_ready)
        yield "tidegate_peers", (), self.presence.peers()
        for node, draining in sorted(self.presence.draining().items())[:MOST_PEERS]:
            yield "tidegate_peer_draining", (node,), float(draining)
        yield "tidegate_log_unrecorded_events", (), self.committer.unrecorded
        for partition in range(self._log.partitions):
            label = (str(partition),)
            yield "tidegate_log_position", label, self._store.position(partition).offset
            yield "tidegate_log_lag_seconds", label, self.lag_seconds(partition)
        yield "tidegate_memory_limit_bytes", (), self._memory_limit

    def stands(self) -> tuple[str, int]:
        """What the log counts in, and how many of them stand in what was applied, over all partitions."""
        count = self._log.ordinal
        return self._log.unit, sum(count(self._store.position(p).offset) for p in range(self._log.partitions))

    def _session_gauges(self) -> Iterable[Reading]:
        gateway, now = self.gateway, self._clock()  # there may be 10,000 sessions: what looks at each of them takes milliseconds
        for transport, sessions in gateway.roster.sessions_by_transport().items():
            yield "tidegate_sessions", (transport,), sessions
        for transport, connections in gateway.roster.connections_by_transport().items():
            yield "tidegate_connections", (transport,), connections
        yield "tidegate_sessions_limit", (), self._most_sessions
        yield "tidegate_sessions_overdue", (), gateway.overdue(OVERDUE_MS)
        for within, count in expiring(gateway.schedule.expiring, now):
            yield "tidegate_sessions_expiring", (within,), count
        yield "tidegate_renewal_peak_per_second", (), gateway.schedule.levels.peak_per_second(now)
        yield "tidegate_handshake_capacity_per_second", (), gateway.door.capacity()
        yield "tidegate_outbox_bytes", (), gateway.roster.outboxes()["outbox_bytes"]

    def lag_seconds(self, partition: int) -> float:
        """How far this node is behind what it knows of the log; while the log is away, or says nothing, that grows all the same."""
        now = asyncio.get_running_loop().time()
        away = max(self.watch.lasts("log away", now), self.watch.lasts("deaf", now))
        return max(away, self._projector.lag_seconds(partition))


def _without_forecast(state: dict[str, Any]) -> dict[str, Any]:
    """What is told of one node: a forecast is told of all together."""
    return {name: value for name, value in state.items() if name != "forecast"}


def _sums(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for one in counts:
        for name, count in one.items():
            total[name] = total.get(name, 0) + count
    return total
