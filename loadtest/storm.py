"""One run of a scenario in one process: who takes part, how people find their rooms, and how it comes to rest."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TypeVar

import gevent
import msgspec

from loadtest.client import Client
from loadtest.clock import monotonic, monotonic_at, wall
from loadtest.draws import Draws
from loadtest.journal import Journal, Names
from loadtest.live import Live
from loadtest.observer import Observer
from loadtest.options import Plan
from loadtest.outcome import Leftover
from loadtest.route import Route
from loadtest.shapes import Absence, Shape
from loadtest.stock import StockRoute
from loadtest.tokens import Token
from loadtest.whereabouts import Away

_LOOK_S = 0.05
_LISTEN_S, _UNNUMBERED_S = 1.0, 3.0  # in which nothing comes any more
T = TypeVar("T")


class Pulse:
    """A greenlet that comes round twenty times a second, or as often as this process lets it: how late its loop is."""

    TICK_S = 0.05

    def __init__(self) -> None:
        # `before`: see `loadtest.observer.Pulse`. Not the last tick but one: in that one's round of the loop, others may have had
        # their turn between the look at the sockets and the tick; what came meanwhile is found in the round of the last.
        self.before = self._earlier = self._last = time.monotonic()
        self.worst_s = 0.0  # the longest delay so far
        self._greenlet = gevent.spawn(self._run)

    def _run(self) -> None:
        while True:
            gevent.sleep(self.TICK_S)
            now = time.monotonic()
            self.worst_s = max(self.worst_s, now - self._last - self.TICK_S)
            self.before, self._earlier, self._last = self._earlier, self._last, now

    def stop(self) -> None:
        """End it; idempotent."""
        self._greenlet.kill(block=False)


class Person(msgspec.Struct):
    """Somebody who takes part."""

    client: Client
    draw: Draws  # their own: what they do is the same at every run of one seed
    gone: bool = False  # taken out while the run goes on


class Storm:
    """A run from its start to its end. Its people are driven by greenlets of their own."""

    def __init__(self, plan: Plan, *, observer: Observer, began: float) -> None:
        """`began`: when the storm did, by the wall's clock; the same for all its processes."""
        self.plan, self.scenario, self.shape, self.began = plan, plan.scenario, Shape(scenario=plan.scenario), began
        self.rooms = [f"{plan.prefix}-{number}" for number in range(plan.scenario.rooms)]
        self.run = f"{int(began * 1000):x}"  # in the ids of messages: those of another run are others
        self.quiet = False  # nobody begins anything any more
        self._unsettled: list[Client] = []  # who has not come to rest since then
        self.people: list[Person] = []
        self.onlookers: list[Journal] = []  # of others who take part, and are judged like everybody
        self.undone: Counter[str] = Counter()  # what people asked for and did not get, or not yet: see `people`
        self.names = Names()
        self.observer, self._pulse = observer, Pulse()

    @property
    def now_s(self) -> float:
        """Seconds since the start."""
        return wall() - self.began

    def draw(self, name: str) -> Draws:
        """What somebody of this name draws from."""
        return Draws(f"{self.plan.seed}/{name}")

    def join(self, kind: str, name: str, number: int) -> Person:
        """A new person, the `number`th: its name is its user's."""
        draw = self.draw(name)
        renews, absence = draw.random() < self.scenario.renewing, self.shape.absence(kind, draw.random)
        away = [] if absence is None or absence.ends_s <= self.now_s else [self._away(absence)]
        client = self.client(name, number, partial(self._token, name, absence), renews=renews, away=away)
        person = Person(client, draw)
        self.people.append(person)
        return person

    def client(
        self,
        name: str,
        first: int,
        tokens: Callable[[bool], Token],
        *,
        renews: bool,
        away: Sequence[Away],
    ) -> Client:
        """A client that tells this storm of everything. `first` is the number of its first node, which may be over how many there are.

        Its waits are drawn from elsewhere than what its person does: how many there are is up to the cluster.
        """
        waits = self.draw(f"{name}/waits")
        return Client(
            user=name,
            tokens=tokens,
            route=self._route(first, waits),
            journal=Journal(name, self.names),
            observer=self.observer,
            pulse=self._pulse,
            renews=renews,
            draw=waits.random,
            away=away,
        )

    def _route(self, number: int, draw: Draws) -> Route | StockRoute:
        hosts = self.plan.hosts
        first = number % len(hosts)
        if self.plan.stock:
            return StockRoute(hosts[first], draw.random)
        others = [*hosts[:first], *hosts[first + 1 :]]
        return Route([hosts[first], *draw.sample(others, len(others))], draw.random)

    def _away(self, absence: Absence) -> Away:
        begins, ends = (monotonic_at(self.began + moment) for moment in (absence.begins_s, absence.ends_s))
        return Away(max(begins, monotonic()), ends, stale=absence.stale)

    def _token(self, name: str, absence: Absence | None, renewal: bool) -> Token:
        return self.plan.mint(name, self.shape.life_s(self.now_s, renewal=renewal, absence=absence))

    def leave(self, person: Person) -> None:
        """Take a person out: nothing more is owed to them."""
        person.client.close()
        if not person.gone:
            person.gone = True
            person.client.journal.end()

    # How it comes to rest

    def settle(self, limit_s: float) -> dict[str, int]:
        """Let nobody begin anything more, and wait until each has been back, with every answer. Returns how far each room got.

        Not until all are there together: tokens go on ending, and somebody may always be on the way.
        """
        self.quiet = True
        for person in self.people:
            person.client.stay()
        self._unsettled = self._wait(self._taking_part(), lambda one: one.barred is not None or (one.here and one.idle), limit_s)
        ends: dict[str, int] = {}
        for journal in self.journals():
            for room, seq in journal.known():
                ends[room] = max(ends.get(room, 0), seq)
        return ends

    def level(self, ends: Mapping[str, int], limit_s: float) -> None:
        """Wait until everybody has seen their rooms up to here, and then until nothing more comes to anybody.

        What comes twice, or out of order, comes last; and of a server that numbers nothing, silence is all that there is to go by.
        """
        journals = [client.journal for client in self._taking_part() if client.barred is None] + self.onlookers
        self._wait(journals, lambda one: all(seq >= ends.get(room, 0) for room, seq in one.cursors.items()), limit_s)
        listens_s = _LISTEN_S if all(ends.values()) else _UNNUMBERED_S
        limit, seen, since = monotonic() + limit_s + listens_s, -1, monotonic()
        while monotonic() < min(limit, since + listens_s):
            gevent.sleep(_LOOK_S)
            now_seen = sum(journal.seen for journal in self.journals())
            if now_seen != seen:
                seen, since = now_seen, monotonic()

    def leftover(self) -> Leftover:
        """What has not come to rest."""
        clients = [client for client in self._taking_part() if client.barred is None]
        return Leftover(
            away=sum(not client.here for client in self._unsettled),
            unacked=sum(client.unacked for client in clients),
            barred=dict(Counter(p.client.barred for p in self.people if p.client.barred is not None)),
        )

    def live(self) -> Live:
        """How it stands now."""
        clients = list(self._taking_part())
        return Live(
            people=len(clients),
            here=sum(client.here for client in clients),
            asleep=sum(client.away for client in clients),
            unacked=sum(client.unacked for client in clients),
            seen=sum(journal.seen for journal in self.journals()),
            skipped=sum(journal.skipped for journal in self.journals()),
            repeated=sum(journal.repeated for journal in self.journals()),
            late_ms=round(self._pulse.worst_s * 1000),
        )

    def journals(self) -> Iterator[Journal]:
        """Of everybody who has taken part."""
        yield from (person.client.journal for person in self.people)
        yield from self.onlookers

    def end(self) -> None:
        """Stop what it does by itself; idempotent."""
        self._pulse.stop()

    def _taking_part(self) -> Iterator[Client]:
        return (person.client for person in self.people if not person.gone)

    @staticmethod
    def _wait(each: Iterable[T], condition: Callable[[T], bool], limit_s: float) -> list[T]:
        """Until each has once fulfilled the condition, each by itself; who has not, at the limit."""
        limit, left = monotonic() + limit_s, [one for one in each if not condition(one)]
        while left and monotonic() < limit:
            gevent.sleep(_LOOK_S)
            left = [one for one in left if not condition(one)]
        return left
