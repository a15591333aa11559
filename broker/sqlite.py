"""The embedded log: one SQLite file in WAL mode, opened by every node on this machine.

Durability: a record whose append returned survives the `kill -9` of every process. With `synchronous="normal"` (the default) the last
moments before a power failure may be lost, as they may with RabbitMQ streams on one broker; `"full"` waits for the disk at
each commit.
"""

import asyncio
import os
import secrets
import sqlite3
import time
import zlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Literal

from broker.log import START, LogDiverged, LogUnavailable, Position, Record
from broker.nudge import Datagrams
from broker.sqlite_writer import Pending, Writer

APPEND_LIMIT_S = 2.8  # the contract says 3 s
POLL_S = 0.05  # a nudge may be lost
LOOK_S = 1.0  # how often to see who is there, and whether the file still is
RETRY_S = 1.0  # after a failed commit the log counts as down so long, then the next append is the probe
_MOST = 5_000
_SCHEMA = 1


class SqliteLog:
    """See `broker.log.Log`. Offsets are dense from 1."""

    def __init__(self, path: Path, datagrams: Datagrams, synchronous: str) -> None:
        self._path, self._datagrams, self._synchronous = path, datagrams, synchronous
        self._reader = _connect(path, synchronous)
        meta = dict(self._reader.execute("SELECT key, value FROM meta"))
        self._partitions, self._epoch = int(meta["partitions"]), meta["epoch"]
        self._inode = os.stat(path).st_ino
        self._grown = [asyncio.Event() for _ in range(self._partitions)]
        self._diverged: str | None = None
        self._loop = asyncio.get_running_loop()
        self._version = 0
        self._writer = Writer(path, lambda: _connect(path, synchronous), self._committed)
        datagrams.nudged = self._wake
        self._watching = asyncio.ensure_future(self._watch())

    @property
    def partitions(self) -> int:
        return self._partitions

    @property
    def epoch(self) -> str:
        return self._epoch

    @property
    def up(self) -> bool:
        failed_at = self._writer.failed_at
        return self._diverged is None and (failed_at is None or time.monotonic() - failed_at > RETRY_S)

    async def append(self, partition: int, data: bytes) -> None:
        future: asyncio.Future[None] = self._loop.create_future()
        pending = Pending(partition, data, future)
        self._writer.put(pending)
        try:
            async with asyncio.timeout(APPEND_LIMIT_S):
                await future
        except TimeoutError:
            pending.withdrawn = True
            raise LogUnavailable("the log did not answer in time") from None

    async def follow(self, partition: int, after: Position) -> AsyncIterator[Sequence[Record]]:
        self._check(partition, after)
        at, grown = after.offset, self._grown[partition]
        while True:
            grown.clear()
            while batch := self._read(partition, at):
                at = batch[-1].position.offset
                yield batch
            if self._diverged is not None:
                raise LogDiverged(self._diverged)
            await grown.wait()

    async def end(self, partition: int) -> Position:
        sql = "SELECT offset, data FROM records WHERE partition = ? ORDER BY offset DESC LIMIT 1"
        try:
            row = self._reader.execute(sql, (partition,)).fetchone()
        except sqlite3.Error as error:
            raise LogUnavailable(str(error)) from None
        return Position(row[0], zlib.crc32(row[1])) if row else START

    async def aclose(self) -> None:
        """Write what waits, then close. Idempotent."""
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)
        await self._writer.aclose()
        self._reader.close()

    def _check(self, partition: int, after: Position) -> None:
        if after.offset == 0:
            return
        sql = "SELECT data FROM records WHERE partition = ? AND offset = ?"
        row = self._reader.execute(sql, (partition, after.offset)).fetchone()
        if row is None or zlib.crc32(row[0]) != after.checksum:
            raise LogDiverged("the log does not hold the record that this position was taken from")

    def _read(self, partition: int, at: int) -> list[Record]:
        sql = "SELECT offset, data FROM records WHERE partition = ? AND offset > ? ORDER BY offset LIMIT ?"
        try:
            rows = self._reader.execute(sql, (partition, at, _MOST)).fetchall()
        except sqlite3.OperationalError:
            return []  # locked for a moment, or a disk that fails: the poll comes again
        crc32 = zlib.crc32
        return [Record(partition, Position(offset, crc32(data)), data) for offset, data in rows]

    def _committed(self, partitions: set[int]) -> None:
        """Called by the writer's thread after each commit."""
        self._loop.call_soon_threadsafe(self._wake, bytes(partitions))
        self._datagrams.nudge(partitions)

    def _wake(self, partitions: bytes) -> None:
        for partition in partitions:
            if partition < self._partitions:
                self._grown[partition].set()

    async def _watch(self) -> None:
        """The poll behind the nudges; and once a second, whether the file is still the one that was opened."""
        looked = 0.0
        while True:
            await asyncio.sleep(POLL_S)
            (version,) = self._reader.execute("PRAGMA data_version").fetchone()
            if version != self._version:
                self._version = version
                self._wake(bytes(range(self._partitions)))
            if time.monotonic() - looked > LOOK_S:
                looked = time.monotonic()
                self._look()

    def _look(self) -> None:
        self._datagrams.find_peers()
        try:
            same = os.stat(self._path).st_ino == self._inode
        except OSError:
            same = False
        if not same and self._diverged is None:
            self._diverged = f"{self._path.name} was removed or replaced while it was in use"
            self._writer.refuse(self._diverged)
            self._wake(bytes(range(self._partitions)))


