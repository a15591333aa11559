"""Who is let in and when the others are told to come: nobody starves, capacity follows what the node can do; tickets."""

import random
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.auth.admission import CALM_S, FLOOR, LATE_S, TARGET, Admission, Capacity
from node.auth.tickets import Tickets, ticket_keys

DAY_MS = 86_400_000
SECRET, EPOCH = "a-secret-that-is-long-enough-for-hmac", "0123456789abcdef"


def an_admission(rate: float, burst: int, seed: int = 1) -> Admission:
    return Admission(rate=rate, burst=burst, draw=random.Random(seed).random)


@pytest.mark.parametrize("resuming", [True, False])
@pytest.mark.parametrize(("rate", "burst"), [(1.0, 1), (5.0, 5), (50.0, 200), (0.5, 3)])
def test_alone_each_kind_has_all_of_it(rate: float, burst: int, resuming: bool) -> None:
    """The burst at once, then the rate, for resuming clients and newcomers alike."""
    admission = an_admission(rate, burst)
    at_once = [admission.ask(resuming=resuming, now=100.0) for _ in range(burst + 50)]
    assert at_once.count(None) == burst
    later = [admission.ask(resuming=resuming, now=100 + step / 1_000) for step in range(1, 20_001)]
    assert abs(later.count(None) - 20 * rate) <= 1


asks = st.lists(st.tuples(st.booleans(), st.floats(0, 0.5)), min_size=1, max_size=200)


@given(asks, st.floats(0.5, 100), st.integers(1, 50))
def test_never_more_than_rate_and_burst(script: list[tuple[bool, float]], rate: float, burst: int) -> None:
    """Over any stretch of time; whoever is refused is told a whole second between 1 and 30."""
    admission, now, admitted = an_admission(rate, burst), 0.0, list[float]()
    for resuming, passed in script:
        now += passed
        wait = admission.ask(resuming=resuming, now=now)
        if wait is None:
            admitted.append(now)
        else:
            assert 1 <= wait <= Admission.MOST_WAIT_S
    for first in range(len(admitted)):
        for last in range(first, len(admitted)):
            assert last - first + 1 <= burst + rate * (admitted[last] - admitted[first]) + 1e-6


def crowd(admission: Admission, seconds: int, per_second: int, kinds: list[bool]) -> Counter[bool]:
    """Both kinds ask in turn, far more than can be taken; who got in."""
    found: Counter[bool] = Counter()
    for step in range(seconds * per_second):
        resuming = kinds[step % len(kinds)]
        found[resuming] += admission.ask(resuming=resuming, now=step / per_second) is None
    return found


@pytest.mark.parametrize("kinds", [[True, False], [False, True], [False] * 20 + [True], [True] * 20 + [False]])
@pytest.mark.parametrize("burst", [1, 10, 100])
def test_resuming_goes_first_and_nobody_starves(burst: int, kinds: list[bool]) -> None:
    """While both ask for more than there is, four in five are resuming clients and one is a newcomer, and nothing is wasted."""
    found = crowd(an_admission(50, burst), 60, 2_000, kinds)
    assert 0.95 * 50 * 60 <= found.total() <= 50 * 60 + burst
    assert found[False] >= 0.19 * 50 * 60
    assert found[True] >= 0.75 * 50 * 60


def test_a_reserve_for_those_who_resume() -> None:
    """While resuming clients ask, newcomers leave half of the burst to them."""
    admission = an_admission(10, 100)
    assert [admission.ask(resuming=True, now=0.0) for _ in range(101)].count(None) == 100  # one was refused: they are asking
    newcomers = [admission.ask(resuming=False, now=1.5) for _ in range(50)]
    assert newcomers.count(None) == 1  # the fifth; half of the burst and more is left
    assert [admission.ask(resuming=True, now=1.5) for _ in range(13)] == [None] * 13  # and one is the next newcomer's


def test_the_refused_are_spread_over_the_time_that_it_takes() -> None:
    """A thousand who are sent away at once come back at the rate at which they can be taken, none together at the end."""
    admission = an_admission(100, 1)
    waits = sorted(wait for _ in range(1_001) if (wait := admission.ask(resuming=False, now=0.0)) is not None)
    assert len(waits) == 1_000
    per_second = Counter(waits)
    assert waits[0] == 1
    assert 10 <= waits[-1] <= 12
    assert max(per_second.values()) <= 150
    assert all(later - earlier <= 1 for earlier, later in pairwise(sorted(per_second)))
    endless = [admission.ask(resuming=False, now=0.0) for _ in range(20_000)]
    last = Counter(endless[-10_000:])
    assert max(last.values()) < 0.2 * 10_000  # over the longest wait they are drawn apart


