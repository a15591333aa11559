"""The read model of one node: a `View` kept in SQLite, with its positions in the log.

Rooms, members and open sessions are in memory; what was said is in the file. Changes gather in a `Batch` and are written
by a thread, view and positions in one transaction; reads see them at once. The log is the truth: whatever a crash
takes away is read from it again.
"""

import asyncio
import contextlib
import math
import sqlite3
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog

from broker.log import START, LogDiverged, Position
from node.core.view import Member, Message, Room, Session, TimelineEntry, Withdrawals
from node.flow import store_sql
from node.flow.past_sessions import sessions_at, unwritten
from node.flow.room_order import RoomOrder
from node.flow.search import matching, newest
from node.flow.store_sql import encode
from node.flow.store_writer import StoreWriter

SEARCHABLE_S = 2.0  # what a search waits for the index of a read model that has just been made, and for the file
SWEEP_MARGIN_MS = 300_000  # a withdrawal is kept so much longer than it has a say: a clock may be set back
_SEQ_BITS = 32
_NEWEST = "SELECT id FROM timeline WHERE id BETWEEN ? AND ? AND name = 'message' ORDER BY id DESC LIMIT ?"
_OLDEST = "SELECT id FROM timeline WHERE id BETWEEN ? AND ? AND name = 'message' ORDER BY id LIMIT ?"
_SEQ_MASK = (1 << _SEQ_BITS) - 1

_T = TypeVar("_T")
_log = structlog.get_logger()
_rooms = msgspec.json.Decoder(Room)
_members = msgspec.json.Decoder(Member)
_messages = msgspec.json.Decoder(Message)
_sessions = msgspec.json.Decoder(Session)
_withdrawals = msgspec.json.Decoder(Withdrawals)


class _Posted(msgspec.Struct, frozen=True):
    """The payload of a `message` in the timeline."""

    room: str
    seq: int
    id: str
    from_: str = msgspec.field(name="from")
    text: str
    at: int
    reply_to: str | None = None


_posted = msgspec.json.Decoder(_Posted)