class SqliteBroker:
    """The log and the signals of the nodes on one machine."""

    def __init__(self, log: SqliteLog, signals: Datagrams) -> None:
        self.log, self.signals = log, signals


@asynccontextmanager
async def open_sqlite(
    path: Path,
    *,
    partitions: int | None,
    name: str,
    create: bool = True,
    synchronous: Literal["normal", "full"] = "normal",
) -> AsyncIterator[SqliteBroker]:
    """Open the log at `path`, made with `partitions` partitions where it is missing and `create` says so.

    `name` is this process's among those that share the log. Raises `LogUnavailable` when there is no log or it cannot be read,
    `ValueError` when it has another number of partitions (None takes what it has).
    """
    if create and partitions is not None:
        _create(path, partitions, synchronous)
    if not path.exists():
        raise LogUnavailable(f"there is no log at {path}")
    with closing(_connect(path, synchronous)) as connection:
        try:
            meta = dict(connection.execute("SELECT key, value FROM meta"))
        except sqlite3.Error as error:
            raise LogUnavailable(f"{path} is not a log: {error}") from None
    if int(meta["schema"]) != _SCHEMA:
        raise LogUnavailable(f"{path} has schema {meta['schema']}, this version reads {_SCHEMA}")
    if partitions is not None and int(meta["partitions"]) != partitions:
        raise ValueError(f"the log at {path} has {int(meta['partitions'])} partitions, not {partitions}; the number is fixed")
    datagrams = Datagrams(path.with_name(path.name + ".nodes"), name)
    log = None
    try:
        datagrams.start()
        log = SqliteLog(path, datagrams, synchronous)
        yield SqliteBroker(log, datagrams)
    finally:
        if log is not None:
            await log.aclose()
        datagrams.close()


def _connect(path: Path, synchronous: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=2.0, cached_statements=64)
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    return connection


def _create(path: Path, partitions: int, synchronous: str) -> None:
    """Make the file where it is missing; several processes may try at once, and one does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with closing(_connect(path, synchronous)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS records"
                " (partition INTEGER, offset INTEGER, data BLOB NOT NULL, PRIMARY KEY (partition, offset)) WITHOUT ROWID"
            )
            values = [("schema", str(_SCHEMA)), ("epoch", secrets.token_hex(8)), ("partitions", str(partitions))]
            connection.executemany("INSERT OR IGNORE INTO meta VALUES (?, ?)", values)
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise LogUnavailable(f"cannot open {path}: {error}") from None