class _Core:
    """One core with a node on it, and a crowd that takes all of what it is given: what is admitted is done a look later, as in life."""

    LOOK_S = 0.25

    def __init__(self, cost_s: float) -> None:
        self.capacity, self._cost_s = Capacity(), cost_s
        self._now = self._cpu = self._behind_s = 0.0
        self._last = 0

    def run(self, looks: int, *, others: float, crowd: bool) -> list[float]:
        """So many looks with so much other work: of each, the share of the core that was asked for."""
        asked = []
        for _ in range(looks):
            admitted = round(self.capacity.rate * self.LOOK_S) if crowd else 0
            wanted = self._behind_s + others * self.LOOK_S + self._last * self._cost_s
            self._last, self._behind_s = admitted, max(0.0, wanted - self.LOOK_S)
            self._now, self._cpu = self._now + self.LOOK_S, self._cpu + min(wanted, self.LOOK_S)
            self.capacity.look(now=self._now, cpu_s=self._cpu, lag_s=self._behind_s, admitted=admitted, refused=0)
            asked.append(wanted / self.LOOK_S)
        return asked


@pytest.mark.parametrize("cost_s", [0.0005, 0.002, 0.008])
@pytest.mark.parametrize("others", [0.0, 0.25, 0.5])
def test_capacity_is_what_the_core_has_room_for(cost_s: float, others: float) -> None:
    """Whatever a handshake costs, however much else there is to do: a crowd gets what is left up to the target, and no look is full."""
    core = _Core(cost_s)
    core.run(40, others=others, crowd=False)
    core.run(40, others=others, crowd=True)
    asked = core.run(40, others=others, crowd=True)
    assert sum(asked) / len(asked) == pytest.approx(TARGET, abs=0.05)
    assert max(asked) < 1.0


def test_a_core_that_becomes_free_is_used_within_two_seconds() -> None:
    """The moment of a cliff: what kept the node busy (renewals) ends as the crowd comes. What a handshake costs is found anew, too."""
    core, room = _Core(0.003), (TARGET - 0.2) / 0.003
    core.run(40, others=0.2, crowd=True)
    core.run(20, others=0.7, crowd=False)
    assert core.capacity.rate < 0.3 * room
    core.run(8, others=0.2, crowd=True)
    assert core.capacity.rate > 0.7 * room
    core.run(40, others=0.2, crowd=True)
    assert core.capacity.rate == pytest.approx(room, rel=0.1)
    core.run(20, others=0.2, crowd=False)
    assert core.capacity.rate == pytest.approx(room, rel=0.3)  # as it is told to those who look ahead


def test_capacity_falls_while_the_loop_is_late_and_comes_back() -> None:
    """By a factor at each look, never to nothing; then to what the cost allows."""
    capacity, rates = Capacity(), []
    for step in range(60):
        capacity.look(now=step * 0.25, cpu_s=0.0, lag_s=LATE_S * 2, admitted=0, refused=0)
        rates.append(capacity.rate)
    assert all(later < earlier or later == FLOOR for earlier, later in pairwise(rates))
    assert rates[-1] == FLOOR
    for step in range(60, 300):
        capacity.look(now=step * 0.25, cpu_s=0.0, lag_s=CALM_S / 2, admitted=0, refused=0)
    assert capacity.rate == pytest.approx(TARGET / 0.002)
    before = capacity.rate
    capacity.look(now=100.0, cpu_s=0.0, lag_s=(LATE_S + CALM_S) / 2, admitted=0, refused=0)
    assert capacity.rate == before  # neither late nor calm


@given(st.lists(st.tuples(st.floats(-1, 2), st.floats(-1, 2), st.floats(0, 10), st.integers(0, 999), st.integers(0, 9_999))))
def test_capacity_stays_in_bounds(looks: list[tuple[float, float, float, int, int]]) -> None:
    """Whatever is seen, clocks that stand still or go back included: never under the floor, never without an end."""
    capacity, now, cpu = Capacity(), 0.0, 0.0
    for passed, used, lag_s, admitted, refused in looks:
        now, cpu = now + passed, cpu + used
        capacity.look(now=now, cpu_s=cpu, lag_s=lag_s, admitted=admitted, refused=refused)
        assert FLOOR <= capacity.rate <= TARGET / 1e-5