class Store:
    """See `node.core.view.View` for the reads and changes that `decide` and `apply` make; the rest is for the flow.

    All methods belong to the event loop's thread.
    """

    def __init__(self, path: Path, epoch: str) -> None:
        self._writer = StoreWriter(path, epoch)
        self._reader = store_sql.connect(path)
        _check(self._reader, path, epoch)
        self._searcher = store_sql.connect(path)
        self._search_thread = ThreadPoolExecutor(1, "store-search")
        self._fresh = 0
        self._expected: dict[str, tuple[int, int] | None] = {}
        self._expected_messages: dict[int, Message | None] = {}
        self._load()

    # Positions

    def position(self, partition: int) -> Position:
        """How far the view has followed a partition."""
        return self._positions.get(partition, START)

    def advance(self, partition: int, position: Position) -> None:
        """The record at `position` has been applied."""
        self._positions[partition] = self._writer.batch.positions[partition] = position
        self._writer.batch.events += 1

    def expect(self, keys: Sequence[str], messages: Iterable[tuple[str, int]] = ()) -> None:
        """Look up, at once, what `seen` and `message` are about to be asked for; holds until the next call or await."""
        self._expected = dict.fromkeys(keys)
        for some in _chunks(keys):
            for key, seq, at in self._reader.execute(store_sql.among(store_sql.SEEN_AMONG, len(some)), some):
                self._expected[key] = (seq, at)
        ids = list(
            {self._numbers[room] << _SEQ_BITS | seq for room, seq in messages if room in self._numbers and 0 < seq <= _SEQ_MASK}
        )
        self._expected_messages = dict.fromkeys(ids)
        for chunk in _chunks(ids):
            self._expected_messages.update(self._read_messages(chunk))

    # Reads of the view

    def room(self, name: str) -> Room | None:
        return self._rooms.get(name)

    def rooms(self) -> Iterable[Room]:
        return self._rooms.values()

    def member(self, room: str, user: str) -> Member | None:
        return self._members.get(room, {}).get(user)

    def members(self, room: str) -> Mapping[str, Member]:
        return self._members.get(room, {})

    def member_count(self, room: str) -> int:
        return self._counts.get(room, 0)

    def rooms_of(self, user: str) -> Iterable[str]:
        return self._rooms_of.get(user, {}).keys()

    def message(self, room: str, seq: int) -> Message | None:
        number = self._numbers.get(room)
        if number is None or not 0 < seq <= _SEQ_MASK:
            return None
        key = number << _SEQ_BITS | seq
        change = self._writer.batch.changes.get(key) or self._writer.writing.changes.get(key)
        if change is not None:
            return _messages.decode(change)
        row = self._writer.batch.timeline.get(key) or self._writer.writing.timeline.get(key)
        if row is not None:
            return as_posted(row[1]) if row[0] == "message" else None
        if key in self._expected_messages:
            return self._expected_messages[key]
        return next((found for _, found in self._read_messages([key])), None)

    def has_message(self, room: str, id: str) -> bool:
        key = f"{room}\0{id}"
        return (
            key in self._writer.batch.first_ids
            or key in self._writer.writing.first_ids
            or self.find_message(room, id) is not None
        )

    def find_message(self, room: str, id: str, author: str | None = None) -> Message | None:
        if author is not None:
            found = self.seen(f"{room}\0{id}\0{author}")
            return self.message(room, found[0]) if found is not None else None
        key = f"{room}\0{id}"
        sql = "SELECT min(seq) FROM seen WHERE key > ? AND key < ?"
        (written,) = self._reader.execute(sql, (f"{key}\0", f"{key}\1")).fetchone()
        seqs = [
            seq
            for seq in (written, self._writer.writing.first_ids.get(key), self._writer.batch.first_ids.get(key))
            if seq is not None
        ]
        return self.message(room, min(seqs)) if seqs else None

    def seen(self, key: str) -> tuple[int, int] | None:
        found = self._writer.batch.seen.get(key) or self._writer.writing.seen.get(key)
        if found is None and key in self._expected:
            return self._expected[key]
        return found or self._reader.execute("SELECT seq, at FROM seen WHERE key = ?", (key,)).fetchone()

    def session(self, session: str) -> Session | None:
        found = self._open.get(session)
        if found is not None:
            return found
        row = self._writer.batch.sessions.get(session) or self._writer.writing.sessions.get(session)
        sql = "SELECT opened_at, closed_at, value FROM sessions WHERE session = ?"
        row = row or self._reader.execute(sql, (session,)).fetchone()
        return _sessions.decode(row[2]) if row is not None else None

    def open_sessions(self) -> Iterable[Session]:
        return list(self._open.values())

    def open_sessions_of(self, user: str) -> Iterable[Session]:
        return [self._open[session] for session in self._open_of.get(user, ())]

    def withdrawals(self, user: str) -> Withdrawals | None:
        return self._withdrawn.get(user)

    def revoked_jti(self, jti: str) -> int | None:
        return self._revoked.get(("jti", jti))

    def revoked_session(self, session: str) -> int | None:
        return self._revoked.get(("session", session))

    # Changes of the view

    def put_room(self, room: Room) -> None:
        number = self._numbers.setdefault(room.name, len(self._numbers) + 1)
        self._rooms[room.name] = room
        self.room_order.changed(room)
        self._writer.batch.rooms[number] = room

    def put_member(self, room: str, member: Member) -> None:
        members = self._members.setdefault(room, {})
        before = members.get(member.user)
        was_in, is_in = before is not None and before.role is not None, member.role is not None
        self._counts[room] = self._counts.get(room, 0) + is_in - was_in
        members[member.user] = member
        self._rooms_of.setdefault(member.user, {})[room] = None
        self._writer.batch.members[self._numbers[room], member.user] = encode(member)

    def put_message(self, message: Message) -> None:
        key = self._numbers[message.room] << _SEQ_BITS | message.seq
        if key == self._fresh:
            self._fresh = 0  # the timeline says it all
            first = f"{message.room}\0{message.id}"
            self._writer.batch.first_ids.setdefault(first, message.seq)
            return
        before = self.message(message.room, message.seq)
        if before is not None and before.text != message.text:
            indexed = self._writer.batch.search.get(key, (before.text or None, ""))[0]
            self._writer.batch.search[key] = (indexed, message.text)
        self._writer.batch.changes[key] = encode(message)

    def put_timeline(self, room: str, entry: TimelineEntry) -> None:
        key = self._numbers[room] << _SEQ_BITS | entry.seq
        self._writer.batch.timeline[key] = (entry.name, encode(entry.payload))
        if entry.name == "message":
            self._fresh = key
            self._writer.batch.search[key] = (None, entry.payload["text"])

    def put_seen(self, key: str, seq: int, at: int) -> None:
        self._writer.batch.seen[key] = (seq, at)

    def put_session(self, session: Session) -> None:
        self._writer.batch.sessions[session.session] = (session.opened_at, session.closed_at, encode(session))
        of_user = self._open_of.setdefault(session.user, {})
        if session.closed_at is None:
            token = session.lineage[-1]
            self._writer.batch.tokens[session.session, session.renewals] = (token.since, encode(token))
            self._open[session.session] = session
            of_user[session.session] = None
        else:
            self._open.pop(session.session, None)
            of_user.pop(session.session, None)
        if not of_user:
            del self._open_of[session.user]

    def put_withdrawals(self, user: str, withdrawals: Withdrawals) -> None:
        self._withdrawn[user] = withdrawals
        self._writer.batch.withdrawals[user] = encode(withdrawals)

    def put_revoked_jti(self, jti: str, until: int) -> None:
        self._revoked["jti", jti] = self._writer.batch.revoked["jti", jti] = until

    def put_revoked_session(self, session: str, until: int) -> None:
        self._revoked["session", session] = self._writer.batch.revoked["session", session] = until

    def sweep(self, now: int) -> int:
        """Forget the withdrawals that have no say any more at `now` (ms), less a margin for clocks; returns how many.

        It changes no answer: whoever judges passes over what its `until` has passed.
        """
        past, batch = now - SWEEP_MARGIN_MS, self._writer.batch
        users = {user: left for user, one in self._withdrawn.items() if (left := one.left(past)) != one}
        for user, left in users.items():
            if left is not None:
                self.put_withdrawals(user, left)
            else:
                del self._withdrawn[user]
                batch.withdrawals[user] = None
        marks = [key for key, until in self._revoked.items() if until <= past]
        for key in marks:
            del self._revoked[key]
            batch.revoked[key] = None
        batch.events += len(users) + len(marks)  # so that it is written, though no position has moved
        return len(users) + len(marks)

    # What was said

    def timeline(
        self, room: str, *, after: int, limit: int, until: int = _SEQ_MASK, size: int | None = None
    ) -> list[tuple[str, bytes]]:
        """`(name, payload as JSON)` of the sequenced events with `after < seq <= until`, oldest first, at most `limit`.

        No more follow the one whose payload brings them to `size` bytes.
        """
        number, last = self._numbers.get(room), self._rooms[room].seq if room in self._rooms else 0
        if number is None or after >= last:
            return []
        low, high = number << _SEQ_BITS | after, number << _SEQ_BITS | min(until, last)
        sql = "SELECT id, name, payload FROM timeline WHERE id > ? AND id <= ? ORDER BY id LIMIT ?"
        found: list[tuple[str, bytes]] = []
        left = math.inf if size is None else size
        with contextlib.closing(self._reader.execute(sql, (low, high, limit))) as rows:
            while left > 0 and (written := next(rows, None)) is not None:
                found.append(written[1:])
                left -= len(written[2])
        for key in range(low + 1 + len(found), min(high, low + limit) + 1):
            if left <= 0:
                break
            row = self._writer.writing.timeline.get(key) or self._writer.batch.timeline.get(key)
            if row is None:
                raise LookupError(f"the read model lacks event {key & _SEQ_MASK} of a room")
            found.append(row)
            left -= len(row[1])
        return found

    def messages_before(self, room: str, before: int, limit: int) -> list[Message]:
        """The last `limit` messages with `seq < before`, oldest first, as they read now."""
        return self._page(room, before, limit, newest_first=True)[::-1]

    def messages_after(self, room: str, after: int, limit: int) -> list[Message]:
        """The first `limit` messages with `seq > after`, oldest first, as they read now."""
        return self._page(room, after, limit, newest_first=False)

    async def search(self, text: str, rooms: Iterable[str], limit: int) -> list[Message]:
        """The newest `limit` messages of `rooms` with every word of `text` (the last may be a beginning), newest first.

        The first 64 words count. Sees all that was applied before the call, but for the first seconds after a cold start
        and while the file cannot be written.
        """
        query = matching(text)
        ranges = [self._numbers[room] << _SEQ_BITS for room in rooms if room in self._numbers]
        if not query or not ranges:
            return []
        with contextlib.suppress(TimeoutError):  # better the part that is searchable by then than nothing
            async with asyncio.timeout(SEARCHABLE_S):
                await self._writer.searchable.wait()
                await self.flush()
        loop = asyncio.get_running_loop()
        ids = await loop.run_in_executor(self._search_thread, newest, self._searcher, query, ranges, limit)
        names = {number: name for name, number in self._numbers.items()}
        found = [self.message(names[key >> _SEQ_BITS], key & _SEQ_MASK) for key in ids]
        messages = [message for message in found if message is not None and message.deleted_at is None]
        return sorted(messages, key=lambda message: (-message.at, -message.seq, message.room))[:limit]

    async def sessions(self, at: int | None) -> list[Session]:
        """The sessions open at `at` (ms; None: now, as far as the log says), oldest first."""
        if at is None:
            return list(self._open.values())
        new = unwritten(self._writer.writing, self._writer.batch)
        return await asyncio.get_running_loop().run_in_executor(self._search_thread, sessions_at, self._searcher, at, new)

    # Writing

    @property
    def fault(self) -> str | None:
        """Why the file cannot be written now."""
        return self._writer.fault

    async def flush(self) -> None:
        """Return once every change made before the call is in the file."""
        await self._writer.flush()

    async def make_room(self) -> None:
        """Return when more may be applied: what waits for the file is bounded."""
        await self._writer.make_room()

    async def run(self, level: asyncio.Event) -> None:
        """Write in the background, for ever; once `level` with the log, make everything searchable."""
        await self._writer.run(level)

    async def aclose(self) -> None:
        """Write what waits, if that can be done at once, and close. Idempotent."""
        try:
            await self._writer.aclose()
        finally:
            await asyncio.to_thread(self._search_thread.shutdown)
            for connection in (self._reader, self._searcher):
                connection.close()

    def _load(self) -> None:
        """Everything that is held in memory, from the file."""
        read = self._reader.execute
        self._positions = store_sql.read_positions(self._reader)
        self._numbers: dict[str, int] = {}
        self._rooms: dict[str, Room] = {}
        self._members: dict[str, dict[str, Member]] = {}
        self._counts: dict[str, int] = {}
        self._rooms_of: dict[str, dict[str, None]] = {}
        for number, name, value in read("SELECT number, name, value FROM rooms ORDER BY number"):
            self._numbers[name], self._rooms[name] = number, _rooms.decode(value)
        self.room_order = RoomOrder(self._rooms)
        names = list(self._numbers)
        for number, user, value in read("SELECT number, user, value FROM members ORDER BY first"):
            room, member = names[number - 1], _members.decode(value)
            self._members.setdefault(room, {})[user] = member
            self._counts[room] = self._counts.get(room, 0) + (member.role is not None)
            self._rooms_of.setdefault(user, {})[room] = None
        self._open: dict[str, Session] = {}
        self._open_of: dict[str, dict[str, None]] = {}
        for (value,) in read("SELECT value FROM sessions WHERE closed_at IS NULL ORDER BY opened_at"):
            session = _sessions.decode(value)
            self._open[session.session] = session
            self._open_of.setdefault(session.user, {})[session.session] = None
        self._withdrawn = {user: _withdrawals.decode(value) for user, value in read("SELECT user, value FROM withdrawals")}
        self._revoked = {(kind, one): until for kind, one, until in read("SELECT kind, id, until FROM revoked")}

    def _read_messages(self, ids: Sequence[int]) -> Iterable[tuple[int, Message]]:
        """The messages in the file among `ids`, as they read now there."""
        sql = store_sql.among(store_sql.MESSAGES_AMONG, len(ids))
        for key, payload, change in self._reader.execute(sql, ids):
            yield key, _messages.decode(change) if change is not None else as_posted(payload)

    def _page(self, room: str, seq: int, limit: int, *, newest_first: bool) -> list[Message]:
        number = self._numbers.get(room)
        if number is None:
            return []
        low, start = number << _SEQ_BITS, number << _SEQ_BITS | min(max(seq, 0), _SEQ_MASK)
        keys = {
            key
            for batch in (self._writer.writing, self._writer.batch)
            for key, (name, _) in batch.timeline.items()
            if key >> _SEQ_BITS == number and name == "message" and (key < start if newest_first else key > start)
        }
        first, last = (low, start - 1) if newest_first else (start + 1, low | _SEQ_MASK)
        sql = _NEWEST if newest_first else _OLDEST
        keys.update(row[0] for row in self._reader.execute(sql, (first, last, limit)))
        ordered = sorted(keys, reverse=newest_first)[:limit]
        messages = (self.message(room, key & _SEQ_MASK) for key in ordered)
        return [message for message in messages if message is not None]


