"""Where everything that happens to the people of one process is told: to Locust, as named requests, and to our own measures."""

from collections.abc import Callable

from locust.env import Environment

from loadtest import measures
from loadtest.clock import wall
from loadtest.measures import Measures

CHAT = "chat"  # the type of all requests


class Code(Exception):
    """Why something was refused, as Locust's table of errors shows it."""

    def __repr__(self) -> str:
        return str(self)


class Requests:
    """See `loadtest.observer.Observer`."""

    def __init__(self, environment: Environment, began: float) -> None:
        self._fire: Callable[..., None] = environment.events.request.fire
        self._began = began
        self._measures = Measures()

    def taken(self) -> Measures:
        """What has been measured since the last time; it begins anew."""
        taken, self._measures = self._measures, Measures()
        return taken

    def _tell(self, name: str, took_s: float | None, error: Exception | None = None) -> None:
        took_ms = None if took_s is None else took_s * 1000
        if took_s is not None:
            self._measures.time(name, took_s)
        self._fire(request_type=CHAT, name=name, response_time=took_ms, response_length=0, exception=error, context={})

    def _count(self, name: str) -> float:
        now_s = wall() - self._began
        self._measures.count(name, now_s)
        return now_s

    def tried(self) -> None:
        """See `Observer`."""
        self._count(measures.TRIED)

    def welcomed(self) -> None:
        """See `Observer`."""
        self._count(measures.LET_IN)

    def connected(self, took_s: float, *, again: bool) -> None:
        """See `Observer`."""
        if again:
            now_s = wall() - self._began
            self._measures.returns.append((now_s - took_s, now_s))
        self._tell(measures.RECONNECT if again else measures.CONNECT, took_s)

    def lost(self, code: str) -> None:
        """See `Observer`."""
        self._count(measures.LOST)
        self._measures.end(code)

    def renewed(self, took_s: float) -> None:
        """See `Observer`."""
        self._count(measures.RENEWED)
        self._tell(measures.RENEWAL, took_s)

    def acked(self, took_s: float) -> None:
        """See `Observer`."""
        self._count(measures.ACKED)
        self._tell(measures.ACK, took_s)

    def delivered(self, took_s: float, *, replayed: bool) -> None:
        """See `Observer`."""
        self._count(measures.DELIVERED)
        self._tell(measures.REPLAYED if replayed else measures.DELIVERY, took_s)

    def expired(self, late_s: float) -> None:
        """See `Observer`."""
        self._tell(measures.LATENESS, late_s)

    def revoked(self, took_s: float) -> None:
        """See `Observer`."""
        self._tell(measures.REVOCATION, took_s)

    def crossed(self, took_s: float) -> None:
        """See `Observer`; Locust is told by its own wrapper."""
        self._measures.time(measures.CROSSED, took_s)

    def refused(self, what: str, code: str) -> None:
        """See `Observer`."""
        self._count(measures.REFUSED)
        self._measures.refuse(what, code)
        self._tell(f"{what}, refused", None, Code(code))  # it took no time that could be told: it counts, without one
