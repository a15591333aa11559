"""Who may shake hands now, and when the others should come again. Pure: times (s, of a monotonic clock) and draws are arguments.

A token bucket. Its rate is the configured one, or what the node finds that it can do: what it has just done, and as many more as the rest
of its core has room for, or fewer; and less at each look while the event loop is late.
"""

from collections.abc import Callable

FIRST_COST_S = 0.002  # of a handshake, until it has been measured: a slow machine's
TARGET = 0.75  # of one core: what handshakes and all else may use
FLOOR = 10.0  # a second: a node that can do less than this is past helping
LATE_S, CALM_S = 0.1, 0.05  # loop lag at which it takes fewer; under which it takes more
DECREASE = 0.7  # at each look while it is late
INCREASE = 3.0  # times what it is: the most that it makes for at a look, smoothed
LEAST_COST_S, MOST_RATIO = 1e-5, 2.0
ENOUGH = 10  # handshakes between two looks from which their cost can be told
SMOOTHING = 0.3
USUAL_S = 30.0  # over which the rate is averaged for who is told when to come: a peak is over before they are back
REFUSAL = 0.2  # of a handshake: what a refusal costs


class Capacity:
    """How many handshakes a second this node can do, from looks at its processor time and its loop's lag."""

    def __init__(self) -> None:
        self.rate = self._usual = TARGET / FIRST_COST_S
        self._cost_s, self._others = FIRST_COST_S, 0.0  # the share of a core that goes elsewhere
        self._seen: tuple[float, float] | None = None

    @property
    def expected(self) -> float:
        """The rate that who comes later may hope for: that of now, or of the last while."""
        return max(self.rate, self._usual)

    def look(self, *, now: float, cpu_s: float, lag_s: float, admitted: int, refused: int) -> None:
        """`cpu_s` is the processor time so far, `lag_s` how late the loop is; `admitted` and `refused` since the last look."""
        seen, self._seen = self._seen, (now, cpu_s)
        if seen is None or now <= seen[0]:
            return
        passed, used = now - seen[0], max(0.0, cpu_s - seen[1])
        work = admitted + REFUSAL * refused
        if work >= ENOUGH:  # which of the two has changed cannot be told: both, by as much
            ratio = used / (self._others * passed + self._cost_s * work)
            by = 1 + SMOOTHING * (min(ratio, MOST_RATIO) - 1)
            self._cost_s, self._others = max(LEAST_COST_S, by * self._cost_s), min(1.0, by * self._others)
        else:  # a few that come all the time must not keep a peak of other work in memory
            others = max(0.0, used - work * self._cost_s) / passed
            self._others += SMOOTHING * (min(1.0, others) - self._others)
        possible = (admitted + (TARGET * passed - used) / self._cost_s) / passed
        if lag_s > LATE_S:
            self.rate *= DECREASE
        elif lag_s < CALM_S or possible < self.rate:
            self.rate += SMOOTHING * (min(possible, INCREASE * self.rate) - self.rate)
        self.rate = min(max(FLOOR, self.rate), TARGET / LEAST_COST_S)
        self._usual += min(1.0, passed / USUAL_S) * (self.rate - self._usual)


class Admission:
    """The bucket and its two queues.

    Alone, resuming clients or newcomers have all of it. While both ask, resuming ones go first: half of the burst is theirs; but
    when it runs low, every fifth handshake is a newcomer's, so that neither starves.
    """

    SHARE = 4  # resuming clients for each newcomer while there is not enough for both
    ASKING_S = 2.0  # one who was refused counts as asking for so long: stock clients are back within 1.5 s
    MOST_WAIT_S = 30.0  # nobody is sent away for longer
    BURST_S = 0.5  # what may come at once where no burst is set: a crowd's first are answered well within 2 s

    def __init__(self, *, rate: float, burst: int, draw: Callable[[], float]) -> None:
        """`rate` and `burst` as configured; 0 is adapted."""
        self._fixed_rate, self._fixed_burst, self._draw = rate, burst, draw
        self._measured = Capacity()
        self._level: float | None = None  # None: nobody has come yet
        self._refilled = 0.0
        self._asked = {True: -self.ASKING_S, False: -self.ASKING_S}  # by resuming: when one was last refused
        self._turns = {True: 0.0, False: 0.0}  # by resuming: when the last of those who were sent away should be back
        self._streak = 0  # resuming clients since the last newcomer
        self._admitted = self._refused = 0

    @property
    def rate(self) -> float:
        """Handshakes a second."""
        return self._fixed_rate or self._measured.rate

    @property
    def burst(self) -> float:
        """Handshakes at once."""
        return self._fixed_burst or max(1.0, self.BURST_S * self.rate)

    def look(self, *, now: float, cpu_s: float, lag_s: float) -> None:
        """See `Capacity.look`; a few times a second."""
        self._measured.look(now=now, cpu_s=cpu_s, lag_s=lag_s, admitted=self._admitted, refused=self._refused)
        self._admitted = self._refused = 0

    def ask(self, *, resuming: bool, now: float) -> int | None:
        """None: come in. Else the seconds after which to ask again, at least 1."""
        level = self._refill(now)
        if not self._may(level, resuming=resuming, now=now):
            self._asked[resuming] = now
            self._refused += 1
            return self._wait(resuming=resuming, now=now)
        self._level = level - 1
        self._admitted += 1
        self._streak = min(self.SHARE, self._streak + 1) if resuming else 0
        return None

    def _refill(self, now: float) -> float:
        if self._level is None:
            self._level, self._refilled = float(self.burst), now
        self._level = min(float(self.burst), self._level + max(0.0, now - self._refilled) * self.rate)
        self._refilled = now
        return self._level

    def _may(self, level: float, *, resuming: bool, now: float) -> bool:
        if level < 1:
            return False
        if now - self._asked[not resuming] >= self.ASKING_S:
            return True
        if resuming:
            return self._streak < self.SHARE or level >= 2
        return self._streak >= self.SHARE or level >= 1 + self.burst / 2

    def _wait(self, *, resuming: bool, now: float) -> int:
        """In the order in which they were sent away, at the rate that is expected, in whole seconds drawn apart."""
        shared = now - self._asked[not resuming] < self.ASKING_S
        share = (self.SHARE if resuming else 1) / (self.SHARE + 1) if shared else 1.0
        turn = max(self._turns[resuming], now) + 1 / (share * (self._fixed_rate or self._measured.expected))
        self._turns[resuming] = min(turn, now + self.MOST_WAIT_S)
        wait = self._turns[resuming] - now
        if turn > now + self.MOST_WAIT_S:  # more than can be told apart by their turns
            wait *= 0.5 + 0.5 * self._draw()
        return min(int(self.MOST_WAIT_S), 1 + int(wait + self._draw()))
