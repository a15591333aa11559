"""The embedded log: one SQLite file in WAL mode, opened by every node on this machine.

Durability: a record whose append returned survives the `kill -9` of every process. With `synchronous="normal"` (the default)
the last moments before a power failure may be lost, as they may with RabbitMQ streams on one broker; `"full"` waits for the
disk at each commit.
"""

import asyncio
import contextlib
import sqlite3
import time
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from broker.log import MOST_IN_BATCH, START, LogDiverged, LogUnavailable, Position, Record, check_partition
from broker.nudge import Datagrams
from broker.sqlite_file import Meta, Synchronous, connect, identity, is_busy, is_damage, prepare, table, why_not_opened
from broker.sqlite_writer import Pending, Writer

APPEND_LIMIT_S = 2.8  # the contract says 3 s
END_LIMIT_S = 2.5
POLL_S = 0.05  # a nudge may be lost
LOOK_S = 1.0  # how often to see who is there, and whether the file still is
MOST_BYTES = 4 * 1024 * 1024  # read at a time: reads are done on the event loop, and this much takes it some milliseconds


class SqliteLog:
    """See `broker.log.Log`. Offsets are dense from 1."""

    def __init__(self, path: Path, meta: Meta, datagrams: Datagrams, synchronous: Synchronous) -> None:
        self._path, self._meta, self._datagrams = path, meta, datagrams
        self._grown = [asyncio.Event() for _ in range(meta.partitions)]
        self._diverged: str | None = None
        self._failure: BaseException | None = None
        self._closed, self._readable = False, True
        self._loop = asyncio.get_running_loop()
        self._version = 0
        self._reader = connect(path, synchronous)
        try:
            file = identity(path)
            if file is None:
                raise FileNotFoundError(f"{path} was removed while it was opened")
            self._file = file
            self._writer = Writer(path, file, synchronous, self._committed)
        except BaseException:
            self._reader.close()
            raise
        datagrams.nudged = self._wake
        self._watching = asyncio.ensure_future(self._watch())
        self._watching.add_done_callback(self._watch_ended)

    @property
    def partitions(self) -> int:
        return self._meta.partitions

    @property
    def epoch(self) -> str:
        return self._meta.epoch

    @property
    def up(self) -> bool:
        return self._readable and not self._closed and self._diverged is None and not self._writer.failing

    async def append(self, partition: int, data: bytes) -> None:
        await self.append_all(partition, (data,))

    async def append_all(self, partition: int, data: Sequence[bytes]) -> None:
        check_partition(partition, self.partitions)
        future: asyncio.Future[None] = self._loop.create_future()
        pending = Pending(partition, data, future)
        self._writer.put(pending)
        try:
            async with asyncio.timeout(APPEND_LIMIT_S):
                await future
        except TimeoutError:
            self._writer.late()
            raise LogUnavailable("the log did not answer in time") from None
        finally:
            pending.withdrawn = True  # nobody waits for it any more

    def follow(self, partition: int, after: Position) -> AsyncGenerator[Sequence[Record], None]:
        check_partition(partition, self.partitions)
        return self._follow(partition, after)

    async def _follow(self, partition: int, at: Position) -> AsyncGenerator[Sequence[Record], None]:
        grown = self._grown[partition]
        while True:
            grown.clear()  # before the read, and nothing is awaited between the read and the wait: no growth goes unseen
            self._check_usable()
            batch = self._read(partition, at)
            if batch is None:
                await asyncio.sleep(POLL_S)
            elif batch:
                at = batch[-1].position
                yield batch
                await asyncio.sleep(0)  # a follower that never waits must not starve the others
            else:
                await grown.wait()

    @property
    def unit(self) -> str:
        return "event"

    def ordinal(self, offset: int) -> int:
        return offset

    async def holds(self, partition: int, position: Position) -> bool:
        check_partition(partition, self.partitions)
        if position == START:
            return True
        sql = f"SELECT offset, data FROM {table(partition)} WHERE offset = ?"  # noqa: S608 (a number)
        return _is_at(position, await self._row(sql, position.offset))

    async def rebase(self, partition: int, position: Position, *, anew: bool) -> Position:
        raise LogDiverged("the partitions of an embedded log are lost together or not at all: restore another snapshot")

    async def end(self, partition: int) -> Position:
        check_partition(partition, self.partitions)
        row = await self._row(f"SELECT offset, data FROM {table(partition)} ORDER BY offset DESC LIMIT 1")  # noqa: S608 (a number)
        return Position(row[0], zlib.crc32(row[1])) if row else START

    async def _row(self, sql: str, *values: int) -> tuple[int, bytes] | None:
        """One row, once the file can be read. Raises `LogUnavailable`."""
        deadline = time.monotonic() + END_LIMIT_S
        while True:
            if self._diverged is not None:
                raise LogUnavailable(self._diverged)
            self._check_usable()
            try:
                row: tuple[int, bytes] | None = self._reader.execute(sql, values).fetchone()
            except sqlite3.Error as error:
                if not is_busy(error) or time.monotonic() > deadline:
                    raise LogUnavailable(f"the log cannot be read: {error}") from None
                await asyncio.sleep(POLL_S)
            else:
                return row

    async def aclose(self) -> None:
        """Write what waits, then close; followers that are still there get `LogUnavailable`. Idempotent."""
        self._closed = True
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)  # what it failed with, its followers have been told
        self._wake_all()
        await self._writer.aclose()
        await asyncio.to_thread(self._reader.close)  # the last to close moves the write-ahead log, which takes a while

    def _check_usable(self) -> None:
        if self._failure is not None:
            raise RuntimeError(f"the log's watch failed: {self._failure!r}") from self._failure
        if self._closed:
            raise LogUnavailable("the log is closed")
        if self._diverged is not None:
            raise LogDiverged(self._diverged)

    def _read(self, partition: int, at: Position) -> list[Record] | None:
        """What stands behind `at`, up to a batch; None when the file cannot be read now.

        It begins with the record at `at` itself, which must still be the one it was.
        """
        sql = f"SELECT offset, data FROM {table(partition)} WHERE offset >= ? ORDER BY offset LIMIT ?"  # noqa: S608 (a number)
        batch, size = [], 0
        try:
            with contextlib.closing(self._reader.execute(sql, (at.offset, MOST_IN_BATCH + 1))) as rows:
                if at.offset > 0 and not _is_at(at, next(rows, None)):
                    raise LogDiverged("the log does not hold the record that this position was taken from")
                for offset, data in rows:
                    batch.append(Record(partition, Position(offset, zlib.crc32(data)), data))
                    size += len(data)
                    if size >= MOST_BYTES or len(batch) == MOST_IN_BATCH:
                        break
        except sqlite3.Error as error:
            self._unreadable(error)
            return None
        return batch

    def _unreadable(self, error: sqlite3.Error) -> None:
        if isinstance(error, sqlite3.ProgrammingError):
            raise error  # no fault of the file
        if is_damage(error):
            self._diverge(f"{self._path.name} is damaged: {error}")
        elif not is_busy(error):
            self._readable = False

    def _committed(self, partitions: Collection[int]) -> None:
        """Called by the writer's thread after each commit."""
        with contextlib.suppress(RuntimeError):  # the loop has been closed under us: nobody follows any more
            self._loop.call_soon_threadsafe(self._wake, partitions)
        self._datagrams.nudge(partitions)

    def _wake(self, partitions: Collection[int]) -> None:
        for partition in partitions:
            if partition < self.partitions:
                self._grown[partition].set()

    def _wake_all(self) -> None:
        self._wake(range(self.partitions))

    async def _watch(self) -> None:
        """The poll behind the nudges; and once a second, whether the file is still the one that was opened."""
        looked = 0.0
        while True:
            await asyncio.sleep(POLL_S)
            self._poll()
            if time.monotonic() - looked > LOOK_S:
                looked = time.monotonic()
                self._look()

    def _watch_ended(self, watching: "asyncio.Task[None]") -> None:
        """Without its watch a log would miss growth: its followers are told, and so is who appends."""
        if not watching.cancelled() and (failure := watching.exception()) is not None:
            self._failure, self._readable = failure, False
            self._writer.refuse(f"the log's watch failed: {failure!r}")
            self._wake_all()

    def _poll(self) -> None:
        try:
            (version,) = self._reader.execute("PRAGMA data_version").fetchone()
        except sqlite3.Error as error:
            self._unreadable(error)
            return
        self._readable = True
        if version != self._version:
            self._version = version
            self._wake_all()

    def _look(self) -> None:
        self._datagrams.find_peers()
        if identity(self._path) != self._file:
            self._diverge(f"{self._path.name} was removed or replaced while it was in use")

    def _diverge(self, why: str) -> None:
        if self._diverged is None:
            self._diverged = why
            self._writer.refuse(why)
            self._wake_all()


