"""The composition root: the only file that names every part of a node and hands them to each other.

The order of the exit stack is the lifecycle: what is entered last is left first.
"""

import asyncio
import contextlib
import gc
import random
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, AsyncExitStack
from importlib.metadata import version
from typing import Any

import structlog

from broker.log import Broker
from broker.topology import control_partition
from node.auth.admission import Admission
from node.auth.configured import check_supported, key_source, policy_of, token_life
from node.auth.deadlines import Schedule
from node.auth.jwks import IssuerKeys
from node.auth.levelling import Levels
from node.auth.tickets import Tickets, ticket_keys
from node.auth.tokens import sign
from node.auth.verifier import Verifier
from node.config import Settings
from node.core.effects import Applied, Effect, Lost
from node.core.errors import Refused
from node.core.events import ControlEvent, Event, NodeStarted, TokensRevoked, UserSuspended
from node.core.view import session_revoked
from node.edge.admin import Admin, AdminFace
from node.edge.door import Door
from node.edge.entry import Entry
from node.edge.fanout import Fanout
from node.edge.gateway import Gateway
from node.edge.handshake import Judge
from node.edge.http import HttpFace, http_app, metrics_app
from node.edge.listener import bind
from node.edge.origins import Origins
from node.edge.quota import Quota
from node.edge.server import Server, make_server
from node.edge.witness import Witness
from node.flow.chat import ChatFlow
from node.flow.committer import Committer
from node.flow.ids import id_maker
from node.flow.lag import positions_of
from node.flow.presence import Presence
from node.flow.projector import Projector
from node.flow.queries import Queries
from node.flow.store import Store, open_store
from node.gc_pauses import watched
from node.loop_lag import measure_loop_lag
from node.metrics import Metrics
from node.opening import held, open_broker, tracing
from node.spans import Spans
from node.status import Status

VERSION = version("tidegate")
OTHER_CONNECTIONS = 2_048  # TCP connections beside the sessions: handshakes, the API, scrapers
SCRAPERS, SCRAPE_S = 64, 10.0  # TCP connections to a port of metrics, and what a request there may take
RESUMABLE_MS = 600_000  # how long after its end a session still counts as one that is coming back
SWEEP_S = 3_600.0
RECORD_S = 2.0  # what the last closes of sessions may take to reach the log at the end
GC_THRESHOLD = (
    50_000,
    20,
    100,
)  # the view is a large, lasting heap: at the defaults a third of a cold start goes into walking it
_log = structlog.get_logger()


def clock() -> int:
    """Milliseconds since the Unix epoch: the only clock of a node."""
    return time.time_ns() // 1_000_000


def _url(host: str, listener: socket.socket) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"


async def serve(settings: Settings, *, announce: Callable[[str], None] = print) -> None:
    """Run one node until SIGTERM or SIGINT has drained it.

    Raises `ConfigurationError`, `OSError` (the port), `LogUnavailable` or `LogDiverged` when it cannot start.
    """
    check_supported(settings)
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (most_files, most_files)
    )  # each socket is one; the usual 1,024 are for old programs
    gc.set_threshold(*GC_THRESHOLD)
    async with AsyncExitStack() as stack:
        ports = [settings.port] if settings.metrics_port is None else [settings.port, settings.metrics_port]
        listener, *metrics_listener = [stack.enter_context(contextlib.closing(bind(settings.host, port))) for port in ports]
        stack.enter_context(held(settings.data / f"{settings.node_id}.db.lock"))
        metrics = Metrics(node=settings.node_id, version=VERSION)
        stack.enter_context(watched(lambda generation, seconds: metrics.gc_pauses.labels(generation).observe(seconds)))
        broker = await stack.enter_async_context(open_broker(settings, metrics))
        model = settings.data / f"{settings.node_id}.db"
        spans = stack.enter_context(tracing(settings, VERSION))
        store = await stack.enter_async_context(open_store(model, epoch=broker.log.epoch))
        node = Node(settings, broker, store, metrics=metrics, spans=spans)
        stack.push_async_callback(node.aclose)
        announce(f"tidegate node {settings.node_id} listening on {_url(settings.host, listener)}")
        for one in metrics_listener:
            announce(f"tidegate node {settings.node_id} has its metrics on {_url(settings.host, one)}/metrics")
        await node.run(listener, *metrics_listener)


