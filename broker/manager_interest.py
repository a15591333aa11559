"""Which rooms have a member on this node, and so which records concern it, and which buckets it hears. Pure."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

_Key = TypeVar("_Key", bytes, int)


class Interest:
    """The addresses (`broker/manager_wire.py`) of rooms with a member here; each room enters it with its first and leaves it with its last.

    Records are passed over by it without being decoded.
    """

    def __init__(self) -> None:
        self.changed: Callable[[], None] = lambda: None  # called where a bucket is to be heard that was not before
        self._rooms: Counter[bytes] = Counter()  # by address: two rooms may share one
        self._buckets: Counter[int] = Counter()

    @property
    def buckets(self) -> frozenset[int]:
        """The buckets of the rooms that have a member here."""
        return frozenset(self._buckets)

    def add(self, address: bytes) -> None:
        """A room has its first member here."""
        bucket = address[0]
        self._rooms[address] += 1
        self._buckets[bucket] += 1
        if self._buckets[bucket] == 1:
            self.changed()

    def remove(self, address: bytes) -> None:
        """A room has its last member here no more. Raises `KeyError` for a room that had none."""
        if address not in self._rooms:
            raise KeyError("no member of this room was here")
        _count_down(self._rooms, address)
        _count_down(self._buckets, address[0])

    def concerned(self, records: Iterable[bytes]) -> Iterator[bytes]:
        """Those of the records that are for a room which has a member here, or may have, at the moment when each is asked for.

        One of them may bring a member for the next.
        """
        rooms = self._rooms
        for record in records:
            if record[1:5] in rooms if record[:1] == b"\1" else self._is_for_one_of_ours(record):
                yield record

    def _is_for_one_of_ours(self, record: bytes) -> bool:
        if not record:
            return False
        return record[0] == 0 or any(record[at : at + 4] in self._rooms for at in range(1, 1 + 4 * record[0], 4))


def _count_down(counter: Counter[_Key], key: _Key) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