def test_a_peak_of_other_work_is_forgotten_while_a_few_come() -> None:
    """Handshakes that trickle in keep nothing in memory: a core that was full of other work and is idle again takes as many as before."""
    capacity, now, cpu = Capacity(), 0.0, 0.0
    for busy, looks in ((1.0, 20), (0.0, 40)):
        for _ in range(looks):
            now, cpu = now + 0.25, cpu + 0.25 * busy + 2 * 0.002
            capacity.look(now=now, cpu_s=cpu, lag_s=0.0, admitted=2, refused=0)
        assert (capacity.rate == FLOOR) is (busy == 1.0)
    assert capacity.rate > 0.7 * TARGET / 0.002


def test_a_moment_of_overload_sends_nobody_away_for_long() -> None:
    """Two seconds in which nothing can be taken: 500 who come in them are told to come as fast as they could have been before."""
    admission, now = an_admission(0, 0), 0.0
    for _ in range(200):
        now += 0.25
        admission.look(now=now, cpu_s=0.0, lag_s=0.0)
    before = admission.rate
    for _ in range(8):
        now += 0.25
        admission.look(now=now, cpu_s=0.0, lag_s=1.0)
    waits = [admission.ask(resuming=True, now=now) for _ in range(500)]
    assert admission.rate < 0.1 * before
    assert max(wait for wait in waits if wait) <= 2 + 1.2 * 500 / before


def test_what_is_configured_is_not_measured() -> None:
    """A set rate stays, however late the loop; an unset burst follows the rate."""
    admission = an_admission(20, 0)
    for step in range(50):
        admission.look(now=step * 0.25, cpu_s=step * 0.25, lag_s=1.0)
    assert (admission.rate, admission.burst) == (20, 10)
    measured = an_admission(0, 0)
    for step in range(50):
        measured.look(now=step * 0.25, cpu_s=step * 0.25, lag_s=1.0)
    assert measured.rate == FLOOR


def the_tickets(secrets: tuple[str, ...] = (SECRET,), epoch: str = EPOCH, *, resumable: bool = True) -> Tickets:
    return Tickets(ticket_keys(secrets, epoch), lambda session, now: resumable)


def test_a_ticket_is_good_on_every_node_once() -> None:
    """Another node with the same secret and log knows it; each takes it once."""
    here, there = the_tickets(), the_tickets()
    ticket = here.make("01hsession", 1_000)
    assert here.good(ticket, 2_000)
    assert there.good(ticket, 1_000 + DAY_MS)
    here.use(ticket)
    assert not here.good(ticket, 2_000)
    assert there.good(ticket, 2_000)


def test_a_ticket_outlives_the_rotation_of_a_secret() -> None:
    """While the old secret is still configured; not once it is gone."""
    ticket = the_tickets(("the-old-one",)).make("s", 0)
    assert the_tickets(("the-new-one", "the-old-one")).good(ticket, 1)
    assert not the_tickets(("the-new-one",)).good(ticket, 1)


def test_old_foreign_and_ended_tickets_are_not_good() -> None:
    """Older than a day, of another log, of a session that cannot be resumed; without a secret the log's epoch tells them apart."""
    ticket = the_tickets().make("s", 0)
    assert not the_tickets().good(ticket, DAY_MS + 1)
    assert not the_tickets(epoch="another").good(ticket, 1)
    assert not the_tickets(resumable=False).good(ticket, 1)
    keyless = the_tickets(()).make("s", 0)
    assert the_tickets(()).good(keyless, 1)
    assert not the_tickets((), "another").good(keyless, 1)
    assert SECRET not in ticket


@given(st.text(max_size=300), st.integers(0, 60), st.characters())
def test_forged_tickets_are_not_good(junk: str, place: int, other: str) -> None:
    """Nothing that was not made here: junk, and a true one with one character changed, added or left out."""
    tickets = the_tickets()
    true = tickets.make("01hsession", 1_700_000_000_000)
    place %= len(true)
    changed = {true[:place] + other + true[place + 1 :], true[:place] + other + true[place:], true[:place] + true[place + 1 :]}
    for forged in (changed | {junk}) - {true}:
        assert not tickets.good(forged, 1_700_000_000_000)
    assert tickets.good(true, 1_700_000_000_000)


def test_the_memory_of_used_tickets_is_bounded() -> None:
    """The oldest are forgotten first."""
    tickets = the_tickets()
    for number in range(Tickets.REMEMBERED + 10):
        tickets.use(f"ticket {number}")
    assert len(tickets._used) == Tickets.REMEMBERED
    assert "ticket 9" not in tickets._used
    assert "ticket 10" in tickets._used
