"""The public rooms by their last change, kept so that a list of rooms costs what has changed since the last one, not all rooms."""

from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping, Sequence

from node.core.view import Room

_FEW = 500  # changed rooms that are moved one by one (some 20 µs each); more are sorted with all others

Key = tuple[int, str]


def key(room: Room) -> Key:
    """What a list of rooms is sorted by: what changed last is first."""
    return -room.changed_at, room.name


class RoomOrder:
    """`changed` is told of every room that is new or has changed; it does as good as nothing, the work is left to `sorted`."""

    def __init__(self, rooms: Mapping[str, Room]) -> None:
        self._rooms = rooms
        self._changed: set[str] = set(rooms)
        self._sorted: list[Key] = []
        self._keys: dict[str, Key] = {}

    def changed(self, room: Room) -> None:
        """The room is not the one it was."""
        self._changed.add(room.name)

    def sorted(self) -> Sequence[Key]:
        """The keys of all public rooms in their order; holds until the next call."""
        public = [room for name in self._changed if (room := self._rooms[name]).kind == "public"]
        if len(self._changed) > _FEW:
            self._keys.update((room.name, key(room)) for room in public)
            self._sorted = sorted(self._keys.values())
        else:
            self._move(public)
        self._changed.clear()
        return self._sorted

    def _move(self, rooms: Iterable[Room]) -> None:
        for room in rooms:
            before = self._keys.get(room.name)
            if before is not None:
                del self._sorted[bisect_left(self._sorted, before)]
            self._keys[room.name] = now = key(room)
            insort(self._sorted, now)
