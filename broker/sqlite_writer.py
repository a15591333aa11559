"""The writing half of the embedded log: one thread a process that commits what waits as one transaction behind a file lock."""

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from broker.log import LogUnavailable
from broker.sqlite_file import FileLock, Identity, Synchronous, connect, identity, is_busy, table

MOST_WAITING = 10_000  # records: two seconds of what one process can append
MOST_WAITING_BYTES = 16 * 1024 * 1024
LOCK_WAIT_S = 2.0  # for other processes' commits; together with the commit itself inside the contract's 3 s
BATCH = 5_000
BUSY_PAUSE_S = 0.005
PROBE_EVERY_S = 0.2  # after a failed commit, until one succeeds: who sees that the log is down asks nothing of it until then
CHECKPOINT_EVERY_S = 0.5
LONGEST_WAL = 32 * 1024 * 1024  # bytes; past it the write-ahead log is emptied with the lock held
EMPTYING_WAIT_S = 0.5
EMPTYING_READERS_MS = 50  # for readers to end what they read; writers wait as long

Committed = Callable[[Collection[int]], None]


class Pending:
    """Records on their way together: `future` belongs to the loop; `withdrawn` keeps the thread from taking them."""

    __slots__ = ("data", "future", "partition", "size", "withdrawn")

    def __init__(self, partition: int, data: Sequence[bytes], future: "asyncio.Future[None]") -> None:
        self.partition, self.data, self.future, self.withdrawn = partition, data, future, False
        self.size = sum(map(len, data))


