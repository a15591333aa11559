"""When sessions are asked to renew and when they end: never outside the window, never early, each moment once."""

import asyncio
import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.auth.deadlines import Kind, Schedule, Ticker
from node.auth.levelling import Levels
from tests.support.wait import wait_until


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
        assert schedule.next() == min((at for kinds in plain.values() for at in kinds.values()), default=None)


def test_schedule_forgets_what_came_and_went() -> None:
    """A hundred thousand sessions that came and went, and one that renewed as often, leave next to nothing behind."""
    schedule = a_schedule()
    for number in range(100_000):
        schedule.set(f"s{number}", refresh_at=10**9, expires_at=10**9 + number)
        schedule.drop(f"s{number}")
        schedule.set("stays", refresh_at=10**9, expires_at=10**9 + number)
    assert len(schedule._heap) <= 2 * Schedule.SLACK
    assert schedule.expiring(10**9 + 99_998) == 0
    assert schedule.expiring(10**9 + 99_999) == 1
    assert schedule.levels.peak_per_second(0) == 1
    assert taken(schedule, 10**9) == [("refresh", "stays")]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Heard:
    """Takes what a ticker calls, with the time of each call."""

    def __init__(self) -> None:
        self.calls: list[tuple[Kind, str, int]] = []

    def __call__(self, kind: Kind, session: str) -> None:
        self.calls.append((kind, session, now_ms()))

    @property
    def names(self) -> list[tuple[Kind, str]]:
        return [(kind, session) for kind, session, _ in self.calls]


@pytest.mark.anyio
async def test_ticker_calls_on_time() -> None:
    """On a real loop: each moment in its order, never early, and within PROTOCOL's 250 ms."""
    heard, start = Heard(), now_ms()
    ticker = Ticker(a_schedule(), now_ms, heard)
    ticker.set("b", refresh_at=start + 60, expires_at=start + 120)
    ticker.set("a", refresh_at=start + 20, expires_at=start + 90)  # earlier than the timer that stands
    await wait_until(lambda: len(heard.calls) == 4, 5, "four moments")
    ticker.close()
    assert heard.names == [("refresh", "a"), ("refresh", "b"), ("expire", "a"), ("expire", "b")]
    for (_, _, at), wanted in zip(heard.calls, (20, 60, 90, 120), strict=True):
        assert 0 <= at - (start + wanted) <= 250


@pytest.mark.anyio
async def test_ticker_renewed_dropped_and_past() -> None:
    """A renewed session goes on, a dropped one is not called, one that is past already is called at once, without a warning."""
    heard, start = Heard(), now_ms()
    ticker = Ticker(a_schedule(), now_ms, heard)
    ticker.set("renewed", refresh_at=start + 10, expires_at=start + 30)
    ticker.set("dropped", refresh_at=start + 10, expires_at=start + 30)
    ticker.set("past", refresh_at=start - 20, expires_at=start - 10)
    ticker.set("last", refresh_at=start + 50, expires_at=start + 1_000)
    ticker.set("renewed", refresh_at=start + 3_600_000, expires_at=start + 7_200_000)
    ticker.drop("dropped")
    ticker.drop("dropped")
    await wait_until(lambda: ("expire", "last") in heard.names, 5, "the last one")
    ticker.close()
    assert heard.names == [("expire", "past"), ("refresh", "last"), ("expire", "last")]


@pytest.mark.anyio
async def test_ticker_after_a_stall() -> None:
    """When the loop was blocked past both moments, the session ends, and is not asked to renew any more."""
    heard, start = Heard(), now_ms()
    ticker = Ticker(a_schedule(), now_ms, heard)
    ticker.set("a", refresh_at=start + 5, expires_at=start + 10)
    while now_ms() < start + 30:  # a stall of the loop itself
        pass
    await wait_until(lambda: bool(heard.calls), 5, "the end")
    ticker.close()
    assert heard.names == [("expire", "a")]


@pytest.mark.anyio
async def test_a_fault_with_one_session_keeps_no_other_open() -> None:
    """A callback that raises is told to the loop; the sessions behind it end all the same."""
    told: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: told.append(context.get("exception")))
    heard, start = Heard(), now_ms()

    def due(kind: Kind, session: str) -> None:
        if session == "bad":
            raise LookupError(session)
        heard(kind, session)

    ticker = Ticker(a_schedule(), now_ms, due)
    for session in ("bad", "good"):
        ticker.set(session, refresh_at=start - 2, expires_at=start - 1)
    await wait_until(lambda: bool(heard.calls), 5, "the session behind the bad one")
    ticker.close()
    loop.set_exception_handler(None)
    assert heard.names == [("expire", "good")]
    assert [type(one) for one in told] == [LookupError]


@pytest.mark.anyio
async def test_a_closed_ticker_is_silent() -> None:
    """After `close`, which may be called twice, nothing is called, also for what is set later."""
    heard, other, start = Heard(), Heard(), now_ms()
    ticker = Ticker(a_schedule(), now_ms, heard)
    ticker.set("a", refresh_at=start + 5, expires_at=start + 10)
    ticker.close()
    ticker.close()
    ticker.set("b", refresh_at=start, expires_at=start)
    witness = Ticker(a_schedule(), now_ms, other)
    witness.set("w", refresh_at=start + 30, expires_at=start + 40)
    await wait_until(lambda: len(other.calls) == 2, 5, "the witness")
    witness.close()
    assert heard.calls == []


@pytest.mark.anyio
async def test_a_clock_that_is_set() -> None:
    """A wall clock that jumps ahead ends the session within PROTOCOL's 250 ms, however long the timer was to sleep."""
    heard, offset = Heard(), 0
    ticker = Ticker(a_schedule(), lambda: now_ms() + offset, heard)
    ticker.set("a", refresh_at=now_ms() + 3_000_000, expires_at=now_ms() + 3_600_000)
    await asyncio.sleep(0)  # the timer stands
    offset, stepped = 3_600_001, now_ms()
    await wait_until(lambda: bool(heard.calls), 5, "the end by the new clock")
    ticker.close()
    assert heard.calls[0][2] - stepped <= 250
    assert heard.names == [("expire", "a")]
