"""Which connections and sessions this node has, by what they are looked for."""

from collections.abc import Callable, Collection
from typing import Any

from node.edge.connection import Connection
from node.edge.outboxes import Outboxes
from node.edge.session import Session


class Roster:
    """The open connections, and of each its sessions by their namespaces."""

    def __init__(self, *, high: int, polling: Callable[[], Collection[Connection]]) -> None:
        """`high` is the mark of outboxes, in bytes; `polling` tells which connections poll."""
        self._polling = polling
        self._sessions: dict[str, Session] = {}
        self._by_connection: dict[Connection, dict[str, Session]] = {}
        self._outboxes = Outboxes(self._by_connection, high=high)

    # Who comes and goes

    def opened(self, connection: Connection) -> None:
        """A connection is there, without a session yet."""
        self._by_connection[connection] = {}

    def closed(self, connection: Connection) -> list[Session]:
        """A connection is gone; the sessions that it had, which are still to be dropped."""
        return list(self._by_connection.pop(connection, {}).values())

    def add(self, session: Session) -> None:
        """A session has begun, on a connection that is there."""
        self._sessions[session.id] = session
        self._by_connection[session.connection][session.namespace] = session

    def drop(self, session: Session) -> None:
        """A session has ended."""
        self._sessions.pop(session.id, None)
        self._by_connection.get(session.connection, {}).pop(session.namespace, None)

    # Who is there

    @property
    def sessions(self) -> list[Session]:
        """The open sessions."""
        return list(self._sessions.values())

    @property
    def session_count(self) -> int:
        """How many of them there are."""
        return len(self._sessions)

    @property
    def connections(self) -> list[Connection]:
        """The open connections."""
        return list(self._by_connection)

    @property
    def connection_count(self) -> int:
        """How many of them there are."""
        return len(self._by_connection)

    def find(self, session_id: str) -> Session | None:
        """The open session of this id."""
        return self._sessions.get(session_id)

    def of(self, connection: Connection) -> dict[str, Session]:
        """The sessions of a connection by their namespaces; none of one that is gone."""
        return self._by_connection.get(connection, {})

    def is_bare(self, connection: Connection) -> bool:
        """Whether a connection is there and has no session."""
        return not self._by_connection.get(connection, True)

    # How many

    def connections_by_transport(self) -> dict[str, int]:
        """How many connections there are, by transport."""
        return _by_transport(len(self._by_connection), len(self._polling()))

    def sessions_by_transport(self) -> dict[str, int]:
        """How many sessions there are, by the transport of their connections."""
        return _by_transport(len(self._sessions), sum(len(self.of(connection)) for connection in self._polling()))

    def outboxes(self) -> dict[str, Any]:
        """What waits unsent, and for whom: see `node.edge.outboxes`."""
        return self._outboxes.tell()


def _by_transport(count: int, polling: int) -> dict[str, int]:
    return {"websocket": count - polling, "polling": polling}
