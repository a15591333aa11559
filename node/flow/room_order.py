"""The public rooms by their last change, kept so that a list of rooms costs what has changed since the last one, not all rooms."""

from bisect import bisect_left, insort
from collections.abc import Mapping

from node.core.view import Room

_AT_ONCE = 100  # rooms moved in one step: 2 ms among 50,000

Key = tuple[int, str]


def key(room: Room) -> Key:
    """What a list of rooms is sorted by: what changed last is first."""
    return -room.changed_at, room.name


class RoomOrder:
    """`changed` is told of every room that is new or has changed, and does as good as nothing; `keys` are in order behind `level`."""

    def __init__(self, rooms: Mapping[str, Room]) -> None:
        self._rooms = rooms
        self._changed: dict[str, None] = dict.fromkeys(rooms)
        self._keys: dict[str, Key] = {}
        self.keys: list[Key] = []  # of the public rooms
        self.titles: dict[str, str] = {}  # by name, without case

    def changed(self, room: Room) -> None:
        """The room is not the one it was."""
        self._changed[room.name] = None

    def level(self) -> None:
        """Bring all into order at once."""
        public = [room for room in self._rooms.values() if room.kind == "public"]
        self._keys = {room.name: key(room) for room in public}
        self.keys = sorted(self._keys.values())
        self.titles = {room.name: room.title.casefold() for room in public}
        self._changed.clear()

    def step(self) -> bool:
        """Bring some more into order; True once nothing is behind."""
        for _ in range(min(_AT_ONCE, len(self._changed))):
            self._move(self._rooms[self._changed.popitem()[0]])
        return not self._changed

    def _move(self, room: Room) -> None:
        if room.kind != "public":
            return
        before = self._keys.get(room.name)
        if before is not None:
            del self.keys[bisect_left(self.keys, before)]
        self._keys[room.name] = now = key(room)
        insort(self.keys, now)
        self.titles[room.name] = room.title.casefold()
