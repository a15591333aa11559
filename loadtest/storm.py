"""One run of a scenario in one process: who takes part, how people find their rooms, and how it comes to rest."""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

import gevent
import msgspec

from loadtest.client import Client
from loadtest.journal import Journal, Names
from loadtest.observer import Observer
from loadtest.outcome import Handover, Leftover
from loadtest.route import Route
from loadtest.scenarios import Scenario
from loadtest.tokens import Mint

_LOOK_S = 0.05


class Pulse:
    """A greenlet that comes round twenty times a second, or as often as this process lets it: how late its loop is."""

    TICK_S = 0.05

    def __init__(self) -> None:
        self.before = self._last = time.monotonic()  # `before`: see `loadtest.observer.Pulse`
        self.worst_s = 0.0  # the longest delay so far
        self._greenlet = gevent.spawn(self._run)

    def _run(self) -> None:
        while True:
            gevent.sleep(self.TICK_S)
            now = time.monotonic()
            self.worst_s = max(self.worst_s, now - self._last - self.TICK_S)
            self.before, self._last = self._last, now

    def stop(self) -> None:
        """End it; idempotent."""
        self._greenlet.kill(block=False)


class Person(msgspec.Struct):
    """Somebody who takes part."""

    client: Client
    draw: random.Random  # their own: what they do is the same at every run of one seed
    gone: bool = False  # taken out while the run goes on


class Storm:
    """A run from its start to its end. Its people are driven by greenlets of their own."""

    def __init__(self, scenario: Scenario, *, hosts: Sequence[str], mint: Mint, observer: Observer, seed: str) -> None:
        """`hosts`: the nodes' origins, or one load balancer's."""
        self.scenario, self._hosts, self._mint, self._observer, self._seed = scenario, hosts, mint, observer, seed
        self.rooms = [f"load-{number}" for number in range(scenario.rooms)]
        self.run = f"{time.time_ns():x}"  # in the ids of messages: those of another run are others
        self.quiet = False  # nobody begins anything any more
        self.people: list[Person] = []
        self._names = Names()
        self._pulse = Pulse()

    def join(self, name: str, number: int) -> Person:
        """A new person, the `number`th: its name is its user's."""
        draw = random.Random(f"{self._seed}/{name}")  # noqa: S311 - to be drawn again exactly
        first = number % len(self._hosts)
        others = [*self._hosts[:first], *self._hosts[first + 1 :]]
        draw.shuffle(others)
        client = Client(
            user=name,
            mint=self._mint,
            route=Route([self._hosts[first], *others], draw.random),
            journal=Journal(name, self._names),
            observer=self._observer,
            pulse=self._pulse,
            renews=draw.random() < self.scenario.renewing,
            draw=draw.random,
        )
        person = Person(client, draw)
        self.people.append(person)
        return person

    def leave(self, person: Person) -> None:
        """Take a person out: nothing more is owed to them."""
        person.client.close()
        if not person.gone:
            person.gone = True
            person.client.journal.end()

    # How it comes to rest

    def settle(self, limit_s: float) -> dict[str, int]:
        """Let nobody begin anything more, and wait until everybody is back and has every answer. Returns how far each room got."""
        self.quiet = True
        self._wait(lambda client: client.here and client.idle, limit_s)
        ends: dict[str, int] = {}
        for person in self.people:
            for room, seq in person.client.journal.known():
                ends[room] = max(ends.get(room, 0), seq)
        return ends

    def level(self, ends: Mapping[str, int], limit_s: float) -> None:
        """Wait until everybody has seen their rooms up to here."""
        self._wait(lambda c: c.here and all(seq >= ends.get(room, 0) for room, seq in c.journal.cursors.items()), limit_s)

    def hand_over(self) -> Handover:
        """What everybody was acked and saw, as it stands now."""
        clients = [client for client in self._taking_part() if client.barred is None]
        leftover = Leftover(
            away=sum(not client.here for client in clients),
            unacked=sum(client.unacked for client in clients),
            barred=dict(Counter(p.client.barred for p in self.people if p.client.barred is not None)),
        )
        pages = [person.client.journal.pages() for person in self.people]
        return Handover(names=self._names.texts, pages=pages, leftover=leftover, late_ms=round(self._pulse.worst_s * 1000))

    def end(self) -> None:
        """Stop what it does by itself; idempotent."""
        self._pulse.stop()

    def _taking_part(self) -> Iterator[Client]:
        return (person.client for person in self.people if not person.gone)

    def _wait(self, condition: Callable[[Client], bool], limit_s: float) -> None:
        limit = time.monotonic() + limit_s
        while time.monotonic() < limit and not all(condition(c) for c in self._taking_part() if c.barred is None):
            gevent.sleep(_LOOK_S)
