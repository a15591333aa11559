"""The read model's tables, and how a batch of changes is written into them. All SQL that writes is here.

A sequenced event's `id` is its room's number (local to this file) in the upper bits and its `seq` in the lower 32.
A message stands in `timeline` as it was sent; a row in `changes` says how it reads now, once something was done to it.
"""

import itertools
import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import cast

import msgspec

from broker.log import LogDiverged, Position
from node.core.view import Room, Session, Token, Withdrawals

SCHEMA = 3
_TABLES = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS positions (partition INTEGER PRIMARY KEY, offset INTEGER NOT NULL, checksum INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS rooms (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS members (
    first INTEGER PRIMARY KEY, number INTEGER NOT NULL, user TEXT NOT NULL, value BLOB NOT NULL, UNIQUE (number, user));
CREATE TABLE IF NOT EXISTS timeline (id INTEGER PRIMARY KEY, name TEXT NOT NULL, payload BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS changes (id INTEGER PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS seen (key TEXT PRIMARY KEY, seq INTEGER NOT NULL, at INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sessions (
    session TEXT PRIMARY KEY, opened_at INTEGER NOT NULL, closed_at INTEGER, value BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS sessions_open ON sessions (session) WHERE closed_at IS NULL;
CREATE TABLE IF NOT EXISTS tokens (
    session TEXT NOT NULL, number INTEGER NOT NULL, since INTEGER NOT NULL, value BLOB NOT NULL,
    PRIMARY KEY (session, number)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS withdrawals (user TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS revoked (
    kind TEXT NOT NULL, id TEXT NOT NULL, until INTEGER NOT NULL, PRIMARY KEY (kind, id)) WITHOUT ROWID;
CREATE VIRTUAL TABLE IF NOT EXISTS search USING fts5(text, content = '', tokenize = "unicode61 remove_diacritics 2");
"""
#: The tables that follow from the log, with what orders their rows the same in every read model (see `offline.differences`).
DERIVED = {
    "rooms": "SELECT name, value FROM rooms ORDER BY name",
    "members": "SELECT r.name || ' ' || m.user, m.value FROM members m JOIN rooms r USING (number) ORDER BY 1",
    "timeline": "SELECT printf('%s#%010d', r.name, t.id & 4294967295), t.name || t.payload"
    " FROM timeline t JOIN rooms r ON r.number = t.id >> 32 ORDER BY r.name, t.id",
    "changes": "SELECT printf('%s#%010d', r.name, c.id & 4294967295), c.value"
    " FROM changes c JOIN rooms r ON r.number = c.id >> 32 ORDER BY r.name, c.id",
    "seen": "SELECT replace(key, char(0), ' '), seq || ' ' || at FROM seen ORDER BY key",
    "sessions": "SELECT session, value FROM sessions ORDER BY session",
    "tokens": "SELECT printf('%s#%010d', session, number), value FROM tokens ORDER BY session, number",
    "withdrawals": "SELECT user, value FROM withdrawals ORDER BY user",
    "revoked": "SELECT kind || ' ' || id, until FROM revoked ORDER BY kind, id",
}
_SESSIONS = """
SELECT s.session, s.value, t.number, t.value FROM sessions s JOIN tokens t USING (session)
WHERE s.opened_at <= :at AND (s.closed_at IS NULL OR s.closed_at > :since) AND t.since <= :at
ORDER BY s.opened_at, s.session, t.number
"""
SEARCHABLE = 2**63 - 1
INDEX_STEP = 2_000  # events whose messages are put into the search index at once: some 20 ms
_INDEX = """
INSERT INTO search (rowid, text) SELECT id, text FROM (
    SELECT t.id, json_extract(CAST(coalesce(c.value, t.payload) AS TEXT), '$.text') AS text
    FROM timeline t LEFT JOIN changes c USING (id) WHERE t.id > ? AND t.id <= ? AND t.name = 'message' ORDER BY t.id
) WHERE text <> ''
"""
MOST_KEYS = 500  # asked for in one statement


SEEN_AMONG = "SELECT key, seq, at FROM seen WHERE key IN ({})"
MESSAGES_AMONG = (
    "SELECT t.id, t.payload, c.value FROM timeline t LEFT JOIN changes c USING (id) WHERE t.id IN ({}) AND t.name = 'message'"
)


def among(sql: str, count: int) -> str:
    """One of the statements above for `count` keys."""
    return sql.format(",".join("?" * count))


class Batch:
    """Changes that are not in the tables yet. What a key maps to is the whole new value of that row."""

    __slots__ = (
        "changes",
        "events",
        "first_ids",
        "members",
        "positions",
        "revoked",
        "rooms",
        "search",
        "seen",
        "sessions",
        "timeline",
        "tokens",
        "withdrawals",
    )

    def __init__(self) -> None:
        self.events = 0
        self.positions: dict[int, Position] = {}
        self.rooms: dict[int, Room] = {}
        self.members: dict[tuple[int, str], bytes] = {}
        self.timeline: dict[int, tuple[str, bytes]] = {}
        self.changes: dict[int, bytes] = {}
        self.seen: dict[str, tuple[int, int]] = {}
        self.first_ids: dict[str, int] = {}  # "room\0message id" -> the lowest seq under it in this batch
        self.sessions: dict[str, tuple[int, int | None, bytes]] = {}
        self.tokens: dict[tuple[str, int], tuple[int, bytes]] = {}
        self.withdrawals: dict[str, bytes | None] = {}  # None: there is no such row any more
        self.revoked: dict[tuple[str, str], int | None] = {}
        self.search: dict[int, tuple[str | None, str]] = {}  # id -> (the text the index holds, the text it shall hold)


def connect(path: Path, *, synchronous: str = "normal") -> sqlite3.Connection:
    """A connection to a read model; usable from any one thread at a time."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1.0, cached_statements=64)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("PRAGMA cache_size = -65536")
    connection.execute("PRAGMA temp_store = memory")
    return connection


def prepare(connection: sqlite3.Connection, epoch: str) -> None:
    """Make the tables where they are missing, for a log of this epoch."""
    connection.executescript(_TABLES)
    values = [("schema", str(SCHEMA)), ("epoch", epoch), ("searchable", "0")]
    connection.executemany("INSERT OR IGNORE INTO meta VALUES (?, ?)", values)


def other_schema(path: Path, epoch: str) -> str | None:
    """The schema of a read model of this log that another version has made; None where it is ours, or there is none of this log."""
    if not path.exists():
        return None
    with closing(sqlite3.connect(path)) as connection:
        try:
            meta = read_meta(connection)
        except sqlite3.OperationalError:  # there is no such table
            return None
        except sqlite3.DatabaseError:
            raise LogDiverged(f"{path} is no read model: remove it, or restore a snapshot") from None
    other = meta.get("epoch") == epoch and meta.get("schema") != str(SCHEMA)
    return meta.get("schema", "none") if other else None


def move_aside(path: Path) -> Path:
    """Put a read model that nobody uses out of the way, in the place of what was there before; returns where it is."""
    kept = path.with_name(f"{path.name}.bak")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")  # or its write-ahead log would be taken for the next one's
    os.replace(path, kept)
    return kept


def write(connection: sqlite3.Connection, batch: Batch) -> None:
    """Write a batch and its positions as one transaction. Raises `sqlite3.Error`, leaving nothing of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        upto = searchable(connection)
        # in order: an FTS5 index is flushed at each rowid that is lower than the one before
        search = sorted((key, texts) for key, texts in batch.search.items() if key <= upto)
        put = _Rows(connection)
        put("INSERT OR REPLACE INTO rooms VALUES", [(number, room.name, encode(room)) for number, room in batch.rooms.items()])
        put(
            "INSERT INTO members (number, user, value) VALUES",
            [(*key, value) for key, value in batch.members.items()],
            "ON CONFLICT (number, user) DO UPDATE SET value = excluded.value",
        )
        put("INSERT INTO timeline VALUES", [(key, *row) for key, row in sorted(batch.timeline.items())])
        put("INSERT OR REPLACE INTO changes VALUES", sorted(batch.changes.items()))
        put("INSERT INTO seen VALUES", [(key, *row) for key, row in sorted(batch.seen.items())])
        put("INSERT OR REPLACE INTO sessions VALUES", [(key, *row) for key, row in batch.sessions.items()])
        put("INSERT OR REPLACE INTO tokens VALUES", [(*key, *row) for key, row in batch.tokens.items()])
        put("INSERT OR REPLACE INTO withdrawals VALUES", [row for row in batch.withdrawals.items() if row[1] is not None])
        put("INSERT OR REPLACE INTO revoked VALUES", [(*key, until) for key, until in batch.revoked.items() if until is not None])
        forgotten = [(user,) for user, value in batch.withdrawals.items() if value is None]
        connection.executemany("DELETE FROM withdrawals WHERE user = ?", forgotten)
        marks = [key for key, until in batch.revoked.items() if until is None]
        connection.executemany("DELETE FROM revoked WHERE kind = ? AND id = ?", marks)
        gone = [("delete", key, old) for key, (old, _) in search if old is not None]
        put("INSERT INTO search (search, rowid, text) VALUES", gone)
        put("INSERT INTO search (rowid, text) VALUES", [(key, new) for key, (_, new) in search if new])
        at = [(partition, position.offset, position.checksum) for partition, position in batch.positions.items()]
        put("INSERT OR REPLACE INTO positions VALUES", at)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def sessions_at(connection: sqlite3.Connection, at: int) -> list[Session]:
    """The sessions that were open at `at` (ms), oldest first, each on the token that it had then."""
    return sessions_during(connection, at, at)


def sessions_during(connection: sqlite3.Connection, since: int, at: int) -> list[Session]:
    """The sessions that were open at any moment from `since` to `at` (ms), oldest first, each on the token that it had last by then."""
    found = []
    for _, rows in itertools.groupby(connection.execute(_SESSIONS, {"since": since, "at": at}), key=lambda row: row[0]):
        then = list(rows)
        tokens = [_tokens.decode(value) for *_, value in then]
        if tokens[-1].expires_at > since:
            found.append(_sessions.decode(then[-1][1]).standing_on(tokens, renewals=then[-1][2]))
    return found


def in_force(table: str, value: object, now: int) -> object | None:
    """What of a row of a `DERIVED` table has a say at `now` (ms); None where a sweep might have taken all of it."""
    if table == "withdrawals":
        return _withdrawals.decode(cast(bytes, value)).left(now)
    return value if table != "revoked" or now < cast(int, value) else None


def searchable(connection: sqlite3.Connection) -> int:
    """The id up to which messages are in the search index; `SEARCHABLE` once all are."""
    return int(connection.execute("SELECT value FROM meta WHERE key = 'searchable'").fetchone()[0])


def index_more(connection: sqlite3.Connection) -> bool:
    """Put the next messages into the search index; True once all are in it, and writes keep it so.

    A read model that is made from a long log is searchable only behind its cold start: the index costs as much as all the rest.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        low = searchable(connection)
        row = connection.execute(
            "SELECT id FROM timeline WHERE id > ? ORDER BY id LIMIT 1 OFFSET ?", (low, INDEX_STEP)
        ).fetchone()
        high = row[0] if row is not None else SEARCHABLE
        connection.execute(_INDEX, (low, high))
        connection.execute("UPDATE meta SET value = ? WHERE key = 'searchable'", (str(high),))
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    return high == SEARCHABLE


class _Rows:
    """Puts rows into a table, many with one statement: while one runs the other threads do too, unlike between `executemany`'s rows."""

    AT_ONCE = 250

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __call__(self, insert: str, rows: Sequence[tuple[object, ...]], behind: str = "") -> None:
        for start in range(0, len(rows), self.AT_ONCE):
            some = rows[start : start + self.AT_ONCE]
            places = ",".join([f"({','.join('?' * len(some[0]))})"] * len(some))
            self._connection.execute(f"{insert} {places} {behind}", [value for row in some for value in row])


def read_positions(connection: sqlite3.Connection) -> dict[int, Position]:
    """How far the read model has followed each partition."""
    rows = connection.execute("SELECT partition, offset, checksum FROM positions")
    return {partition: Position(offset, checksum) for partition, offset, checksum in rows}


def move(connection: sqlite3.Connection, epoch: str, positions: Mapping[int, Position]) -> None:
    """Take the read model for one of the log of this epoch that has followed these partitions so far."""
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("UPDATE meta SET value = ? WHERE key = 'epoch'", (epoch,))
    rows = [(partition, at.offset, at.checksum) for partition, at in positions.items()]
    connection.executemany("INSERT OR REPLACE INTO positions VALUES (?, ?, ?)", rows)
    connection.execute("COMMIT")


def read_meta(connection: sqlite3.Connection) -> dict[str, str]:
    """Schema and epoch. Raises `sqlite3.Error` for a file that is no read model."""
    return dict(connection.execute("SELECT key, value FROM meta"))


encode = msgspec.json.Encoder().encode
_sessions = msgspec.json.Decoder(Session)
_tokens = msgspec.json.Decoder(Token)
_withdrawals = msgspec.json.Decoder(Withdrawals)
