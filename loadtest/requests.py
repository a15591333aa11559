"""Where everything that happens to the people of one process is told: to Locust, as named requests, and to our own measures.

Deliveries, of which there are more than of all else together, are summed up second by second, and told to Locust as a worker tells its
master: a call for each of them, with Locust's listeners behind it, would cost as much as the rest of what is done for a delivery.
"""

from array import array
from collections import Counter
from collections.abc import Callable
from math import ceil, floor

from locust import stats
from locust.env import Environment

from loadtest import measures
from loadtest.clock import monotonic, monotonic_at, wall
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
        self._stats: stats.RequestStats = environment.stats
        self._began = began
        self._measures = Measures()
        self._delivered = {name: array("d") for name in (measures.DELIVERY, measures.REPLAYED)}  # seconds, not summed up yet
        self._second = 0  # since the start, in which that was
        self._ends = monotonic_at(began + 1)  # by the monotonic clock

    def taken(self) -> Measures:
        """What has been measured since the last time; it begins anew."""
        self._sum_up()
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

    def _sum_up(self) -> None:
        """Tell of the deliveries of the second that is over, or has begun."""
        for name, took_s in self._delivered.items():
            if took_s:
                self._measures.count(measures.DELIVERED, self._second, len(took_s))
                self._measures.time(name, *took_s)
                entry = self._entry(name, took_s)
                self._stats.get(name, CHAT).extend(entry)
                self._stats.total.extend(entry)
                del took_s[:]

    def _entry(self, name: str, took_s: "array[float]") -> stats.StatsEntry:
        """These durations as Locust keeps them; in whole ms, rounded up, the least and the greatest."""
        entry, at_s = stats.StatsEntry(self._stats, name, CHAT), self._began + self._second
        entry.num_requests, entry.total_response_time = len(took_s), round(1000 * sum(took_s))
        entry.min_response_time, entry.max_response_time = ceil(1000 * min(took_s)), ceil(1000 * max(took_s))
        entry.response_times = Counter(stats.bucket_response_time(1000 * one) for one in took_s)
        entry.num_reqs_per_sec, entry.last_request_timestamp = {int(at_s): len(took_s)}, at_s
        return entry

    def tried(self) -> None:
        """See `Observer`."""
        self._count(measures.TRIED)

    def welcomed(self) -> None:
        """See `Observer`."""
        self._count(measures.LET_IN)

    def connected(self, took_s: float, *, after: str | None) -> None:
        """See `Observer`."""
        if after is not None:
            now_s = wall() - self._began
            self._measures.returns.append((now_s - took_s, now_s, after))
        self._tell(measures.CONNECT if after is None else measures.RECONNECT, took_s)

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
        if monotonic() >= self._ends:
            self._sum_up()
            self._second = floor(wall() - self._began)
            self._ends = monotonic_at(self._began + self._second + 1)
        self._delivered[measures.REPLAYED if replayed else measures.DELIVERY].append(took_s)

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
