"""The no-loss checker: what was acked against what each client saw, over the histories of all clients. Pure."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Literal
from zlib import crc32

import msgspec

FaultKind = Literal["lost", "hole", "duplicated", "out_of_order", "disagreeing", "late", "early", "accepted", "outstayed"]
KINDS: tuple[FaultKind, ...] = (
    "lost",
    "hole",
    "duplicated",
    "out_of_order",
    "disagreeing",
    "late",
    "early",
    "accepted",
    "outstayed",
)
MOST_MISSING = (
    100_000  # that are told of one client in one room: a server that names any `seq` that it likes must not fill the memory
)
OUTSTAYED_MS = 5_000  # past its end, and a session that is still open counts; up to there it is a matter of lateness


class Ack(msgspec.Struct, frozen=True, kw_only=True):
    """The server's word that `event` is in `room` for good, at `seq` (0: of a server that numbers nothing). `said_at` in ms."""

    room: str
    seq: int
    event: str
    said_at: int = 0


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """A sequenced event as it reached a client, live or replayed. Times in ms.

    `event` is the same text for the same event wherever it is seen (`posted` makes it for messages); empty is not compared.
    """

    room: str
    seq: int
    event: str = ""
    at: int = 0  # when it arrived
    expires_at: int = 0  # of the session that brought it; 0: not known


class Watch(msgspec.Struct, frozen=True, kw_only=True):
    """From when to when a client was to see a room: every `seq` over `after`, up to `until` (None: to the room's end).

    Of a server that numbers nothing: what was said later than `since` (ms).
    """

    room: str
    after: int
    until: int | None = None
    since: int = 0


class Stay(msgspec.Struct, frozen=True, kw_only=True):
    """A session, from its `welcome` on; times in ms. `ends_at`: when the right to it ended."""

    entered_at: int
    ends_at: int
    left_at: int | None = None  # None: it was open when the storm ended
    expired_at: int | None = None  # when it was told that its token had ended; None: it was not told so


class History(msgspec.Struct, frozen=True, kw_only=True):
    """One client's: what it was acked, what it saw in the order in which it saw it, what it was to see."""

    client: str
    acks: Sequence[Ack] = ()
    sights: Sequence[Sight] = ()
    watches: Sequence[Watch] = ()
    stays: Sequence[Stay] = ()

    @property
    def told(self) -> Sequence[Ack | Sight]:
        """All that it knows of events: what it was acked, then what it saw."""
        return (*self.acks, *self.sights)


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One broken promise.

    `lost`: acked to anyone, and not seen; `hole`: never acked, and not seen though the room went past it; `duplicated`: a seq
    seen again, or one event at two seqs; `out_of_order`: seen after a later one; `disagreeing`: not the event that the
    others have at this seq; `late`: seen after its session's end; `early`: told that its token had ended before it had; `accepted`: let in
    on a token that had ended or was withdrawn; `outstayed`: still connected long after that. The last three are of no room.
    """

    kind: FaultKind
    client: str
    room: str = ""
    seq: int = 0
    event: str = ""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What was checked and every fault found, in the order of the histories."""

    clients: int
    acked: int
    seen: int
    faults: tuple[Fault, ...]

    @property
    def ok(self) -> bool:
        return not self.faults

    @property
    def counts(self) -> dict[FaultKind, int]:
        """Faults by kind, each kind named."""
        found = Counter(fault.kind for fault in self.faults)
        return {kind: found[kind] for kind in KINDS}

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in self.counts.items())
        return f"{self.clients} clients, {self.acked} acked, {self.seen} seen: {counts}"


def posted(author: str, id: str, text: str = "") -> str:
    """What a message is called in a history: its id is unique for its author in its room; and who is sent another text is sent another."""
    return f"{author}/{id} {crc32(text.encode()):x}" if text else f"{author}/{id}"


def check(histories: Iterable[History], *, tolerance_ms: int = 0) -> Verdict:
    """Judge the histories of all clients of one run together.

    `tolerance_ms` is what the way to the client and its clock may add to an arrival before it counts as late, and what its clock may take
    from an end before that counts as early. What was acked without a `seq` is owed by its name to everyone who watched its room before it
    was said, and to the end; nothing can be said of its order.
    """
    all_of = list(histories)
    acked: dict[str, set[int]] = {}
    unnumbered: dict[str, dict[str, int]] = {}  # of each room: when what was said
    ends: dict[str, int] = {}
    for history in all_of:
        for ack in history.acks:
            if ack.seq:
                acked.setdefault(ack.room, set()).add(ack.seq)
            else:
                unnumbered.setdefault(ack.room, {})[ack.event] = ack.said_at
        for entry in history.told:
            ends[entry.room] = max(ends.get(entry.room, 0), entry.seq)
    names = _Names(all_of)
    faults: list[Fault] = []
    for history in all_of:
        faults += _order(history, tolerance_ms)
        faults += names.faults(history)
        faults += _missing(history, acked, ends)
        faults += _missing_by_name(history, unnumbered)
        faults += _stays(history, tolerance_ms)
    return Verdict(
        clients=len(all_of),
        acked=sum(map(len, acked.values())) + sum(map(len, unnumbered.values())),
        seen=sum(len(history.sights) for history in all_of),
        faults=tuple(faults),
    )