def _chunks(values: Sequence[_T]) -> Iterable[Sequence[_T]]:
    return (values[start : start + store_sql.MOST_KEYS] for start in range(0, len(values), store_sql.MOST_KEYS))


def as_posted(payload: bytes) -> Message:
    """The message of a timeline's `message`, before anything was done to it."""
    p = _posted.decode(payload)
    return Message(room=p.room, seq=p.seq, id=p.id, author=p.from_, text=p.text, at=p.at, reply_to=p.reply_to)


def _check(connection: sqlite3.Connection, path: Path, epoch: str) -> None:
    meta = store_sql.read_meta(connection)
    if meta["epoch"] != epoch:
        raise LogDiverged(f"the read model {path} belongs to another log: remove it, or restore a snapshot of this log")


@contextlib.asynccontextmanager
async def open_store(path: Path, *, epoch: str) -> AsyncIterator[Store]:
    """The read model at `path`, made where it is missing; one of another version's schema is moved aside, as `.bak`, and made anew.

    Raises `LogDiverged` when it was made from another log.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = store_sql.other_schema(path, epoch)
    if schema is not None:
        kept = store_sql.move_aside(path)
        _log.warning("the read model is made anew from the log", was=schema, now=str(store_sql.SCHEMA), kept=kept.name)
    store = Store(path, epoch)
    try:
        yield store
    finally:
        await store.aclose()
