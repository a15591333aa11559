"""Sockets that have connected without a token and have to send `authenticate` in time: the way of socketio-jwt's clients."""

import asyncio
from collections.abc import Callable
from typing import Any

from node.auth.denied import Denied
from node.edge.connection import Connection

AUTHENTICATE = "authenticate"
LATE = Denied("authentication_timeout", "no token was sent in time")


class TwoStep:
    """Who has to authenticate, by connection and namespace, and until when; `late` is called for who did not."""

    def __init__(self, limit_s: float, late: Callable[[Connection, str], None]) -> None:
        self._limit_s, self._late = limit_s, late
        self._waiting: dict[Connection, dict[str, tuple[str, asyncio.TimerHandle]]] = {}

    @property
    def on(self) -> bool:
        """Whether a socket may connect bare at all."""
        return self._limit_s > 0

    def begin(self, connection: Connection, namespace: str, sid: str) -> None:
        """A socket has connected bare under this Socket.IO id."""
        timer = asyncio.get_running_loop().call_later(self._limit_s, self._late, connection, namespace)
        self._waiting.setdefault(connection, {})[namespace] = (sid, timer)

    def waits(self, connection: Connection, namespace: str | None = None) -> bool:
        """Whether anyone has to authenticate there."""
        waiting = self._waiting.get(connection, {})
        return bool(waiting) if namespace is None else namespace in waiting

    def end(self, connection: Connection, namespace: str) -> str | None:
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


def unauthorized(denied: Denied) -> dict[str, Any]:
    """The payload of `unauthorized`, as a client written for socketio-jwt reads it."""
    data: dict[str, Any] = {"type": "UnauthorizedError", "code": denied.code, "message": denied.message}
    if denied.retry_after is not None:
        data["retry_after"] = denied.retry_after
    return {"message": denied.message, "data": data}