def _order(history: History, tolerance_ms: int) -> Iterator[Fault]:
    """Faults of one client's own order and times."""
    seen: dict[str, set[int]] = {}
    last: dict[str, int] = {}
    names: dict[str, set[str]] = {}  # of what has no seq
    for sight in history.sights:
        if sight.expires_at and sight.at > sight.expires_at + tolerance_ms:
            yield _fault("late", history, sight)
        if not sight.seq:
            of_room = names.setdefault(sight.room, set())
            if sight.event in of_room:
                yield _fault("duplicated", history, sight)
            of_room.add(sight.event)
            continue
        before = seen.setdefault(sight.room, set())
        if sight.seq in before:
            yield _fault("duplicated", history, sight)
        elif sight.seq < last.get(sight.room, 0):
            yield _fault("out_of_order", history, sight)
        before.add(sight.seq)
        last[sight.room] = max(last.get(sight.room, 0), sight.seq)


def _missing(history: History, acked: Mapping[str, set[int]], ends: Mapping[str, int]) -> Iterator[Fault]:
    """What a client was to see and did not."""
    seen: dict[str, set[int]] = {}
    for sight in history.sights:
        seen.setdefault(sight.room, set()).add(sight.seq)
    for watch in history.watches:
        until = ends.get(watch.room, 0) if watch.until is None else watch.until
        saw = seen.get(watch.room, set())
        missing = (seq for seq in range(watch.after + 1, until + 1) if seq not in saw)
        for seq in islice(missing, MOST_MISSING):
            kind: FaultKind = "lost" if seq in acked.get(watch.room, ()) else "hole"
            yield Fault(kind=kind, client=history.client, room=watch.room, seq=seq)


def _missing_by_name(history: History, acked: Mapping[str, Mapping[str, int]]) -> Iterator[Fault]:
    """What a client was to see of a server that numbers nothing, and did not."""
    owed = {watch.room: watch.since for watch in history.watches if watch.until is None and watch.room in acked}
    seen: dict[str, set[str]] = {room: set() for room in owed}
    for sight in history.sights if owed else ():
        if sight.room in owed:
            seen[sight.room].add(sight.event)
    for room, since in sorted(owed.items()):
        said = {event for event, at in acked[room].items() if at >= since}
        for event in sorted(said - seen[room]):
            yield Fault(kind="lost", client=history.client, room=room, event=event)


def _stays(history: History, tolerance_ms: int) -> Iterator[Fault]:
    """Sessions that should not have been, or not so long, or longer."""
    for stay in history.stays:
        if stay.expired_at is not None and stay.expired_at < stay.ends_at - tolerance_ms:
            yield Fault(kind="early", client=history.client, event=f"{stay.ends_at - stay.expired_at} ms too early")
        if stay.entered_at > stay.ends_at + tolerance_ms:
            yield Fault(kind="accepted", client=history.client, event=f"{stay.entered_at - stay.ends_at} ms too late")
        elif stay.left_at is not None and stay.left_at > stay.ends_at + OUTSTAYED_MS + tolerance_ms:
            yield Fault(kind="outstayed", client=history.client, event=f"{stay.left_at - stay.ends_at} ms")


class _Names:
    """Which event each seq of each room is, as most say; and which seq each event has."""

    def __init__(self, histories: Iterable[History]) -> None:
        said: dict[tuple[str, int], Counter[str]] = {}
        for history in histories:
            for entry in history.told:
                if entry.event and entry.seq:
                    said.setdefault((entry.room, entry.seq), Counter())[entry.event] += 1
        self._event = {place: counts.most_common(1)[0][0] for place, counts in said.items()}
        self._first: dict[tuple[str, str], int] = {}
        for (room, seq), event in sorted(self._event.items()):
            self._first.setdefault((room, event), seq)

    def faults(self, history: History) -> Iterator[Fault]:
        """Where this client has another event at a seq than the others, or the same event at a second seq."""
        told: set[tuple[str, int]] = set()  # a seq that was acked and seen is one fault
        for entry in history.told:
            place = (entry.room, entry.seq)
            if not entry.event or not entry.seq or place in told:
                continue
            if entry.event != self._event[place]:
                told.add(place)
                yield _fault("disagreeing", history, entry)
            elif entry.seq != self._first[entry.room, entry.event]:
                told.add(place)
                yield _fault("duplicated", history, entry)


def _fault(kind: FaultKind, history: History, entry: Ack | Sight) -> Fault:
    return Fault(kind=kind, client=history.client, room=entry.room, seq=entry.seq, event=entry.event)
