"""The rooms of a connection in which something that was missed is still to come. Pure.

Only what the protocol keeps back is put into its place: behind a resume, and after `resync`. While a room is asked for, its live events
wait; those that an answer has brought as well are dropped, as the protocol has it. A hole or a repeat of any other kind goes through as
it came: it is for the checker to find.
"""

from collections.abc import Iterable

import msgspec

from loadtest.wire import Answer, Replay, RoomEvent

Step = tuple[list[RoomEvent], int | None]
"""What has its place now, in order; and the seq after which to ask for more (None: no more)."""


class _Asked(msgspec.Struct):
    """A room that is asked for, page by page."""

    after: int  # that all up to here has come
    waiting: list[RoomEvent]  # live events that came meanwhile


class CatchingUp:
    """Begins anew with each connection."""

    __slots__ = ("_asked", "_awaited", "_brought")

    def __init__(self, awaited: Iterable[str] = ()) -> None:
        """`awaited`: the rooms of which the server owes a replay."""
        self._awaited = set(awaited)
        self._asked: dict[str, _Asked] = {}
        self._brought: dict[str, int] = {}  # how far the answers so far went, by room

    @property
    def level(self) -> bool:
        """Whether nothing is still to come."""
        return not self._awaited and not self._asked

    @property
    def asked(self) -> dict[str, int]:
        """The rooms that are asked for, each with the seq after which the next answer begins."""
        return {room: asked.after for room, asked in self._asked.items()}

    def live(self, event: RoomEvent) -> list[RoomEvent]:
        """A live event: itself, or nothing while it has to wait."""
        asked = self._asked.get(event.room)
        if asked is None:
            return [event]
        asked.waiting.append(event)
        return []

    def replayed(self, replay: Replay) -> Step:
        """A replay that the server sent by itself."""
        self._awaited.discard(replay.room)
        return replay.events, None if replay.complete else self.resync(replay.room, replay.to)

    def resync(self, room: str, after: int) -> int | None:
        """Events over `after` have been kept back; None where the room is being asked for already.

        An answer that was on its way meanwhile may have brought some of them.
        """
        if room in self._asked:
            return None
        self._asked[room] = asked = _Asked(max(after, self._brought.get(room, 0)), [])
        return asked.after

    def answered(self, room: str, answer: Answer) -> Step:
        """An answer to `replay`; a refusal of it ends the asking."""
        asked = self._asked.get(room)
        if asked is None:
            return [], None
        events = list(answer.events)
        if events:
            asked.after = self._brought[room] = events[-1].seq
        if not answer.complete:
            return events, asked.after
        del self._asked[room]
        return events + [event for event in asked.waiting if event.seq > asked.after], None
