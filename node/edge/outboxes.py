"""What waits unsent on the sockets of this node, and on which of them it waits: what an operator looks at when memory grows."""

import heapq
import time
from collections.abc import Callable, Mapping
from typing import Any

from node.edge.connection import Connection
from node.edge.session import Session

MOST_NAMED = 5  # sockets: what a heartbeat carries
NOTED = 16  # a socket is named from one part in so many of the limit on: anyone has a little unsent for a moment
DEAR_S = 0.002  # a walk: of 10,000 connections 0.4 ms where nothing waits on any, 15 where something does on all


class Outboxes:
    """The outboxes of these connections, for heartbeats, operators and scrapers: they share one walk a second where that is dear."""

    SHARED_S = 1.0

    def __init__(
        self,
        sessions: Mapping[Connection, Mapping[str, Session]],
        *,
        high: int,
        dear_s: float = DEAR_S,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`clock` in seconds."""
        self._sessions, self._high, self._dear_s, self._clock = sessions, high, dear_s, clock
        self._told: dict[str, Any] = {}
        self._shared_until = -self.SHARED_S

    def tell(self) -> dict[str, Any]:
        """As `outboxes` has it, at most a second ago."""
        began = self._clock()
        if began >= self._shared_until:
            self._told = outboxes(self._sessions, high=self._high)
            ended = self._clock()
            self._shared_until = ended + self.SHARED_S if ended - began > self._dear_s else ended
        return self._told


def outboxes(sessions: Mapping[Connection, Mapping[str, Session]], *, high: int) -> dict[str, Any]:
    """`{outbox_bytes, slow_sockets, fullest: [{session, user, transport, unsent, slow}]}`, the fullest first.

    `slow` are those that were at `high` (bytes) and have not run empty since. One pass over the connections.
    """
    waiting = [connection for connection in sessions if connection.unsent]
    noted = [one for one in waiting if sessions[one] and (one.unsent >= high // NOTED or one.slow)]
    return {
        "outbox_bytes": sum(connection.unsent for connection in waiting),
        "slow_sockets": sum(connection.slow for connection in waiting),
        "fullest": [_shown(one, sessions[one]) for one in heapq.nlargest(MOST_NAMED, noted, key=lambda one: one.unsent)],
    }


def _shown(connection: Connection, sessions: Mapping[str, Session]) -> dict[str, Any]:
    session = next(iter(sessions.values()))
    return {
        "session": session.id,
        "user": session.principal.user,
        "transport": connection.transport,
        "unsent": connection.unsent,
        "slow": connection.slow,
    }