class Node:
    """The parts of one node. `clock` is the only one they have for what they judge, promise and record."""

    def __init__(
        self,
        settings: Settings,
        broker: Broker,
        store: Store,
        *,
        metrics: Metrics | None = None,
        spans: Spans | None = None,
        clock: Callable[[], int] = clock,
    ) -> None:
        self._settings, self._store, self._spans, self._clock = settings, store, spans, clock
        self._stopping = asyncio.Event()
        self._new_id = id_maker(clock)
        self.metrics = metrics or Metrics(node=settings.node_id, version=VERSION)
        self.projector = Projector(broker.log, store, self, clock=clock)
        self.status = self._make_status(broker)
        self.committer = self._make_committer(broker)
        self.presence = self._make_presence(broker)
        self.chat = self._make_chat()
        self._door = _door(settings, store, broker.log.epoch)
        self._quota = Quota(rate=settings.limits.commands_per_second, burst=settings.limits.commands_burst)
        self._origins = Origins(settings.origins, settings.peers)
        self._keys = key_source(settings, lambda outcome: self.metrics.jwks_fetches.labels(outcome).inc())
        self._judge = self._make_judge()
        self._witness = Witness(self.metrics, clock, spans.current if spans is not None else str)
        self._admin = self._make_admin()
        self.gateway = self.status.gateway = self._make_gateway()
        self.status.presence, self.status.committer = self.presence, self.committer
        self.metrics.watch(self.status.gauges)
        if isinstance(self._keys, IssuerKeys):
            self.metrics.watch(self._keys.gauges)
        self._server = self._make_server()

    async def run(self, listener: socket.socket, metrics_listener: socket.socket | None = None) -> None:
        """Serve until a signal has drained it; a part that fails ends it with its error."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(self.projector.run(), name="projector"),
                tasks.create_task(self._store.run(self.projector.ready), name="store"),
                tasks.create_task(self._sweep(), name="sweep"),
                tasks.create_task(self.presence.run(), name="presence"),
                tasks.create_task(self.gateway.run(), name="stats"),
                tasks.create_task(measure_loop_lag(self._late), name="loop-lag"),
                tasks.create_task(self.status.watch.run(), name="watch"),
                tasks.create_task(self._begin(), name="begin"),
                tasks.create_task(self._leave_when_diverged(), name="diverged"),
            ]
            if isinstance(self._keys, IssuerKeys):
                background.append(tasks.create_task(self._keys.run(), name="keys"))
            recording = tasks.create_task(self.committer.run(), name="committer")
            stopping = tasks.create_task(self._stop(), name="stop")
            if metrics_listener is not None:
                background.append(tasks.create_task(self._serve_metrics(metrics_listener), name="metrics"))
            await self._server.serve(sockets=[listener])
            await self.committer.recorded(limit_s=RECORD_S)
            for task in (*background, recording, stopping):
                task.cancel()

    async def _serve_metrics(self, listener: socket.socket) -> None:
        """The port that has the metrics alone, until cancelled: a drain is seen there to its end."""
        server = make_server(
            metrics_app(self.metrics.expose), lambda _: False, payload_bytes=1, most_connections=SCRAPERS, request_s=SCRAPE_S
        )
        await server.serve(sockets=[listener])

    async def aclose(self) -> None:
        """Stop what `run` left behind; idempotent."""
        self.presence.close()
        await self.gateway.aclose()

    # What the projector tells (see `node.flow.projector.Hearers`)

    def settle(self, outcome: Applied | Lost) -> None:
        """Answer whoever waits here."""
        self.committer.settle(outcome)

    def perform(self, event: Event, effects: Sequence[Effect]) -> None:
        """Carry out the effects of an event."""
        self.gateway.fanout.perform(event, effects)

    def count(self, event: Event) -> None:
        """Count an applied event."""
        self.metrics.events.labels(event.__struct_config__.tag).inc()  # type: ignore[arg-type]  # our tags are words
        if isinstance(event, TokensRevoked | UserSuspended):
            self.metrics.revocations.inc()
            _log.info("withdrawn", kind=event.__struct_config__.tag, id=event.id, by=event.by)

    # Lifecycle

    async def _begin(self) -> None:
        """Once level with the log: tell the cluster that this process is a new one."""
        await self.projector.ready.wait()
        self.presence.begin()
        self.chat.record(NodeStarted(id=self._new_id(), at=self._clock(), by=self._settings.node_id))
        unit, position = self.status.stands()
        _log.info("ready", node=self._settings.node_id, applied=self.projector.applied, position=position, unit=unit)

    async def _sweep(self) -> None:
        """Forget the withdrawals that are over, once level with the log and from time to time, for ever."""
        await self.projector.ready.wait()
        while True:
            forgotten = self._store.sweep(self._clock())
            if forgotten:
                _log.info("withdrawals that are over are forgotten", withdrawals=forgotten)
            await asyncio.sleep(SWEEP_S)

    async def _leave_when_diverged(self) -> None:
        await self.projector.has_diverged.wait()
        await self.gateway.drain()

    async def _stop(self) -> None:
        await self._stopping.wait()
        self.gateway.draining = True
        self.presence.beat()  # a node with few sessions has ended before its next beat
        _log.info("draining", node=self._settings.node_id, sessions=self.gateway.roster.session_count)
        async with asyncio.timeout(self._settings.drain_seconds or None) as limit:
            await self.gateway.drain()
        if limit.expired():
            _log.warning("the drain took too long", sessions=self.gateway.roster.session_count)
        self._server.should_exit = True

    # What others ask of the node

    async def _withdraw(self, event: ControlEvent) -> Refused | None:
        outcome = await self.committer.withdraw(event)
        return outcome if isinstance(outcome, Refused) else None

    def _issue(self, user: str, ttl_s: float, scope: str | None) -> tuple[str, int]:
        """A token of the dev issuer, signed with the first configured key."""
        settings = self._settings
        kid, secret = next(iter(settings.jwt_secret.items()))
        now_s = self._clock() / 1000
        claims = {"sub": user, "iat": now_s, "exp": now_s + ttl_s, "jti": self._new_id()}
        given = {"iss": settings.token_issuer, "aud": settings.jwt_audience, "scope": scope}
        claims |= {name: value for name, value in given.items() if value is not None}
        return sign(claims, secret, kid=kid), int((now_s + ttl_s) * 1000)

    def _late(self, lag_s: float) -> None:
        self.metrics.loop_lag.observe(lag_s)
        self.status.late(lag_s)
        self._door.look(lag_s)

    def _traced(self, name: str, traceparent: str | None) -> AbstractContextManager[str]:
        return contextlib.nullcontext("") if self._spans is None else self._spans.command(name, "", traceparent)

    def _tell_users(self, users: Iterable[str], name: str, payload: dict[str, Any]) -> None:
        self.gateway.fanout.tell_users(users, name, payload)

    def _deliver(self, room: str, name: str, payload: dict[str, Any]) -> None:
        self.gateway.fanout.deliver(room, name, payload, seq=None)

    # Assembly

    def _make_status(self, broker: Broker) -> Status:
        return Status(
            version=VERSION,
            broker=broker,
            store=self._store,
            projector=self.projector,
            metrics=self.metrics,
            most_sessions=self._settings.max_sessions,
            clock=self._clock,
        )

    def _make_committer(self, broker: Broker) -> Committer:
        settings = self._settings
        return Committer(
            log=broker.log,
            view=self._store,
            room_partitions=settings.partitions,
            control_partition=control_partition(settings.partitions),
            limits=settings.limits,
            clock=self._clock,
            new_id=self._new_id,
            lag=self.projector.lag,
            observe_append=self.metrics.append_seconds.observe,
            spans=self._spans,
        )

    def _make_presence(self, broker: Broker) -> Presence:
        return Presence(
            node=self._settings.node_id,
            view=self._store,
            signals=broker.signals,
            limits=self._settings.limits,
            clock=self._clock,
            state=self.status.state,
            tell_users=self._tell_users,
            deliver=self._deliver,
            drain=self._stopping.set,
            heard=lambda state: self.projector.claimed(positions_of(state)),
        )

    def _make_chat(self) -> ChatFlow:
        queries = Queries(self._store, limits=self._settings.limits, online=self.presence.online)
        return ChatFlow(
            store=self._store,
            projector=self.projector,
            room_partitions=self._settings.partitions,
            committer=self.committer,
            queries=queries,
            presence=self.presence,
            new_id=self._new_id,
        )

    def _make_admin(self) -> Admin:
        return Admin(
            AdminFace(
                clock=self._clock,
                new_id=self._new_id,
                withdraw=self._withdraw,
                life=token_life(self._settings),
                view=self._store,
                sessions=self._store.sessions,
                drain=self.presence.ask_to_drain,
                stats=self.status.cluster,
            )
        )

    def _make_server(self) -> Server:
        settings = self._settings
        return make_server(
            self._asgi(),
            self.gateway.gate,
            payload_bytes=settings.limits.payload_bytes,
            most_connections=settings.max_sessions + OTHER_CONNECTIONS,
            request_s=4 * settings.connect_timeout_seconds,
        )

    def _make_judge(self) -> Judge:
        def observe(alg: str, cache: str, seconds: float) -> None:
            self.metrics.verify_seconds.labels(alg, cache).observe(seconds)

        verifier = Verifier(self._keys, policy_of(self._settings), clock=self._clock, observe=observe)
        return Judge(
            verifier=verifier,
            sources=self._settings.token_sources,
            view=self._store,
            clock=self._clock,
            own_page=lambda environ: self._origins.own(environ.get("HTTP_ORIGIN"), environ.get("HTTP_HOST", "")),
        )

    def _make_gateway(self) -> Gateway:
        settings = self._settings

        def fanout_of(gateway: Gateway) -> Fanout:
            return Fanout(
                clock=self._clock,
                metrics=self.metrics,
                end=gateway.end,
                sessions_changed=self.presence.sessions_changed,
                spans=self._spans,
            )

        return Gateway(
            node=settings.node_id,
            chat=self.chat,
            judge=self._judge,
            admin=self._admin,
            quota=self._quota,
            fanout_of=fanout_of,
            witness=self._witness,
            clock=self._clock,
            entry=Entry(
                judge=self._judge,
                door=self._door,
                handshake=settings.handshake,
                max_connections=settings.max_sessions,
                ready=self.status.refusing,
                witness=self._witness,
                clock=self._clock,
                draw=random.random,
            ),
            origin_allowed=lambda origin, environ: self._origins.allowed(origin, environ.get("HTTP_HOST", "")),
            outbox_bytes=settings.limits.outbox_bytes,
            payload_bytes=settings.limits.payload_bytes,
            door=self._door,
            schedule=Schedule(Levels(round(settings.refresh_window_seconds * 1000))),
            connect_timeout_s=settings.connect_timeout_seconds,
            two_step_s=settings.two_step_seconds,
            ping_interval_s=settings.ping_interval_seconds,
            ping_timeout_s=settings.ping_timeout_seconds,
            transports=settings.transports,
            draw=random.random,
            spans=self._spans,
        )

    def _asgi(self) -> Any:
        """`/socket.io/` to the gateway, everything else to the HTTP face."""
        settings = self._settings
        face = HttpFace(
            node=settings.node_id,
            version=VERSION,
            peers=settings.peers,
            payload_bytes=settings.limits.payload_bytes,
            ready=self.status.refusing,
            not_ready=self.status.not_ready,
            origin_allowed=lambda origin, host, _: self._origins.allowed(origin, host),
            judge=lambda token, scope: self._judge.token(token, scope=scope),
            take_quota=lambda user: self._quota.take(user, self._clock()),
            submit=self.chat.submit,
            answer=self.chat.answer,
            revoke=lambda body, principal: self._admin.carry_out("revoke", [body], principal),
            cluster=self.status.cluster,
            expose=self.metrics.expose if settings.metrics_port is None else None,
            traced=self._traced,
            answered=lambda user, command, outcome, seconds, trace: self._witness.answered(
                None, command, outcome, seconds, trace=trace, user=user
            ),
            dev_issuer=self._issue if settings.dev_issuer else None,
        )
        return self.gateway.asgi(http_app(face))


def _door(settings: Settings, store: Store, epoch: str) -> Door:
    def resumable(session: str, now: int) -> bool:
        found = store.session(session)
        if found is None or session_revoked(store, session, now):
            return False
        return found.closed_at is None or now - found.closed_at <= RESUMABLE_MS

    admission = Admission(rate=settings.handshake_rate, burst=settings.handshake_burst, draw=random.random)
    return Door(admission, Tickets(ticket_keys(settings.jwt_secret.values(), epoch), resumable))
