"""What is counted and timed while a storm runs, by second and by size. Pure: moments are arguments. It adds up over processes.

Nothing here is sampled: each thing that was waited for is in it with its true time, from the moment when it was due.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec

TRIED, LET_IN, REFUSED, LOST, RENEWED = "tried", "let in", "refused", "lost", "renewed"
ACKED, DELIVERED = "acked", "delivered"
CONNECT, RECONNECT, RENEWAL, ACK = "connect", "reconnect", "renewal", "send to ack"
DELIVERY, REPLAYED, LATENESS, REVOCATION, CROSSED = (
    "send to delivery",
    "send to delivery, missed and replayed",
    "end of a token, lateness",
    "revocation",
    "send to ack, SocketIOUser",
)
EXPIRED = "token_expired"  # the code with which the end of a token ends a connection
_WIDTH = math.log(1.02)  # each bucket is 2% wide
_LEAST_S = 1e-6


class Times(msgspec.Struct, kw_only=True):
    """Durations in seconds, in buckets of 2%: a percentile is true to 1%, the greatest is exact."""

    count: int = 0
    total: float = 0.0
    most: float = 0.0
    buckets: dict[int, int] = {}

    def add(self, *seconds: float) -> None:
        """Some more; what is under a microsecond counts as that, and so does what is under nothing, by two clocks that differ."""
        told = [max(_LEAST_S, one) for one in seconds]
        self.count += len(told)
        self.total += sum(told)
        self.most = max([self.most, *told])
        for bucket, count in Counter([int(math.log(one / _LEAST_S) / _WIDTH) for one in told]).items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + count

    def merge(self, other: "Times") -> None:
        """Those of another process."""
        for bucket, count in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + count
        self.count += other.count
        self.total += other.total
        self.most = max(self.most, other.most)

    def percentile(self, share: float) -> float:
        """What `share` (0 to 1) of them do not exceed, in seconds; 0 where there are none."""
        wanted, passed = max(1, math.ceil(share * self.count)), 0
        for bucket, count in sorted(self.buckets.items()):
            passed += count
            if passed >= wanted:
                return min(self.most, _LEAST_S * math.exp((bucket + 0.5) * _WIDTH))
        return 0.0

    def summary(self) -> "Summary":
        """As it is told, in ms."""
        p50, p95, p99 = (round(1000 * self.percentile(share), 1) for share in (0.5, 0.95, 0.99))
        mean = round(1000 * self.total / self.count, 1) if self.count else 0.0
        return Summary(count=self.count, mean_ms=mean, p50_ms=p50, p95_ms=p95, p99_ms=p99, max_ms=round(1000 * self.most, 1))


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """Durations as they are told."""

    count: int
    mean_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


class Measures(msgspec.Struct, kw_only=True):
    """Of one process, or of several together. Seconds count from the start of the storm."""

    times: dict[str, Times] = {}
    series: dict[str, dict[int, int]] = {}  # by name: how many in each second
    refusals: dict[str, int] = {}  # by what was refused and its code: `connect server_busy`
    ends: dict[str, int] = {}  # connections that were lost, by code
    returns: list[tuple[float, float, str]] = []  # of each who lost a connection: when, when he was level again, by what code

    def count(self, name: str, at_s: float, number: int = 1) -> None:
        """So many in the second of `at_s`."""
        series = self.series.setdefault(name, {})
        second = math.floor(at_s)
        series[second] = series.get(second, 0) + number

    def time(self, name: str, *seconds: float) -> None:
        """One duration, or several."""
        times = self.times.get(name)
        if times is None:
            times = self.times[name] = Times()
        times.add(*seconds)

    def refuse(self, what: str, code: str) -> None:
        """One refusal."""
        name = f"{what} {code}"
        self.refusals[name] = self.refusals.get(name, 0) + 1

    def end(self, code: str) -> None:
        """One connection that was lost."""
        self.ends[code] = self.ends.get(code, 0) + 1

    def merge(self, other: "Measures") -> None:
        """Those of another process, or later ones."""
        for name, times in other.times.items():
            self.times.setdefault(name, Times()).merge(times)
        for name, series in other.series.items():
            own = self.series.setdefault(name, {})
            for second, count in series.items():
                own[second] = own.get(second, 0) + count
        for mine, its in ((self.refusals, other.refusals), (self.ends, other.ends)):
            for name, count in its.items():
                mine[name] = mine.get(name, 0) + count
        self.returns += other.returns

    def total(self, name: str) -> int:
        """How many in all seconds together."""
        return sum(self.series.get(name, {}).values())

    def peak(self, name: str, *, ends_s: int, begins_s: float = 0.0) -> int:
        """The most in one second, from a moment on and up to the second `ends_s`."""
        seconds = range(math.floor(begins_s), ends_s + 1)
        return max((count for second, count in self.series.get(name, {}).items() if second in seconds), default=0)


def all_back_s(
    returns: Iterable[tuple[float, float, str]], *, struck_s: float, begins_s: float, tokens_end_by_s: float
) -> float | None:
    """How long after `struck_s` the last of those was level again who lost a connection from `begins_s` on; None: nobody did.

    Whose token ended from `tokens_end_by_s` on is not counted: tokens end on any day, and by then not because of what struck.
    """
    counted = (back for lost, back, code in returns if lost >= begins_s and (code != EXPIRED or lost < tokens_end_by_s))
    last = max(counted, default=None)
    return None if last is None else max(0.0, last - struck_s)


def dense(series: Mapping[int, int], begins_s: int, ends_s: int) -> Sequence[int]:
    """A number for each second from `begins_s` up to `ends_s`, 0 where there was nothing."""
    return [series.get(second, 0) for second in range(begins_s, ends_s + 1)]
