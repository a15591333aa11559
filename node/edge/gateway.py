"""Socket.IO on this node: who connects, what each may ask, when each one ends. Handlers of a few lines; the rules are elsewhere."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import parse_qs, unquote

from node.auth.deadlines import Schedule
from node.auth.denied import Denied
from node.core.effects import EndSessions
from node.core.events import EndReason, SessionClosed, SessionOpened
from node.edge import wire
from node.edge.admin import Admin
from node.edge.assembly import Assembly
from node.edge.catching_up import CatchingUp
from node.edge.commands import Chat, CommandQueues
from node.edge.connection import Connection, MalformedPacket
from node.edge.door import Door
from node.edge.engine import EngineServer, Refusal, raw_refusal, refusal_of
from node.edge.entry import Entry
from node.edge.fanout import Fanout
from node.edge.handshake import SCOPES, Accepted, Judge
from node.edge.quota import Quota
from node.edge.renewals import Renewals
from node.edge.roster import Roster
from node.edge.session import ADMIN, CHAT, Session
from node.edge.socket_server import SocketServer
from node.edge.two_step import TwoStep
from node.edge.witness import Witness
from node.spans import Spans

ENGINE_PATH = "/socket.io/"


class Gateway:
    """The sessions of this node, from CONNECT to their end."""

    STATS_EVERY_S = 1.0
    CONNECTS_PER_S, CONNECTS_BURST = 1.0, 10  # of one connection: each is a session in the log, and has passed no door
    REFUSED_GRACE_S = 1.0  # after a refusal, for a client that is about to connect to another namespace

    def __init__(
        self,
        *,
        node: str,
        chat: Chat,
        judge: Judge,
        admin: Admin,
        quota: Quota,
        fanout_of: Callable[["Gateway"], Fanout],
        witness: Witness,
        clock: Callable[[], int],
        entry: Entry,
        origin_allowed: Callable[[str, dict[str, Any]], bool],
        outbox_bytes: int,
        payload_bytes: int,
        schedule: Schedule,
        door: Door,
        connect_timeout_s: float,
        two_step_s: float,
        ping_interval_s: float,
        ping_timeout_s: float,
        transports: tuple[str, ...],
        draw: Callable[[], float],
        spans: Spans | None = None,
    ) -> None:
        self._node, self._chat, self._judge, self._admin = node, chat, judge, admin
        self._witness, self._clock = witness, clock
        self._entry, self._draw = entry, draw
        self._outbox_bytes, self._connect_timeout_s = outbox_bytes, connect_timeout_s
        self.draining = False
        self.fanout = fanout_of(self)
        self.schedule = schedule  # the deadlines of the open sessions
        self.door = door
        self.server = SocketServer(
            name=node,
            high_bytes=outbox_bytes,
            clock=clock,
            admit=self._admit,
            seat=self._seat,
            judge=self._judge_request,
            origin_allowed=origin_allowed,
            max_http_buffer_size=payload_bytes,
            ping_interval=ping_interval_s,
            ping_timeout=ping_timeout_s,
            transports=list(transports),
        )
        engine: EngineServer = self.server.eio
        engine.on_open, engine.on_closed = self._opened, self._closed
        engine.on_message, engine.on_drained = self._message, self._drained
        self._engine = engine
        self.roster = Roster(high=outbox_bytes, polling=engine.polling)
        self._renewals = Renewals(
            schedule,
            judge=judge,
            roster=self.roster,
            chat=chat,
            witness=witness,
            clock=clock,
            remember=engine.remember,
        )
        self._commands = CommandQueues(
            chat=chat, admin=admin, quota=quota, refresh=self._renewals.refresh, witness=witness, clock=clock, spans=spans
        )
        self._catching_up = CatchingUp(chat=chat, witness=witness, clock=clock, start=self._commands.start)
        self._connects = Quota(rate=self.CONNECTS_PER_S, burst=self.CONNECTS_BURST)
        self._assembly = Assembly(payload_bytes)
        self._two_step = TwoStep(
            two_step_s,
            judge=judge,
            witness=witness,
            accept=self._accept,
            turned_away=self._turned_away,
            serves=lambda connection: bool(self.roster.of(connection)),
        )

    # What the rest of the node asks

    def asgi(self, other: Any) -> Any:
        """The ASGI application that takes Engine.IO's path itself and hands every other one to `other`."""
        return self.server.asgi(other)

    def overdue(self, late_ms: int) -> int:
        """How many open sessions are further past their end: their moment is still to come, or has come and has not closed them."""
        return self.schedule.expiring(self._clock() - late_ms) + self.roster.session_count - len(self.schedule)

    def end(self, session_id: str, effect: EndSessions, event: str) -> None:
        """Withdraw a session for good, by an event: told, disconnected, and closed once its connection has no namespace left."""
        session = self.roster.find(session_id)
        if session is None:
            return
        connection, namespace = session.connection, session.namespace
        last_packets = (wire.encode_event(namespace, "auth:revoked", {"code": effect.code}), wire.encode_disconnect(namespace))
        for packet in last_packets:
            connection.put(packet)
        self._finish(session, effect.reason, code=effect.code, withdrawal=event)
        connection.withdrawn.add(namespace)
        if not self.roster.of(connection):
            self._engine.remember(connection, Refusal(401, effect.code, "this session has been withdrawn"), last_packets)
            connection.close(effect.reason)
        self._witness.withdrawn(session, effect)

    async def drain(self, *, batch: int = 200, pause_s: float = 0.05) -> None:
        """Take no more handshakes; tell the sessions in batches and close their transports. Returns when all are closed."""
        self.draining = True
        connections = self.roster.connections
        for start in range(0, len(connections), batch):
            for connection in connections[start : start + batch]:
                for session in self.roster.of(connection).values():
                    session.send("draining", {"retry_after": 500 + int(self._draw() * 1000)})
                connection.close("draining", code=1012)
            await asyncio.sleep(pause_s)

    async def aclose(self) -> None:
        """Stop timers and commands; idempotent."""
        self._renewals.close()
        self._engine.close_heartbeats()
        await self._commands.aclose()

    async def run(self) -> None:
        """Send `stats` to the sessions of `/admin` every second, and say what was not said of the others, for ever."""
        while True:
            await asyncio.sleep(self.STATS_EVERY_S)
            self._witness.tell_left_out()
            watching = [session for session in self.roster.sessions if session.namespace == ADMIN]
            if watching:
                packet, now = wire.encode_event(ADMIN, "stats", self._admin.stats()), self._clock()
                for session in watching:
                    session.deliver(packet, room="", seq=None, now=now)

    # Engine.IO

    def gate(self, url: bytes) -> bytes | bool:
        """See `node.edge.server.Gate`: admission of WebSockets that begin a session, before anything is spent on them."""
        path, _, query = url.decode("ascii", errors="replace").partition("?")
        if not f"{unquote(path).rstrip('/')}/".startswith(ENGINE_PATH) or "sid" in parse_qs(query):  # as Engine.IO will read it
            return False
        refusal = self._admit(query, "websocket")
        return True if refusal is None else raw_refusal(refusal)

    def _admit(self, query: str, transport: str) -> Refusal | None:
        return self._entry.admit(query, transport, connections=self.roster.connection_count, draining=self.draining)

    def _seat(self, transport: str) -> Refusal | None:
        return self._entry.seat(transport, connections=self.roster.connection_count)

    async def _judge_request(self, environ: dict[str, Any], connection: Connection | None) -> Refusal | None:
        """Judge an HTTP request that begins a connection, or one of a connection that polls: a bad one ends it."""
        if connection is None:
            return await self._entry.judge(environ)
        denied = await self._entry.judge_poll(environ, self.roster.of(connection).values())
        if denied is None:
            return None
        refusal = refusal_of(denied)
        if refusal.status == 401:
            self._engine.remember(connection, refusal)
            connection.close("token_expired" if denied.code == "token_expired" else "revoked")
        return refusal

    def _opened(self, connection: Connection) -> None:
        self.roster.opened(connection)
        asyncio.get_running_loop().call_later(self._connect_timeout_s, self._close_if_bare, connection, 0)

    def _close_if_bare(self, connection: Connection, accepted: int) -> None:
        """Close a connection that has no namespace, and has had none since there were `accepted`."""
        if connection.accepted == accepted and self.roster.is_bare(connection) and not self._two_step.waits(connection):
            connection.close("timeout")

    def _closed(self, connection: Connection, reason: EndReason) -> None:
        for session in self.roster.closed(connection):
            self._finish(session, reason)
        self._assembly.drop(connection)
        for namespace, sid in self._two_step.drop(connection).items():
            self.server.manager.basic_disconnect(sid, namespace)

    def _drained(self, connection: Connection) -> None:
        for session in self.roster.of(connection).values():
            for room, after in session.drained():
                session.send("resync", {"room": room, "after": after})

    async def _message(self, connection: Connection, message: str | bytes) -> None:
        try:
            packet = self._assembly.take(connection, message)
        except wire.Malformed as error:
            raise MalformedPacket(str(error)) from None
        if packet is None:
            return
        if packet.type is wire.Type.CONNECT:
            await self._connect(connection, packet)
            return
        session = self.roster.of(connection).get(packet.namespace)
        if session is None:
            if packet.namespace in connection.withdrawn:
                return
            if not self._two_step.waits(connection, packet.namespace):
                raise MalformedPacket("a packet for a namespace that is not connected")
            await self._two_step.take(connection, packet)
        elif packet.type is wire.Type.DISCONNECT:
            self._leave(session)
        elif packet.type in (wire.Type.EVENT, wire.Type.BINARY_EVENT):
            await self._commands.put(session, packet.id, packet.data)

    # A session's beginning

    async def _connect(self, connection: Connection, packet: wire.Packet) -> None:
        namespace, began_s = packet.namespace, time.perf_counter()
        await connection.drained()  # each is answered, and may bring replays
        if namespace not in SCOPES:
            connection.put(wire.encode_connect_error(namespace, "Invalid namespace"))
            self._refused(connection)
            return
        if namespace in self.roster.of(connection) or self._two_step.waits(connection, namespace):
            raise MalformedPacket("already connected to this namespace")
        wait_ms = self._connects.take(connection.sid, self._clock())
        verdict: Accepted | Denied
        if wait_ms:
            verdict = Denied("server_busy", "too many CONNECTs", retry_after=wait_ms)
        else:
            verdict = await self._judge.connect(namespace, packet.data, connection.environ)
        if self.draining:
            connection.close("draining", code=1012)
        if connection.closed:  # while the token's key was fetched
            return
        if namespace in self.roster.of(connection):
            raise MalformedPacket("already connected to this namespace")
        if isinstance(verdict, Denied) and verdict.code == "token_missing" and self._two_step.on:
            sid = await self.server.manager.connect(connection.sid, namespace)
            self._two_step.begin(connection, namespace, sid)
            connection.put(wire.encode_connect(namespace, sid))
            return
        if isinstance(verdict, Denied):
            self._witness.judged(namespace, connection.transport, verdict, began_s)
            connection.put(wire.encode_connect_error(namespace, verdict.message, wire.denial_data(verdict)))
            self._refused(connection)
        else:
            sid = await self.server.manager.connect(connection.sid, namespace)
            await self._accept(connection, namespace, verdict, began_s, sid=sid, greeting=wire.encode_connect(namespace, sid))

    def _turned_away(
        self, connection: Connection, namespace: str, sid: str, why: Denied | None, last_packets: Sequence[str]
    ) -> None:
        """A socket that had connected bare has no more chance; its connection is closed unless it serves another namespace."""
        self.server.manager.basic_disconnect(sid, namespace)
        if not self.roster.of(connection) and not self._two_step.waits(connection):
            if why is not None:
                self._engine.remember(connection, refusal_of(why), last_packets)
            connection.close("timeout")

    def _refused(self, connection: Connection) -> None:
        grace_s = min(self.REFUSED_GRACE_S, self._connect_timeout_s)
        asyncio.get_running_loop().call_later(grace_s, self._close_if_bare, connection, connection.accepted)

    async def _accept(
        self, connection: Connection, namespace: str, verdict: Accepted, began_s: float, *, sid: str, greeting: str
    ) -> None:
        """Begin a session: `greeting` says that it was accepted, `welcome` what it needs to know."""
        now, principal = self._clock(), verdict.principal
        resumes = verdict.resume.session if verdict.resume else ""
        before, new = self._chat.session_of(resumes, principal.user) if resumes else None, self._chat.new_id()
        session = Session(
            id=new,
            lineage=before.root if before is not None else new,
            sid=sid,
            connection=connection,
            namespace=namespace,
            principal=principal,
            opened_at=now,
            high=self._outbox_bytes,
            on_slow=self._witness.metrics.slow_sockets.inc,
        )
        self.roster.add(session)
        connection.accepted += 1
        self._renewals.place(session, now)
        resumed, event = before is not None, self._chat.new_id()
        self._witness.opened(session, before, event)
        self._chat.record(
            SessionOpened(
                id=event,
                at=now,
                by=principal.user,
                session=session.id,
                node=self._node,
                namespace=namespace,
                transport=connection.transport,
                expires_at=principal.expires_at,
                issued_at=principal.issued_at,
                jti=principal.jti,
                resumes=resumes if resumed else None,
            )
        )
        rooms = self._chat.welcome_rooms(principal.user) if namespace == CHAT else []
        if namespace == CHAT:
            self.fanout.attach(session, [room["room"] for room in rooms])
        connection.put(greeting, session)
        session.send("welcome", self._welcome(session, rooms, resumed=resumed, now=now))
        if namespace == ADMIN:
            session.send("stats", self._admin.stats())  # and then every second
        self._witness.judged(namespace, connection.transport, verdict, began_s, session.lineage)
        await self._catching_up.begin(session, verdict.resume if namespace == CHAT else None)

    def _welcome(self, session: Session, rooms: list[dict[str, Any]], *, resumed: bool, now: int) -> dict[str, Any]:
        return {
            "session": session.id,
            "node": self._node,
            "user": session.principal.user,
            "expires_at": session.principal.expires_at,
            "refresh_at": session.refresh_at,
            "server_time": now,
            "resumed": resumed,
            "ticket": self.door.tickets.make(session.id, now),
            "rooms": rooms,
        }

    # A session's end

    def _leave(self, session: Session) -> None:
        self._finish(session, "client")
        self._refused(session.connection)

    def _finish(self, session: Session, reason: EndReason, **because: str) -> None:
        """Forget a session. Idempotent. `because` is for the journal."""
        if session.ended is not None:
            return
        # 1. nothing is carried out or delivered for it from here on
        session.ended = reason
        session.queue.clear()
        session.has_room.set()
        if session.reaching is not None:
            session.reaching.cancel()
        # 2. no index leads to it
        self._renewals.drop(session)
        self.roster.drop(session)
        self.fanout.detach(session)
        self.server.manager.basic_disconnect(session.sid, session.namespace)
        # 3. the log, the metrics and the journal know
        event = self._chat.new_id()
        self._witness.ended(session, reason, event, because)
        self._chat.record(SessionClosed(id=event, at=self._clock(), by=session.principal.user, session=session.id, reason=reason))
