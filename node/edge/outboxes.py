"""What waits unsent on the sockets of this node, and on which of them it waits: what an operator looks at when memory grows."""

import heapq
from collections.abc import Mapping
from typing import Any

from node.edge.connection import Connection
from node.edge.session import Session

MOST_NAMED = 5  # sockets: what a heartbeat carries
NOTED = 16  # a socket is named from one part in so many of the limit on: anyone has a little unsent for a moment


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
