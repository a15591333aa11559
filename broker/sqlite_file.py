"""The file of the embedded log: how it is made, opened, recognised and locked."""

import fcntl
import os
import secrets
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from broker.log import LogMissing, LogUnavailable

_T = TypeVar("_T")
Synchronous = Literal["normal", "full"]

_SCHEMA = 1
_CREATE_WAIT_S = 2.5  # for another process that is making the same file
_OPEN_WAIT_S = 1.0  # for another process that is closing it
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.0002, 0.001
_NEXT_PAUSE_S = 0.0002  # of the one that is next: all others wait for it, so it looks often
_META = "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"
_MOST_STATEMENTS = 1_024  # kept prepared: three for each of 257 partitions, and some more


class Meta(msgspec.Struct, frozen=True, kw_only=True):
    """What a log says of itself; it never changes."""

    epoch: str
    partitions: int


class Identity(msgspec.Struct, frozen=True):
    """Which file a path names: a file that was removed and made again has another."""

    device: int
    inode: int


def table(partition: int) -> str:
    """The table of a partition.

    Each has its own, since SQLite appends at the right end of a table: in one for all, every append would be in the middle,
    and take twice the time and twice the write-ahead log.
    """
    return f"partition_{int(partition)}"


def connect(path: Path, synchronous: Synchronous) -> sqlite3.Connection:
    """A connection that never waits for a lock by itself: SQLite's own waiting is coarse, and would stop the event loop.

    Only to be opened it waits, for a process that is the last to close the file and holds all of it in that moment.
    """
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, timeout=0, cached_statements=_MOST_STATEMENTS
    )
    deadline = time.monotonic() + _OPEN_WAIT_S
    while True:
        try:
            connection.execute(f"PRAGMA synchronous = {synchronous}")
            connection.execute("PRAGMA wal_autocheckpoint = 0")
        except sqlite3.Error as error:
            if not is_busy(error) or time.monotonic() > deadline:
                connection.close()
                raise
            time.sleep(_LONGEST_PAUSE_S)
        else:
            return connection


def identity(path: Path) -> Identity | None:
    """The file that `path` names now; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return Identity(found.st_dev, found.st_ino)


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another connection was in the way, so that it may work in a moment."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file itself is at fault, which no waiting mends."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def prepare(path: Path, partitions: int | None, *, create: bool, synchronous: Synchronous) -> Meta:
    """Make the log where it is missing and may be made, and read what it says of itself.

    Raises `LogUnavailable` when there is none or it cannot be read, `ValueError` when it has another number of partitions.
    """
    if partitions is not None and partitions < 1:
        raise ValueError(f"a log has at least 1 partition, not {partitions}")
    try:
        meta = _read_meta(path, synchronous)
        if meta is None and create and partitions is not None:
            meta = _make(path, partitions, synchronous)
    except (sqlite3.Error, OSError) as error:
        raise LogUnavailable(why_not_opened(path, error)) from None
    if meta is None:
        raise LogMissing(f"there is no log at {path}")
    if partitions is not None and meta.partitions != partitions:
        raise ValueError(f"the log at {path} has {meta.partitions} partitions, not {partitions}; the number is fixed")
    return meta


def _make(path: Path, partitions: int, synchronous: Synchronous) -> Meta | None:
    """Several processes may come here at once: the first one makes the file, the others read it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(FileLock(path.with_name(path.name + ".lock"))) as lock:
        if not lock.acquire(time.monotonic() + _CREATE_WAIT_S):
            raise LogUnavailable(f"cannot open {path}: another process holds the log's lock")
        try:
            if (meta := _read_meta(path, synchronous)) is not None:
                return meta
            with closing(connect(path, synchronous)) as connection:
                _once_free(lambda: _write_tables(connection, partitions))  # who only looks at the new file is in the way too
        finally:
            lock.release()
    return _read_meta(path, synchronous)


