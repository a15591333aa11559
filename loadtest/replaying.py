"""A person who does what somebody of a real log did: the same connections at the same distances, with tokens that end as theirs did.

The log begins once everybody is there (`Scenario.ahead_s`), each of them away until they first came: nobody is late by Locust's ramp. Where
this process is late all the same, what is timed counts from the moment of the log.
"""

from functools import partial

from loadtest.alarms import NEVER
from loadtest.clock import monotonic, monotonic_at
from loadtest.people import enter
from loadtest.recorded import Someone
from loadtest.shapes import SHORTEST_LIFE_S
from loadtest.storm import Person, Storm
from loadtest.tokens import Token
from loadtest.whereabouts import Away

_ROOMS_EACH = 1


def join(storm: Storm, name: str, someone: Someone) -> Person:
    """They take part, and are away until they first came."""

    def moment(at_s: float | None) -> float:
        return NEVER if at_s is None else monotonic_at(storm.began + storm.scenario.ahead_s + at_s)

    away = [Away(moment(one.begins_s), moment(one.ends_s), said=one.said) for one in someone.absences()]
    renews = any(stay.renews for stay in someone.stays)
    client = storm.client(name, someone.node, partial(_token, storm, name, someone), renews=renews, away=away)
    person = Person(client, storm.draw(name))
    storm.people.append(person)
    return person


def _token(storm: Storm, name: str, someone: Someone, renewal: bool) -> Token:
    now_s = storm.now_s - storm.scenario.ahead_s
    stay = someone.at(now_s)
    ends_s = stay.last_token_s if renewal else stay.first_token_s
    if storm.quiet:  # the recorded ones are over; everybody comes once more, to be judged
        ends_s = now_s + storm.scenario.ttl_s
    return storm.plan.mint(name, max(SHORTEST_LIFE_S, ends_s - now_s))


def live(person: Person, storm: Storm) -> None:
    """In one room, with something to say now and then: what is said is not in the log of sessions."""
    client, draw = person.client, person.draw
    rooms = enter(client, storm, draw.sample(storm.rooms, _ROOMS_EACH))
    due, number = monotonic(), 0
    while rooms and not storm.quiet:
        due += draw.expovariate(storm.scenario.rate)
        client.serve(due)
        if not client.away and not storm.quiet:
            client.say(rooms[0], f"{storm.run}-{number}", "as it was", due=due)
            number += 1
    client.serve(NEVER)
