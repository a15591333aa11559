"""When sessions are asked to renew and when they end: never outside the window, never early, each moment once."""

from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.auth.deadlines import Kind, Schedule, Ticker
from node.auth.levelling import Levels
from tests.support.stepped_loop import SteppedLoop


def a_schedule() -> Schedule:
    return Schedule(Levels(60_000))


def taken(schedule: Schedule, now: int) -> list[tuple[Kind, str]]:
    found = []
    while (moment := schedule.take(now)) is not None:
        found.append(moment)
    return found


steps = st.one_of(
    st.tuples(st.just("set"), st.integers(0, 5), st.integers(0, 30), st.integers(0, 30)),
    st.tuples(st.just("drop"), st.integers(0, 5), st.just(0), st.just(0)),
    st.tuples(st.just("pass"), st.just(0), st.integers(0, 10), st.just(0)),
)


@given(st.lists(steps, max_size=60))
def test_schedule_against_a_plain_one(script: list[tuple[str, int, int, int]]) -> None:
    """As a list that is searched anew each time: all that is due, earliest first, once; no warning of what has ended."""
    schedule, now = a_schedule(), 0
    plain: dict[str, dict[Kind, int]] = {}
    for step, number, one, other in script:
        session = f"s{number}"
        if step == "set":
            refresh, expire = sorted((now + one, now + other))
            schedule.set(session, refresh_at=refresh, expires_at=expire)
            plain[session] = {"refresh": refresh, "expire": expire}
        elif step == "drop":
            schedule.drop(session)
            plain.pop(session, None)
        else:
            now += one
            due = sorted((at, kind, name) for name, kinds in plain.items() for kind, at in kinds.items() if at <= now)
            due = [(at, kind, name) for at, kind, name in due if kind == "expire" or plain[name]["expire"] > now]
            assert taken(schedule, now) == [(kind, name) for _, kind, name in due]
            for name in [name for name, kinds in plain.items() if kinds["expire"] <= now]:
                del plain[name]
            for kinds in plain.values():
                if kinds.get("refresh", now + 1) <= now:
                    del kinds["refresh"]
        for until in range(now - 5, now + 35, 5):
            assert schedule.expiring(until) == sum(kinds["expire"] <= until for kinds in plain.values())
        ahead = Counter(kinds["refresh"] // 1_000 for kinds in plain.values() if "refresh" in kinds)
        assert schedule.levels.peak_per_second(0) == max(ahead.values(), default=0)
        assert schedule.levels.seconds == ahead
        assert schedule.end_seconds == Counter(kinds["expire"] // 1_000 for kinds in plain.values())
        assert schedule.next() == min((at for kinds in plain.values() for at in kinds.values()), default=None)


def test_schedule_forgets_what_came_and_went() -> None:
    """Twenty thousand sessions that came and went, and one that renewed as often, leave next to nothing behind."""
    schedule = a_schedule()
    for number in range(20_000):
        schedule.set(f"s{number}", refresh_at=10**9, expires_at=10**9 + number)
        schedule.drop(f"s{number}")
        schedule.set("stays", refresh_at=10**9, expires_at=10**9 + number)
    assert len(schedule._heap) <= 2 * Schedule.SLACK
    assert schedule.expiring(10**9 + 19_998) == 0
    assert schedule.expiring(10**9 + 19_999) == 1
    assert schedule.levels.peak_per_second(0) == 1
    assert taken(schedule, 10**9) == [("refresh", "stays")]


class Clocks:
    """The wall clock and the loop's own, which go on together in `go_on`; a test may set the first and hold the second."""

    def __init__(self) -> None:
        self.loop, self.wall, self._passed_ms = SteppedLoop(), 1_800_000_000_000, 0
        self.calls: list[tuple[Kind, str, int]] = []  # with the time of each

    def ticker(self) -> Ticker:
        return Ticker(a_schedule(), lambda: self.wall, self.hear)

    def hear(self, kind: Kind, session: str) -> None:
        self.calls.append((kind, session, self.wall))

    @property
    def names(self) -> list[tuple[Kind, str]]:
        return [(kind, session) for kind, session, _ in self.calls]

    def do(self, *steps: Callable[[], object]) -> None:
        """On the loop, one after the other."""
        for step in steps:
            self.loop.call_soon(step)
        self.loop.settle()

    def go_on(self, ms: int) -> None:
        for _ in range(ms):
            self.wall += 1
            self.wait(1)

    def wait(self, ms: int) -> None:
        """The loop's time alone goes on."""
        self._passed_ms += ms
        self.loop.now = self._passed_ms / 1000
        self.loop.settle()


@pytest.fixture
def clocks() -> Iterator[Clocks]:
    clocks = Clocks()
    yield clocks
    clocks.loop.close()


def test_ticker_calls_on_time(clocks: Clocks) -> None:
    """Each moment in its order and at its time, also where it is earlier than the timer that stands."""
    ticker, start = clocks.ticker(), clocks.wall
    clocks.do(lambda: ticker.set("b", refresh_at=start + 60, expires_at=start + 120))
    clocks.do(lambda: ticker.set("a", refresh_at=start + 20, expires_at=start + 90))
    clocks.go_on(1_000)
    assert [(kind, session, at - start) for kind, session, at in clocks.calls] == [
        ("refresh", "a", 20),
        ("refresh", "b", 60),
        ("expire", "a", 90),
        ("expire", "b", 120),
    ]


def test_ticker_renewed_dropped_and_past(clocks: Clocks) -> None:
    """A renewed session goes on, a dropped one is not called, one that is past already is called at once, without a warning."""
    ticker, start = clocks.ticker(), clocks.wall
    clocks.do(
        lambda: ticker.set("renewed", refresh_at=start + 10, expires_at=start + 30),
        lambda: ticker.set("dropped", refresh_at=start + 10, expires_at=start + 30),
        lambda: ticker.set("past", refresh_at=start - 20, expires_at=start - 10),
    )
    assert clocks.calls == [("expire", "past", start)]
    clocks.do(
        lambda: ticker.set("last", refresh_at=start + 50, expires_at=start + 60),
        lambda: ticker.set("renewed", refresh_at=start + 3_600_000, expires_at=start + 7_200_000),
        lambda: ticker.drop("dropped"),
        lambda: ticker.drop("dropped"),
    )
    clocks.go_on(1_000)
    assert clocks.names == [("expire", "past"), ("refresh", "last"), ("expire", "last")]


def test_ticker_after_a_stall(clocks: Clocks) -> None:
    """When the loop was blocked past both moments, the session ends, and is not asked to renew any more."""
    ticker, start = clocks.ticker(), clocks.wall
    clocks.do(lambda: ticker.set("a", refresh_at=start + 5, expires_at=start + 10))
    clocks.wall += 30
    clocks.wait(30)
    assert clocks.calls == [("expire", "a", start + 30)]


def test_a_fault_with_one_session_keeps_no_other_open(clocks: Clocks) -> None:
    """A callback that raises is told to the loop; the sessions behind it end all the same."""
    told: list[object] = []
    clocks.loop.set_exception_handler(lambda _, context: told.append(context.get("exception")))

    def due(kind: Kind, session: str) -> None:
        if session == "bad":
            raise LookupError(session)
        clocks.hear(kind, session)

    ticker, start = Ticker(a_schedule(), lambda: clocks.wall, due), clocks.wall
    clocks.do(*(lambda one=one: ticker.set(one, refresh_at=start - 2, expires_at=start - 1) for one in ("bad", "good")))
    assert clocks.names == [("expire", "good")]
    assert [type(one) for one in told] == [LookupError]


def test_a_closed_ticker_is_silent(clocks: Clocks) -> None:
    """After `close`, which may be called twice, nothing is called, also for what is set later."""
    ticker, start = clocks.ticker(), clocks.wall
    clocks.do(lambda: ticker.set("a", refresh_at=start + 5, expires_at=start + 10), ticker.close, ticker.close)
    clocks.do(lambda: ticker.set("b", refresh_at=start, expires_at=start))
    clocks.go_on(1_000)
    assert clocks.calls == []


@pytest.mark.parametrize("slept_ms", [0, 1, 100, 199, 200])
def test_a_clock_that_is_set_ahead(clocks: Clocks, slept_ms: int) -> None:
    """The session ends within PROTOCOL's 250 ms of it, however long the timer was to sleep, and however long it has slept."""
    ticker, start = clocks.ticker(), clocks.wall
    clocks.do(lambda: ticker.set("a", refresh_at=start + 3_000_000, expires_at=start + 3_600_000))
    clocks.go_on(slept_ms)
    clocks.wall += 3_600_000
    stepped = clocks.wall
    clocks.go_on(250)
    assert clocks.names == [("expire", "a")]
    assert clocks.calls[0][2] - stepped <= 200


def test_a_clock_that_is_set_back(clocks: Clocks) -> None:
    """Nobody is ended before his time by the clock of then, and nobody is asked to renew twice."""
    ticker, start = clocks.ticker(), clocks.wall
    clocks.do(lambda: ticker.set("a", refresh_at=start + 100, expires_at=start + 200))
    clocks.go_on(199)
    clocks.wall -= 1_000
    clocks.go_on(1_500)
    assert clocks.calls == [("refresh", "a", start + 100), ("expire", "a", start + 200)]
