"""Whether an HTTP request may begin a connection, or go on with one: before any packet of it is read."""

import time
from collections.abc import Callable, Collection
from typing import Any, Literal

from node.auth.denied import Denied
from node.edge.door import Door
from node.edge.engine import Refusal, refusal_of, transport_of
from node.edge.handshake import Accepted, Judge
from node.edge.session import Session
from node.edge.witness import Witness


class Entry:
    """Load first, so that a node that cannot serve spends nothing on tokens; then, where they are judged here, tokens."""

    def __init__(
        self,
        *,
        judge: Judge,
        door: Door,
        handshake: Literal["namespace", "global", "both"],
        max_connections: int,
        ready: Callable[[], str | None],
        witness: Witness,
        clock: Callable[[], int],
        draw: Callable[[], float],
    ) -> None:
        self._judge, self._door, self._handshake = judge, door, handshake
        self._max, self._ready, self._witness, self._clock, self._draw = max_connections, ready, witness, clock, draw

    def admit(self, query: str, transport: str, *, connections: int, draining: bool) -> Refusal | None:
        """Whether this node can take one more connection now; a refusal says when to come again.

        `query` is the request's, `transport` what it asks for.
        """
        began_s = time.perf_counter()
        reason = "draining" if draining else self._ready()
        if reason is None and connections >= self._max:
            reason = "server_busy"
        if reason is not None:
            return self._turn_away(reason, transport, began_s)
        wait_s = self._door.ask(query, self._clock())
        return None if wait_s is None else self._turn_away("server_busy", transport, began_s, wait_s)

    def seat(self, transport: str, *, connections: int) -> Refusal | None:
        """The hard cap once more, where the connection is opened: many may have been let in before the first of them was."""
        return None if connections < self._max else self._turn_away("server_busy", transport, time.perf_counter())

    def _turn_away(self, reason: str, transport: str, began_s: float, wait_s: int | None = None) -> Refusal:
        """`wait_s`: when to come again, where that is known."""
        code = "draining" if reason == "draining" else "server_busy"
        self._witness.turned_away(code, transport, began_s, reason)
        return Refusal(503, code, f"not serving now: {reason}", wait_s or 1 + int(self._draw() * 3))

    async def judge(self, environ: dict[str, Any]) -> Refusal | None:
        """Judge the request that begins a connection, where handshakes are judged globally."""
        if self._handshake == "namespace":
            return None
        began_s = time.perf_counter()
        verdict = await self._judge.request(environ)
        if isinstance(verdict, Accepted):
            return None
        self._witness.judged("http", transport_of(environ), verdict, began_s)
        return refusal_of(verdict)

    async def judge_poll(self, environ: dict[str, Any], sessions: Collection[Session]) -> Denied | None:
        """Judge a long-polling request of a connection with these sessions: each one is, also when a timer is late.

        Before there is a session, CONNECT is judged where it is judged at all: it can say why it refuses, to a client that listens.
        """
        if not sessions and self._handshake == "namespace":
            return None
        if any(not session.alive(self._clock()) for session in sessions):
            return Denied("token_expired", "the session's token has expired")
        verdict = await self._judge.request(environ)
        if isinstance(verdict, Denied):
            # Without a token of its own a request stands on the token of its CONNECT.
            return None if verdict.code == "token_missing" else verdict
        if any(session.principal.user != verdict.principal.user for session in sessions):
            return Denied("subject_mismatch", "a session keeps its subject")
        return None
