"""What each kind of person does from their first connection on, until their greenlet is ended. All of it may raise `Barred`."""

from collections.abc import Iterable

from loadtest.alarms import NEVER
from loadtest.client import Client
from loadtest.clock import monotonic, wall_ms
from loadtest.storm import Person, Storm

READ_S = 60.0  # on average between two marks of what has been read: each of them is told to everybody in the room
WORDS = "the quick brown fox jumps over the lazy dog"


def talk(person: Person, storm: Storm) -> None:
    """In some rooms; says something into one of them at moments that were drawn beforehand, however the last one fared."""
    client, draw = person.client, person.draw
    rooms = enter(client, storm, draw.sample(storm.rooms, min(storm.scenario.rooms_each, len(storm.rooms))))
    due, number = monotonic(), 0
    while rooms and not storm.quiet:
        due += draw.expovariate(storm.scenario.rate)
        room = draw.choice(rooms)
        client.serve(due)
        if not client.away and not storm.quiet:  # who is away on purpose says nothing; who has lost the connection does
            client.say(room, f"{storm.run}-{number}", WORDS, due=due)
            number += 1
    client.serve(NEVER)


def listen(person: Person, storm: Storm) -> None:
    """In some rooms; says nothing, and marks now and then what has been read."""
    client, draw = person.client, person.draw
    rooms = enter(client, storm, draw.sample(storm.rooms, min(storm.scenario.rooms_each, len(storm.rooms))))
    while rooms and not storm.quiet:
        client.serve(monotonic() + draw.expovariate(1 / READ_S))
        client.mark_read(draw.choice(rooms))
    client.serve(NEVER)


def lurk(person: Person, _storm: Storm) -> None:
    """Signed in, and in no room."""
    person.client.serve(NEVER)


def hop(person: Person, storm: Storm) -> None:
    """In one room after the other; says something on arrival, and leaves when all is settled."""
    client, draw, number = person.client, person.draw, 0
    while not storm.quiet:
        for room in enter(client, storm, [draw.choice(storm.rooms)]):
            client.say(room, f"{storm.run}-{number}", WORDS, due=monotonic())
            number += 1
        client.serve(monotonic() + draw.expovariate(1 / storm.scenario.stay_s))
        while client.unacked:
            client.serve(monotonic() + 0.1)
        for room in list(client.journal.cursors):
            if not storm.quiet:
                client.ask("room:leave", {"room": room})
    client.serve(NEVER)


def enter(client: Client, storm: Storm, rooms: Iterable[str]) -> list[str]:
    """Get into these rooms, which others may be making at the same time; those in which it was possible."""
    inside = []
    for room in rooms:
        for command in ("room:join", "room:create", "room:join"):
            if storm.quiet:
                break
            answer = client.ask(command, {"room": room})
            if answer.ok:
                inside.append(room)
                if not answer.seq:  # of a server that numbers nothing: from now on it owes what is said
                    client.journal.watch(room, after=0, since=wall_ms())
                break
    return inside
