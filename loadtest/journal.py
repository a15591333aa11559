"""What one client was acked, what it saw and what it was to see, kept small while a storm runs: 40 bytes a sight."""

from array import array
from collections.abc import Iterator, Sequence
from typing import overload

import msgspec

from loadtest.checker import Ack, History, Sight, Stay, Watch

_SIGHT, _ACK, _STAY = 5, 4, 4  # numbers of each entry


class Names:
    """Texts by number: the events and rooms of a storm, each kept once for all journals of a process."""

    def __init__(self, texts: Sequence[str] = ("",)) -> None:
        """`texts` are those of an earlier one."""
        self._texts = list(texts)
        self._numbers = {text: number for number, text in enumerate(self._texts)}

    def __getitem__(self, number: int) -> str:
        return self._texts[number]

    @property
    def texts(self) -> Sequence[str]:
        """All of them, in the order of their numbers."""
        return self._texts

    def number(self, text: str) -> int:
        """The number of a text, which it keeps."""
        number = self._numbers.get(text)
        if number is None:
            number = self._numbers[text] = len(self._texts)
            self._texts.append(text)
        return number


class Pages(msgspec.Struct, frozen=True, kw_only=True):
    """A journal as it goes from one process to another, with numbers of its process's `Names`."""

    client: str
    sights: bytes
    acks: bytes
    stays: bytes
    watches: list[Watch]

    def history(self, names: Names) -> History:
        """The checker's view of it. The sights are made one at a time: all of a storm's at once would not fit."""
        acks, stays = _numbers(self.acks), _numbers(self.stays)
        return History(
            client=self.client,
            acks=[
                Ack(room=names[acks[at]], seq=acks[at + 1], event=names[acks[at + 2]], said_at=acks[at + 3])
                for at in range(0, len(acks), _ACK)
            ],
            sights=_Sights(_numbers(self.sights), names),
            watches=self.watches,
            stays=[
                Stay(entered_at=stays[at], ends_at=stays[at + 1], left_at=stays[at + 2] or None, expired_at=stays[at + 3] or None)
                for at in range(0, len(stays), _STAY)
            ],
        )


class Journal:
    """One client's; also its cursors: for each room that it watches the last `seq` that it saw."""

    __slots__ = ("_acks", "_names", "_sights", "_stays", "_watches", "client", "cursors", "repeated", "skipped")

    def __init__(self, client: str, names: Names) -> None:
        self.client, self._names = client, names
        self.cursors: dict[str, int] = {}
        self.skipped = self.repeated = 0  # so far, as far as one client can tell: what was passed over, and what came (too) late
        self._sights, self._acks, self._stays = array("q"), array("q"), array("q")
        self._watches: list[Watch] = []

    @property
    def seen(self) -> int:
        """How many events it saw."""
        return len(self._sights) // _SIGHT

    def watch(self, room: str, *, after: int, since: int = 0) -> None:
        """From here on every event of the room over `after` is owed; nothing changes where it is watched already."""
        if room not in self.cursors:
            self.cursors[room] = after
            self._watches.append(Watch(room=room, after=after, since=since))

    @property
    def weight(self) -> int:
        """Bytes of what it keeps."""
        return sum(len(numbers) * numbers.itemsize for numbers in (self._sights, self._acks, self._stays))

    def unwatch(self, room: str, *, until: int) -> None:
        """Nothing over `until` is owed any more; nothing changes where it is not watched."""
        if self.cursors.pop(room, None) is not None:
            place = max(at for at, watch in enumerate(self._watches) if watch.room == room)
            self._watches[place] = msgspec.structs.replace(self._watches[place], until=until)

    def end(self) -> None:
        """The client goes: what comes after what it has seen is not owed."""
        for room, seq in list(self.cursors.items()):
            self.unwatch(room, until=seq)

    def saw(self, room: str, seq: int, event: str, *, at: int, expires_at: int) -> None:
        """An event arrived, live or replayed; times in ms."""
        names = self._names
        self._sights.extend((names.number(room), seq, names.number(event), at, expires_at))
        cursor = self.cursors.get(room)
        if cursor is None or not seq:
            return
        if seq > cursor:
            self.skipped += seq - cursor - 1
            self.cursors[room] = seq
        else:
            self.repeated += 1

    def acked(self, room: str, seq: int, event: str, *, said_at: int = 0) -> None:
        """The server's word that `event` is in `room` at `seq`; when it was said, in ms."""
        self._acks.extend((self._names.number(room), seq, self._names.number(event), said_at))

    def entered(self, *, at: int, ends_at: int) -> None:
        """A session begins, to which there is a right until `ends_at`; times in ms."""
        self._stays.extend((at, ends_at, 0, 0))

    def stays_until(self, ends_at: int) -> None:
        """The right to the session that began last ends at another time."""
        if self._stays:
            self._stays[-3] = ends_at

    def renewed(self, was: int, ends_at: int) -> None:
        """The right to the session, which was to end at `was`, had been renewed by then: what came past that, ahead of the answer that said
        so, came in time.
        """
        sights = self._sights
        for place in range(len(sights) - _SIGHT, -1, -_SIGHT):
            at, expires_at = sights[place + 3 : place + _SIGHT]
            if expires_at != was or at <= was:
                break
            sights[place + 4] = ends_at

    def left(self, *, at: int) -> None:
        """The session that began last has ended; nothing changes where it had already."""
        if self._stays and not self._stays[-2]:
            self._stays[-2] = at

    def expired(self, *, at: int) -> None:
        """The session that began last is told that its token has ended; nothing changes where it was told before, or has ended."""
        if self._stays and not any(self._stays[-2:]):
            self._stays[-1] = at

    def known(self) -> Iterator[tuple[str, int]]:
        """Rooms, with a `seq` that this client knows of: what it was acked, and where its cursors are."""
        yield from self.cursors.items()
        for at in range(0, len(self._acks), _ACK):
            yield self._names[self._acks[at]], self._acks[at + 1]

    def pages(self) -> Pages:
        """All of it, as it stands."""
        return Pages(
            client=self.client,
            sights=self._sights.tobytes(),
            acks=self._acks.tobytes(),
            stays=self._stays.tobytes(),
            watches=self._watches,
        )


class _Sights(Sequence[Sight]):
    """Sights, each made when it is looked at."""

    def __init__(self, numbers: "array[int]", names: Names) -> None:
        self._numbers, self._names = numbers, names

    def __len__(self) -> int:
        return len(self._numbers) // _SIGHT

    @overload
    def __getitem__(self, at: int) -> Sight: ...
    @overload
    def __getitem__(self, at: slice) -> list[Sight]: ...
    def __getitem__(self, at: int | slice) -> Sight | list[Sight]:
        if isinstance(at, slice):
            return [self[one] for one in range(*at.indices(len(self)))]
        place = range(len(self))[at] * _SIGHT
        room, seq, event, arrived, expires_at = self._numbers[place : place + _SIGHT]
        return Sight(room=self._names[room], seq=seq, event=self._names[event], at=arrived, expires_at=expires_at)


def _numbers(data: bytes) -> "array[int]":
    numbers = array("q")
    numbers.frombytes(data)
    return numbers