def _is_at(at: Position, row: tuple[int, bytes] | None) -> bool:
    return row is not None and row[0] == at.offset and zlib.crc32(row[1]) == at.checksum


class SqliteBroker:
    """The log and the signals of the nodes on one machine."""

    deaf = None  # a poll stands behind the nudges

    def __init__(self, log: SqliteLog, signals: Datagrams) -> None:
        self.log, self.signals = log, signals


@asynccontextmanager
async def open_sqlite(
    path: Path, *, partitions: int | None, name: str, create: bool = True, synchronous: Synchronous = "normal"
) -> AsyncIterator[SqliteBroker]:
    """Open the log at `path`, made with `partitions` partitions where it is missing and `create` says so.

    `name` is this process's among those that share the log. Raises `LogUnavailable` when there is no log or it cannot be read,
    `ValueError` when it has another number of partitions (None takes what it has).
    """
    meta = await asyncio.to_thread(prepare, path, partitions, create=create, synchronous=synchronous)
    datagrams = None
    try:
        datagrams = Datagrams(path.with_name(path.name + ".nodes"), name)
        log = SqliteLog(path, meta, datagrams, synchronous)
    except (OSError, sqlite3.Error) as error:
        if datagrams is not None:
            datagrams.close()
        raise LogUnavailable(why_not_opened(path, error)) from None
    try:
        yield SqliteBroker(log, datagrams)
    finally:
        await log.aclose()
        datagrams.close()
