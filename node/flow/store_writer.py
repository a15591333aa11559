"""The writing half of the read model: changes gather in a batch, and a thread writes batch after batch, each with its positions."""

import asyncio
import contextlib
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from node.flow import store_sql
from node.flow.store_sql import Batch

FULL = 20_000  # events in a batch at which applying waits for the writer
FLUSH_S = 0.1  # how long a change may wait for its transaction
RETRY_S = 1.0
CLOSE_S = 5.0


class StoreWriter:
    """`batch` takes the changes of now, `writing` has those that are on their way into the file: a read looks in both, then there.

    All methods belong to the event loop's thread.
    """

    def __init__(self, path: Path, epoch: str) -> None:
        self._connection = store_sql.connect(path)
        store_sql.prepare(self._connection, epoch)
        self._thread = ThreadPoolExecutor(1, "store-writer")
        self._flushing: asyncio.Future[None] | None = None
        self._failure: Exception | None = None  # what a batch could not be written with, which no trying again mends
        self._closed = False
        self.batch, self.writing = Batch(), Batch()
        self.fault: str | None = None  # why the file cannot be written now
        self.searchable = asyncio.Event()  # all messages are in the search index
        if store_sql.searchable(self._connection) == store_sql.SEARCHABLE:
            self.searchable.set()

    async def flush(self) -> None:
        """Return once every change made before the call is in the file. Raises what a batch could not be written with, for ever."""
        await self._flushed()
        if self.batch.positions or self.batch.events:
            self._begin()
            await self._flushed()

    async def make_room(self) -> None:
        """Return when more may be applied: a full batch goes to the thread, and waits while that still has the one before.

        Raises as `flush`.
        """
        if self.batch.events >= FULL:
            await self._flushed()
            self._begin()

    async def run(self, level: asyncio.Event) -> None:
        """Write in the background, for ever; once `level` with the log, make everything searchable."""
        while True:
            await asyncio.sleep(FLUSH_S)
            await self.flush()
            while level.is_set() and not self.searchable.is_set():
                await self._index_more()
                await self.flush()

    async def aclose(self) -> None:
        """Write what waits, if that can be done at once, and close. Idempotent. Raises as `flush`, once it is closed."""
        if self._closed:
            return
        self._closed = True
        try:
            # 1. what cannot be written in time is read from the log again
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await self.flush()
        finally:
            if self._flushing is not None:
                self._flushing.cancel()
                await asyncio.wait([self._flushing])
            # 2. the thread ends what it does: a transaction is written or not, never half
            await asyncio.to_thread(self._thread.shutdown)
            self._connection.close()

    async def _flushed(self) -> None:
        while self._flushing is not None:
            await asyncio.shield(self._flushing)
        if self._failure is not None:
            raise self._failure  # what follows stands on what could not be written: its positions would claim that, too

    def _begin(self) -> None:
        """Only behind `_flushed`: nothing is being written."""
        self.writing, self.batch = self.batch, Batch()
        self._flushing = asyncio.ensure_future(self._flush())

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    await loop.run_in_executor(self._thread, store_sql.write, self._connection, self.writing)
                except sqlite3.OperationalError as error:
                    await self._failed(error)
                except Exception as error:  # noqa: BLE001 (kept, and raised where somebody waits)
                    self._failure = error
                    self.fault = f"the read model cannot be written: {error}"
                    return
                else:
                    self.fault = None
                    self.writing = Batch()
                    return
        finally:
            self._flushing = None

    async def _index_more(self) -> None:
        try:
            done = await asyncio.get_running_loop().run_in_executor(self._thread, store_sql.index_more, self._connection)
        except sqlite3.OperationalError as error:
            await self._failed(error)
        else:
            self.fault = None
            if done:
                self.searchable.set()

    async def _failed(self, error: sqlite3.OperationalError) -> None:
        self.fault = f"the read model cannot be written: {error}"
        await asyncio.sleep(RETRY_S)
