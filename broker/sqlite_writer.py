"""The writing half of the embedded log: one thread a process, group commit behind a file lock."""

import asyncio
import contextlib
import fcntl
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

from broker.log import LogUnavailable

MOST_WAITING = 10_000  # records: two seconds of what one process can append
MOST_WAITING_BYTES = 16 * 1024 * 1024
LOCK_WAIT_S = 2.0  # for another process's commit; together with the commit itself inside the contract's 3 s
BATCH = 5_000
CHECKPOINT_EVERY_S = 0.5

Committed = Callable[[set[int]], None]


class Pending:
    """A record on its way: `future` belongs to the loop; `withdrawn` keeps the thread from taking it."""

    __slots__ = ("data", "future", "partition", "withdrawn")

    def __init__(self, partition: int, data: bytes, future: "asyncio.Future[None]") -> None:
        self.partition, self.data, self.future, self.withdrawn = partition, data, future, False


class Writer:
    """Takes records, commits whatever waits as one transaction, and resolves their futures on the loop."""

    def __init__(self, path: Path, connect: Callable[[], sqlite3.Connection], committed: Committed) -> None:
        self._path, self._connect, self._committed = path, connect, committed
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Pending] = deque()
        self._waiting_bytes = 0
        self._wake = threading.Condition()
        self._closing = False
        self._refusal: str | None = None
        self.failed_at: float | None = None  # by the monotonic clock; None while the last commit succeeded
        self._threads = [
            threading.Thread(target=self._run, name="log-writer", daemon=True),
            threading.Thread(target=self._checkpoint, name="log-checkpoint", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def put(self, pending: Pending) -> None:
        """Queue a record. Raises `LogUnavailable` when too many wait, or the log is refused altogether."""
        with self._wake:
            if self._refusal is not None or self._closing:
                raise LogUnavailable(self._refusal or "the log is closing")
            if len(self._waiting) >= MOST_WAITING or self._waiting_bytes >= MOST_WAITING_BYTES:
                raise LogUnavailable("too many records wait for the log")
            self._waiting.append(pending)
            self._waiting_bytes += len(pending.data)
            self._wake.notify_all()

    def refuse(self, why: str) -> None:
        """From now on every append is refused: the file is no longer the log."""
        with self._wake:
            self._refusal = why
        self.failed_at = time.monotonic()

    async def aclose(self) -> None:
        """Commit what waits, then end the threads. Idempotent."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        for thread in self._threads:
            await asyncio.to_thread(thread.join)

    def _take(self) -> list[Pending] | None:
        with self._wake:
            while not self._waiting and not self._closing:
                self._wake.wait()
            if not self._waiting:
                return None
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            self._waiting_bytes -= sum(len(pending.data) for pending in batch)
        return batch

    def _run(self) -> None:
        lock = os.open(self._path.with_name(self._path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with contextlib.closing(self._connect()) as connection:
            while (batch := self._take()) is not None:
                error = self._commit(connection, lock, batch)
                self.failed_at = time.monotonic() if error else None
                taken = [pending for pending in batch if not pending.withdrawn]
                if error is None:
                    partitions = {pending.partition for pending in taken}
                    self._committed(partitions)
                self._resolve(taken, error)
        os.close(lock)

    def _resolve(self, batch: list[Pending], error: str | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has been closed under us: nobody waits any more
            self._loop.call_soon_threadsafe(_settle, batch, error)

    def _commit(self, connection: sqlite3.Connection, lock: int, batch: Iterable[Pending]) -> str | None:
        """Write one batch; the reason it could not be, without a record of it left behind."""
        deadline = time.monotonic() + LOCK_WAIT_S
        if self._refusal is not None:
            return self._refusal
        if not _acquire(lock, deadline):
            return "another process holds the log's lock"
        try:
            while True:
                try:
                    _insert(connection, batch)
                except sqlite3.OperationalError as error:
                    _roll_back(connection)
                    busy = getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
                    if not busy or time.monotonic() > deadline:
                        return str(error)
                    time.sleep(0.005)
                except sqlite3.Error as error:
                    _roll_back(connection)
                    return str(error)
                else:
                    return None
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)

    def _checkpoint(self) -> None:
        """Move the write-ahead log into the file, off the write path."""
        with contextlib.closing(self._connect()) as connection:
            while True:
                with self._wake:
                    if self._closing:
                        return
                    self._wake.wait_for(lambda: self._closing, timeout=CHECKPOINT_EVERY_S)
                with contextlib.suppress(sqlite3.Error):  # a full disk or a lock: appends say so, and it is tried again
                    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()


def _settle(batch: list[Pending], error: str | None) -> None:
    for pending in batch:
        if pending.future.done():
            continue
        if error is None:
            pending.future.set_result(None)
        else:
            pending.future.set_exception(LogUnavailable(error))


def _acquire(lock: int, deadline: float) -> bool:
    """The file lock, before `deadline`: tried in short steps, since `flock` knows no time limit."""
    pause = 0.0002
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(pause)
            pause = min(pause * 1.5, 0.01)
        else:
            return True


def _insert(connection: sqlite3.Connection, batch: Iterable[Pending]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    ends: dict[int, int] = {}
    rows = []
    for pending in batch:
        if pending.withdrawn:
            continue
        partition = pending.partition
        if partition not in ends:
            found = connection.execute("SELECT max(offset) FROM records WHERE partition = ?", (partition,)).fetchone()
            ends[partition] = found[0] or 0
        ends[partition] += 1
        rows.append((partition, ends[partition], pending.data))
    connection.executemany("INSERT INTO records VALUES (?, ?, ?)", rows)
    connection.execute("COMMIT")


def _roll_back(connection: sqlite3.Connection) -> None:
    with contextlib.suppress(sqlite3.Error):
        connection.execute("ROLLBACK")
