"""What a client of a load test tells, and what it has to be told: the two sides of whoever runs it."""

from typing import Protocol


class Observer(Protocol):
    """Is told of each thing that a person would wait for; times in seconds."""

    def tried(self) -> None:
        """A handshake begins: a request for a connection is on its way."""

    def welcomed(self) -> None:
        """A session begins."""

    def connected(self, took_s: float, *, after: str | None) -> None:
        """Level with the cluster: since the first try, or since the last connection was lost, by the code `after`; waits are part of it."""

    def lost(self, code: str) -> None:
        """A session is over, with its connection."""

    def renewed(self, took_s: float) -> None:
        """The token of an open session was replaced, so long after that was asked for."""

    def acked(self, took_s: float) -> None:
        """A message is in the log, so long after it was due."""

    def delivered(self, took_s: float, *, replayed: bool) -> None:
        """Somebody's message arrived, so long after it was due; `replayed`: it was missed, and made up for."""

    def expired(self, late_s: float) -> None:
        """The session was told of its end, so long after `exp`."""

    def revoked(self, took_s: float) -> None:
        """The session was told that it is withdrawn, so long after that was asked for."""

    def crossed(self, took_s: float) -> None:
        """A message of Locust's own `SocketIOUser` was acked, so long after it was due."""

    def refused(self, what: str, code: str) -> None:
        """`what` (connect, renew, or a command by its name) was refused, or not to be had (`lost`)."""


class Pulse(Protocol):
    """How late this process itself may be."""

    @property
    def before(self) -> float:
        """A moment (monotonic) since which the event loop has looked at all sockets at least once: what it finds now came later."""