def _write_tables(connection: sqlite3.Connection, partitions: int) -> None:
    if connection.in_transaction:  # of an attempt before
        connection.execute("ROLLBACK")
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise LogUnavailable("this file system cannot share a log between processes: SQLite's write-ahead log does not work here")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(_META)
    for partition in range(partitions):
        connection.execute(f"CREATE TABLE {table(partition)} (offset INTEGER PRIMARY KEY, data BLOB NOT NULL)")
    values = [("schema", str(_SCHEMA)), ("epoch", secrets.token_hex(8)), ("partitions", str(partitions))]
    connection.executemany("INSERT INTO meta VALUES (?, ?)", values)
    connection.execute("COMMIT")


def _read_meta(path: Path, synchronous: Synchronous) -> Meta | None:
    """None for no file, and for one that its maker did not finish: it holds no table yet."""
    if not path.exists():
        return None

    def read() -> Meta | None:
        with closing(connect(path, synchronous)) as connection:
            return _parse_meta(path, connection)

    return _once_free(read)


def _once_free(work: Callable[[], _T]) -> _T:
    """What `work` returns, tried again for a while where another connection is in the way."""
    deadline = time.monotonic() + _CREATE_WAIT_S
    while True:
        try:
            return work()
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(_LONGEST_PAUSE_S)


def _parse_meta(path: Path, connection: sqlite3.Connection) -> Meta | None:
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        return None
    if not {"meta", table(0)} <= tables:
        raise LogUnavailable(f"{path} is not a log: it is a database of something else")
    values: dict[str, str] = dict(connection.execute("SELECT key, value FROM meta").fetchall())
    if values.get("schema") != str(_SCHEMA):
        raise LogUnavailable(f"{path} has schema {values.get('schema')}, this version reads {_SCHEMA}")
    return Meta(epoch=values["epoch"], partitions=int(values["partitions"]))


def why_not_opened(path: Path, error: sqlite3.Error | OSError) -> str:
    """What an operator is told, who knows neither SQLite's messages nor the files beside the log."""
    if isinstance(error, sqlite3.Error) and is_damage(error):
        return f"{path} is not a log: {error}"
    if os.path.isdir(path):
        return f"cannot open {path}: it is a folder"
    nearest = next(folder for folder in path.absolute().parents if os.path.exists(folder))
    if os.path.isdir(nearest) and not os.access(nearest, os.W_OK | os.X_OK):
        return f"cannot open {path}: no permission to write in {nearest}"
    if os.path.exists(path) and not os.access(path, os.R_OK | os.W_OK):
        return f"cannot open {path}: no permission to read and write it"
    return f"cannot open {path}: {(isinstance(error, OSError) and error.strerror) or error}"


class FileLock:
    """A lock between processes that goes with its holder: the kernel frees it when the process ends, however it ends.

    Whoever waits holds the second lock, the turnstile, so that a process that has just let go cannot
    take the lock again before one that waits.
    """

    def __init__(self, path: Path) -> None:
        self._lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            turnstile = path.with_name(path.name + ".next")
            self._turnstile = os.open(turnstile, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            os.close(self._lock)
            raise

    def acquire(self, deadline: float) -> bool:
        """Take the lock; False when it could not be had before `deadline` by the monotonic clock. Blocks the calling thread."""
        if not _take(self._turnstile, deadline, _LONGEST_PAUSE_S):
            return False
        try:
            return _take(self._lock, deadline, _NEXT_PAUSE_S)
        finally:
            fcntl.flock(self._turnstile, fcntl.LOCK_UN)

    def release(self) -> None:
        """Let the next one in."""
        fcntl.flock(self._lock, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go for good."""
        os.close(self._lock)
        os.close(self._turnstile)


def _take(descriptor: int, deadline: float, longest_pause_s: float) -> bool:
    """Tried in short steps, since `flock` knows no time limit."""
    pause = _SHORTEST_PAUSE_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(pause)
            pause = min(pause * 1.5, longest_pause_s)
        else:
            return True
