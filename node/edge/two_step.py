"""Sockets that have connected without a token and have to send `authenticate` in time: the way of socketio-jwt's clients."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from node.auth.denied import Denied
from node.edge import wire
from node.edge.connection import Connection
from node.edge.handshake import Accepted, Judge
from node.edge.witness import Witness

AUTHENTICATE = "authenticate"
LATE = Denied("authentication_timeout", "no token was sent in time")


RETRY = (
    "authentication_timeout",
    "keys_unavailable",
)  # a stock client comes back after a transport's end, not after a DISCONNECT


class Accept(Protocol):
    """Begins a session on a judged handshake."""

    def __call__(
        self, connection: Connection, namespace: str, verdict: Accepted, began_s: float, *, sid: str, greeting: str
    ) -> Awaitable[None]: ...


class TwoStep:
    """Who has to authenticate, by connection and namespace, and until when.

    `accept` is called for who did, `turned_away(connection, namespace, sid, why, last_packets)` for who did not, was refused (`why`,
    told by these packets) or has left; `serves` says whether a connection has accepted namespaces.
    """

    def __init__(
        self,
        limit_s: float,
        *,
        judge: Judge,
        witness: Witness,
        accept: Accept,
        turned_away: Callable[[Connection, str, str, Denied | None, Sequence[str]], None],
        serves: Callable[[Connection], bool],
    ) -> None:
        self._limit_s, self._judge, self._witness, self._serves = limit_s, judge, witness, serves
        self._accept, self._turned_away = accept, turned_away
        self._waiting: dict[Connection, dict[str, tuple[str, asyncio.TimerHandle]]] = {}

    @property
    def on(self) -> bool:
        """Whether a socket may connect bare at all."""
        return self._limit_s > 0

    def begin(self, connection: Connection, namespace: str, sid: str) -> None:
        """A socket has connected bare under this Socket.IO id."""
        began_s = time.perf_counter()
        timer = asyncio.get_running_loop().call_later(self._limit_s, self._refuse, connection, namespace, LATE, began_s)
        self._waiting.setdefault(connection, {})[namespace] = (sid, timer)

    def waits(self, connection: Connection, namespace: str | None = None) -> bool:
        """Whether anyone has to authenticate there."""
        waiting = self._waiting.get(connection, {})
        return bool(waiting) if namespace is None else namespace in waiting

    async def take(self, connection: Connection, packet: wire.Packet) -> None:
        """A packet of a socket that waits: its token, or what has to wait for that."""
        namespace = packet.namespace
        if packet.type is wire.Type.DISCONNECT:
            sid = self._end(connection, namespace)
            if sid is not None:
                self._turned_away(connection, namespace, sid, None, ())
            return
        if packet.type not in (wire.Type.EVENT, wire.Type.BINARY_EVENT):
            return
        name, *arguments = packet.data
        if name != AUTHENTICATE:
            await connection.drained()  # who does not read his answers gets no more of them
            first = Denied("token_missing", f"send {AUTHENTICATE} first")
            _answer(connection, packet, {"ok": False, "error": {"message": first.message, **wire.denial_data(first)}})
            return
        began_s = time.perf_counter()
        verdict = await self._judge.connect(namespace, arguments[0] if arguments else None, connection.environ)
        if isinstance(verdict, Denied):
            _answer(connection, packet, {"ok": False, "error": {"message": verdict.message, **wire.denial_data(verdict)}})
            self._refuse(connection, namespace, verdict, began_s)
            return
        sid = self._end(connection, namespace)
        if sid is not None:  # or its time was over while the token's key was fetched
            told = {"user": verdict.principal.user, "expires_at": verdict.principal.expires_at}
            _answer(connection, packet, {"ok": True, **told})
            greeting = wire.encode_event(namespace, "authenticated", told)
            await self._accept(connection, namespace, verdict, began_s, sid=sid, greeting=greeting)

    def _refuse(self, connection: Connection, namespace: str, denied: Denied, began_s: float) -> None:
        sid = self._end(connection, namespace)
        if sid is None:  # its time was over while the token's key was fetched
            return
        self._witness.judged(namespace, connection.transport, denied, began_s)
        last_packets = [wire.encode_event(namespace, "unauthorized", unauthorized(denied))]
        if denied.code not in RETRY or self._serves(connection):
            last_packets.append(wire.encode_disconnect(namespace))
        for packet in last_packets:
            connection.put(packet)
        self._turned_away(connection, namespace, sid, denied, last_packets)

    def _end(self, connection: Connection, namespace: str) -> str | None:
        """It is decided, one way or the other: the socket's Socket.IO id, or None where nobody waits any more."""
        waiting = self._waiting.get(connection, {})
        sid, timer = waiting.pop(namespace, (None, None))
        if timer is not None:
            timer.cancel()
        if not waiting:
            self._waiting.pop(connection, None)
        return sid

    def drop(self, connection: Connection) -> dict[str, str]:
        """The connection is closed; returns who waited there: Socket.IO ids by namespace. Idempotent."""
        waiting = self._waiting.pop(connection, {})
        for _, timer in waiting.values():
            timer.cancel()
        return {namespace: sid for namespace, (sid, _) in waiting.items()}


def _answer(connection: Connection, packet: wire.Packet, answer: dict[str, Any]) -> None:
    if packet.id is not None:
        connection.put(wire.encode_ack(packet.namespace, packet.id, answer))


def unauthorized(denied: Denied) -> dict[str, Any]:
    """The payload of `unauthorized`, as a client written for socketio-jwt reads it."""
    data: dict[str, Any] = {"type": "UnauthorizedError", "code": denied.code, "message": denied.message}
    if denied.retry_after is not None:
        data["retry_after"] = denied.retry_after
    return {"message": denied.message, "data": data}
