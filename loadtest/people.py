"""What each kind of person does from their first connection on, until their greenlet is ended. All of it may raise `Barred`.

What a person asks for has to be granted: a room that is refused for good, or has not been answered for at the end, is a problem of the
storm's. Else a cluster that lets in half of those who come would be judged over half the load, and found clean.
"""

from collections.abc import Iterable

from loadtest import wire
from loadtest.alarms import NEVER
from loadtest.client import Client
from loadtest.clock import monotonic, wall_ms
from loadtest.draws import Draws
from loadtest.storm import Person, Storm

READ_S = 60.0  # on average between two marks of what has been read: each of them is told to everybody in the room
_OVER = "token_expired"  # of a command that came behind the end of its session
_PAUSE_S = 0.2  # of who was answered that the session is over, and finds that out
#: One behind the other, with the code at which the next is tried: others may be making the room.
ENTERING = (("room:join", "room_not_found"), ("room:create", "room_exists"), ("room:join", ""))
WORDS = "the quick brown fox jumps over the lazy dog"


def talk(person: Person, storm: Storm) -> None:
    """In some rooms; says something into one of them at moments that were drawn beforehand, however the last one fared."""
    client, draw = person.client, person.draw
    rooms = enter(client, storm, drawn(draw, storm))
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
    rooms = enter(client, storm, drawn(draw, storm))
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
                leave(client, storm, room)
    client.serve(NEVER)


def drawn(draw: Draws, storm: Storm) -> list[str]:
    """The rooms of somebody who stays in some."""
    return draw.sample(storm.rooms, min(storm.scenario.rooms_each, len(storm.rooms)))


def enter(client: Client, storm: Storm, rooms: Iterable[str]) -> list[str]:
    """Get into these rooms, which others may be making at the same time; those in which it was possible."""
    inside = []
    for room in rooms:
        for command, goes_on in ENTERING:
            if storm.quiet:
                break
            answer = _asked(client, storm, command, room)
            if answer.ok:
                inside.append(room)
                # What follows is owed from its word on, also to one who is never told that he is in. 0: of a server that numbers nothing.
                client.journal.watch(room, after=answer.seq, since=0 if answer.seq else wall_ms())
                break
            if code_of(answer) != goes_on:
                refused(storm, command, code_of(answer))
                break
    return inside


def leave(client: Client, storm: Storm, room: str) -> None:
    """Get out of it; who finds that he is out already was, by a command whose answer was lost."""
    answer = _asked(client, storm, "room:leave", room)
    if not answer.ok and code_of(answer) != "not_a_member":
        refused(storm, "room:leave", code_of(answer))


def refused(storm: Storm, command: str, code: str) -> None:
    """What somebody asked for is not to be had: counted by its code, and held against the storm. But of a session that was over as the
    storm came to rest: nobody asks again by then.
    """
    if code == _OVER and storm.quiet:
        return
    storm.observer.refused(command, code)
    storm.undone[f"{command} refused for good: {code}"] += 1


def unanswered(storm: Storm, command: str, count: int = 1) -> None:
    """So many more of them have no answer."""
    storm.undone[f"{command} without an answer"] += count


def undone(storm: Storm) -> list[str]:
    """What people were refused for good, and what nobody has answered yet, each with how often."""
    return [f"{what}, {count} times" for what, count in sorted(storm.undone.items()) if count]


def code_of(answer: wire.Answer) -> str:
    """Why a command was not carried out."""
    return "no code" if answer.error is None else answer.error.code


def _asked(client: Client, storm: Storm, command: str, room: str) -> wire.Answer:
    """The last word on a command. One that comes behind the end of its session is given again, over the next."""
    unanswered(storm, command)
    try:
        while True:
            answer = client.ask(command, {"room": room})
            if answer.ok or code_of(answer) != _OVER or storm.quiet:
                return answer
            client.serve(monotonic() + _PAUSE_S)
    finally:
        unanswered(storm, command, -1)
