"""A node without its I/O: commands in, through `decide`, the event's bytes and `apply`; answers and deliveries out."""

import msgspec

from node.core.apply import apply
from node.core.commands import Command
from node.core.decide import decide
from node.core.effects import Applied, Deliver, Effect, Lost
from node.core.errors import Refused
from node.core.events import Event, RoomEvent, encode
from node.core.events import decode as decode_event
from node.core.identity import Principal
from node.core.limits import Limits
from node.core.memory_view import MemoryView

FOR_EVER = 2**53


class World:
    """One view that follows one log. Time and ids count up, so that every run is the same."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.view, self.limits = MemoryView(), limits or Limits()
        self.log: list[bytes] = []
        self.effects: list[Effect] = []  # of the last command
        self.now = 1_700_000_000_000

    def judge(self, user: str, command: Command) -> RoomEvent | Applied | Refused:
        """Only `decide`, on the view as it is."""
        self.now += 1
        principal = Principal(user=user, expires_at=FOR_EVER)
        return decide(self.view, command, principal, now=self.now, event_id=f"e{self.now}", limits=self.limits)

    def do(self, user: str, command: Command) -> Applied | Refused:
        """What the committer does: decide, append, apply, answer."""
        self.effects = []
        outcome = self.judge(user, command)
        return outcome if isinstance(outcome, Applied | Refused) else self.append(outcome)

    def append(self, event: Event) -> Applied | Refused:
        """Put an event into the log and apply it; the answer for who waits for it."""
        data = encode(event)
        self.log.append(data)
        self.effects = apply(self.view, decode_event(data))
        (answer,) = (effect for effect in self.effects if isinstance(effect, Applied | Lost))
        return answer.refused if isinstance(answer, Lost) else answer

    def deliveries(self) -> list[Deliver]:
        """What the last command has sent."""
        return [effect for effect in self.effects if isinstance(effect, Deliver)]

    def hearers(self) -> set[str]:
        """To whom the last command's deliveries went, those who are in the room now included."""
        heard = {user for sent in self.deliveries() for user in sent.also}
        rooms = {sent.room for sent in self.deliveries()}
        return heard | {one.user for room in rooms for one in self.view.members(room).values() if one.role is not None}

    def roles(self, room: str) -> dict[str, str]:
        """Who is in a room, and as what."""
        return {one.user: one.role for one in self.view.members(room).values() if one.role is not None}


def fold(log: list[bytes], view: MemoryView | None = None) -> tuple[MemoryView, list[Effect]]:
    """The view of a log, and every effect on the way."""
    view = view or MemoryView()
    return view, [effect for data in log for effect in apply(view, decode_event(data))]


def codes(outcome: Applied | Refused) -> str:
    """`ok`, or the code of the refusal."""
    return outcome.code if isinstance(outcome, Refused) else "ok"


def plain(effects: list[Effect]) -> bytes:
    """Effects as bytes, to compare those of two nodes."""
    return msgspec.json.encode([(type(effect).__name__, effect) for effect in effects])