class Writer:
    """Takes records, commits whatever waits as one transaction, and resolves their futures on the loop.

    `file` is the file the log was opened as: nothing is acknowledged that went into another one, or into a removed one.
    `committed(partitions)` is called by the writer's thread after each commit. Raises `OSError` or `sqlite3.Error`
    when the file or its lock cannot be opened.
    """

    def __init__(self, path: Path, file: Identity, synchronous: Synchronous, committed: Committed) -> None:
        self._path, self._file, self._committed = path, file, committed
        self._wal = path.with_name(path.name + "-wal")
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Pending] = deque()
        self._waiting_records = self._waiting_bytes = 0
        self._wake = threading.Condition()
        self._closing = threading.Event()
        self._refusal: str | None = None
        self._failing = False
        lock_file = path.with_name(path.name + ".lock")
        with contextlib.ExitStack() as opened:
            self._lock = opened.enter_context(contextlib.closing(FileLock(lock_file)))
            self._emptying_lock = opened.enter_context(contextlib.closing(FileLock(lock_file)))
            self._checkpoint_lock = opened.enter_context(contextlib.closing(FileLock(path.with_name(path.name + ".checkpoint"))))
            self._connection = opened.enter_context(contextlib.closing(connect(path, synchronous)))
            self._checkpointer = opened.enter_context(contextlib.closing(connect(path, synchronous)))
            self._checkpointer.execute(f"PRAGMA busy_timeout = {EMPTYING_READERS_MS}")
            self._opened = opened.pop_all()
        self._threads = [
            threading.Thread(target=self._run, name="log-writer", daemon=True),
            threading.Thread(target=self._checkpoint, name="log-checkpoint", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def failing(self) -> bool:
        """Whether the last commit failed or is late. An own small commit, now and then, finds out when the log is back."""
        return self._failing or self._refusal is not None

    def put(self, pending: Pending) -> None:
        """Queue records. Raises `LogUnavailable` when too many wait, or the log is refused altogether."""
        with self._wake:
            if self._refusal is not None or self._closing.is_set():
                raise LogUnavailable(self._refusal or "the log is closed")
            if self._waiting_records >= MOST_WAITING or self._waiting_bytes >= MOST_WAITING_BYTES:
                raise LogUnavailable("too many records wait for the log")
            self._waiting.append(pending)
            self._waiting_records += len(pending.data)
            self._waiting_bytes += pending.size
            self._wake.notify()

    def late(self) -> None:
        """A record was given up waiting for: the log counts as failing until a commit succeeds."""
        with self._wake:
            self._failing = True
            self._wake.notify()

    def refuse(self, why: str) -> None:
        """From now on every append is refused: the file is no longer the log."""
        with self._wake:
            self._refusal = why

    async def aclose(self) -> None:
        """Commit what waits, then end the threads and close the file. Idempotent."""
        with self._wake:
            self._closing.set()
            self._wake.notify()
        for thread in self._threads:
            await asyncio.to_thread(thread.join)
        await asyncio.to_thread(self._opened.close)  # the last process to close moves the whole write-ahead log

    def _take(self) -> list[Pending] | None:
        """What waits, up to a batch of it; an empty batch when it is time to probe; None when the log is to be closed."""
        with self._wake:
            while not self._waiting and not self._closing.is_set():
                if not self._wake.wait(PROBE_EVERY_S if self._failing else None):
                    return []
            if not self._waiting:
                return None
            batch: list[Pending] = []
            count = 0
            while self._waiting and count < BATCH:  # those that belong together are never parted
                batch.append(self._waiting.popleft())
                count += len(batch[-1].data)
                self._waiting_bytes -= batch[-1].size
            self._waiting_records -= count
        return batch

    def _run(self) -> None:
        why = "the log is closed"
        try:
            while (batch := self._take()) is not None:
                self._commit_and_tell(batch)
        except BaseException as error:
            why = f"the log's writer failed: {error!r}"
            raise
        finally:
            self.refuse(why)
            self._settle_later(list(self._waiting), why)

    def _commit_and_tell(self, batch: list[Pending]) -> None:
        error: str | None = "the log's writer failed"
        try:
            error = self._commit(batch)
            self._failing = error is not None
            if error is None:
                self._committed({pending.partition for pending in batch})
        finally:
            self._settle_later(batch, error)

    def _settle_later(self, batch: list[Pending], error: str | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has been closed under us: nobody waits any more
            self._loop.call_soon_threadsafe(_settle, batch, error)

    def _commit(self, batch: Collection[Pending]) -> str | None:
        """Write one batch; else the reason it could not be written."""
        if self._refusal is not None:
            return self._refusal
        deadline = time.monotonic() + LOCK_WAIT_S
        try:
            if not self._lock.acquire(deadline):
                return "another process holds the log's lock"
            try:
                if self._is_gone():
                    return f"{self._path.name} was removed or replaced while it was in use"
                self._insert_before(deadline, batch)
                if self._is_gone():  # in between: what was written goes with the last process that has the file open
                    return f"{self._path.name} was removed or replaced while it was written"
            finally:
                self._lock.release()
        except (sqlite3.Error, OSError) as error:
            return str(error)
        return None

    def _is_gone(self) -> bool:
        return identity(self._path) != self._file

    def _insert_before(self, deadline: float, batch: Collection[Pending]) -> None:
        """In one transaction, or not at all. Somebody who does not know of the lock may be in the way: tried until `deadline`."""
        while True:
            try:
                _insert(self._connection, batch)
            except sqlite3.Error as error:
                with contextlib.suppress(sqlite3.Error):  # most errors have rolled back already
                    self._connection.execute("ROLLBACK")
                if not is_busy(error) or time.monotonic() > deadline:
                    raise
                time.sleep(BUSY_PAUSE_S)
            else:
                return

    def _checkpoint(self) -> None:
        """Move the write-ahead log into the file, off the write path; one process at a time, whichever comes first.

        Under a steady load a passive checkpoint never finds a moment in which everything has been moved, and the log would
        grow for ever: past a size, its rest is moved with the writers' lock held.
        """
        while not self._closing.wait(CHECKPOINT_EVERY_S):
            with contextlib.suppress(sqlite3.Error, OSError):  # a full disk or a lock: appends say so, and it is tried again
                if not self._checkpoint_lock.acquire(time.monotonic()):
                    continue
                try:
                    self._checkpointer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                    if self._wal.stat().st_size > LONGEST_WAL:
                        self._empty_wal()
                finally:
                    self._checkpoint_lock.release()

    def _empty_wal(self) -> None:
        if not self._emptying_lock.acquire(time.monotonic() + EMPTYING_WAIT_S):
            return
        try:
            self._checkpointer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            self._emptying_lock.release()


def _settle(batch: list[Pending], error: str | None) -> None:
    for pending in batch:
        if pending.future.done():
            continue
        if error is None:
            pending.future.set_result(None)
        else:
            pending.future.set_exception(LogUnavailable(error))


def _insert(connection: sqlite3.Connection, batch: Collection[Pending]) -> None:
    """An empty batch is a probe: it writes, too, since a full disk takes a transaction that does not."""
    connection.execute("BEGIN IMMEDIATE")
    if not batch:
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('probed', ?)", (str(time.time_ns()),))
    ends: dict[int, int] = {}
    rows: dict[int, list[tuple[int, bytes]]] = {}
    for pending in batch:
        if pending.withdrawn:
            continue
        partition = pending.partition
        if partition not in rows:
            rows[partition] = []
            last = f"SELECT ifnull(max(offset), 0) FROM {table(partition)}"  # noqa: S608 (a number)
            (end,) = connection.execute(last).fetchone()
            ends[partition] = end
        for data in pending.data:
            ends[partition] += 1
            rows[partition].append((ends[partition], data))
    for partition, appended in rows.items():
        connection.executemany(f"INSERT INTO {table(partition)} VALUES (?, ?)", appended)  # noqa: S608 (a number)
    connection.execute("COMMIT")
