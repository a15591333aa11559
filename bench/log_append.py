"""The embedded log: append and append-to-follow latency, three processes on one file.

Each process appends its third of the rate to all partitions in turn, on its own clock and without waiting for the one before (an
open loop), and follows all partitions. Appending is timed from the call to its return; following from the call in one
process to the batch in another one. The first second is not counted. Every record must arrive.
"""

import asyncio
import contextlib
import itertools
import json
import sqlite3
import struct
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from contextlib import aclosing
from pathlib import Path
from typing import Any

import uvloop

from bench.report import machine, percentile, write_results
from broker.log import START, Log, LogUnavailable
from broker.sqlite import open_sqlite

PROCESSES = 3
PARTITIONS = 9  # those of a cluster with the default setting, and the control partition
RATES = (100, 1_000, 5_000)  # events a second of all processes together
SECONDS = 8.0
WARM_UP_S = 1.0
RECORD_BYTES = 300  # a message with its envelope
ARRIVAL_LIMIT_S = 5.0
_HEADER = struct.Struct("<Bqd")  # process, number (negative while warming up), when by the machine's monotonic clock


class Appender:
    """One of the processes: what it appended, and what it saw of the others."""

    def __init__(self, log: Log, me: int, *, per_second: float) -> None:
        self._log, self._me, self._per_second = log, me, per_second
        self.appended: list[float] = []
        self.followed: list[float] = []
        self.late: list[float] = []
        self.refused = 0
        self.expected, self.seen = (PROCESSES - 1) * round(SECONDS * per_second), 0
        self.all_seen = asyncio.Event()

    async def follow(self, partition: int) -> None:
        """Time what comes from the others, for ever."""
        async with aclosing(self._log.follow(partition, START)) as batches:
            async for batch in batches:
                now = time.monotonic()
                for record in batch:
                    process, number, sent = _HEADER.unpack_from(record.data)
                    if process != self._me and number >= 0:
                        self.seen += 1
                        self.followed.append(now - sent)
                if self.seen == self.expected:
                    self.all_seen.set()

    async def append_at_rate(self, begin: float) -> None:
        """Append from `begin` on, each record when it is due, whatever became of the one before."""
        warm_up = round(WARM_UP_S * self._per_second)
        async with asyncio.TaskGroup() as appending:
            for number in range(-warm_up, round(SECONDS * self._per_second)):
                due = begin + (number + warm_up + self._me / PROCESSES) / self._per_second
                if (wait := due - time.monotonic()) > 0:
                    await asyncio.sleep(wait)
                appending.create_task(self._append(number, due))

    async def _append(self, number: int, due: float) -> None:
        began = time.monotonic()
        data = _HEADER.pack(self._me, number, began).ljust(RECORD_BYTES, b"x")
        try:
            await self._log.append((number + self._me) % PARTITIONS, data)
        except LogUnavailable:
            self.refused += 1
            return
        if number >= 0:
            self.appended.append(time.monotonic() - began)
            self.late.append(began - due)


async def _child(path: Path, me: int, rate: int) -> None:
    async with open_sqlite(path, partitions=PARTITIONS, name=f"bench-{me}") as broker:
        appender = Appender(broker.log, me, per_second=rate / PROCESSES)
        following = [asyncio.create_task(appender.follow(partition)) for partition in range(PARTITIONS)]
        print("ready", flush=True)
        await appender.append_at_rate(float(sys.stdin.readline()))
        with contextlib.suppress(TimeoutError):  # what has not come by then is counted as missing
            await asyncio.wait_for(appender.all_seen.wait(), ARRIVAL_LIMIT_S)
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
    figures = {"appended": appender.appended, "followed": appender.followed, "late": appender.late}
    counts = {"refused": appender.refused, "missing": appender.expected - appender.seen}
    print(json.dumps({name: [round(s * 1000, 3) for s in seconds] for name, seconds in figures.items()} | counts), flush=True)


async def _measure(path: Path, rate: int) -> dict[str, Any]:
    """Run the processes at one rate."""
    command = [sys.executable, "-m", "bench.log_append", str(path)]
    processes = [
        await asyncio.create_subprocess_exec(*command, str(me), str(rate), stdin=PIPE, stdout=PIPE, limit=1 << 26)
        for me in range(PROCESSES)
    ]
    try:
        async with asyncio.timeout(SECONDS + WARM_UP_S + ARRIVAL_LIMIT_S + 20):
            for process in processes:
                assert await _line(process) == b"ready\n"
            begin = f"{time.monotonic() + 0.3}\n".encode()
            for process in processes:
                assert process.stdin is not None
                process.stdin.write(begin)
            answers = [json.loads(await _line(process)) for process in processes]
            for process in processes:
                await process.wait()
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
                await process.wait()
    return _row(rate, answers)


async def _line(process: Process) -> bytes:
    assert process.stdout is not None
    return await process.stdout.readline()


def _row(rate: int, answers: list[dict[str, Any]]) -> dict[str, Any]:
    row: dict[str, Any] = {"events_per_second": rate}
    for name, title in (("appended", "append"), ("followed", "append_to_follow"), ("late", "generator_late")):
        values = sorted(itertools.chain.from_iterable(answer[name] for answer in answers))
        row |= {
            f"{title}_p50_ms": percentile(values, 0.5),
            f"{title}_p99_ms": percentile(values, 0.99),
            f"{title}_max_ms": values[-1],
        }
    row["appends"] = sum(len(answer["appended"]) for answer in answers)
    return row | {count: sum(answer[count] for answer in answers) for count in ("refused", "missing")}


def main() -> None:
    """Measure at each rate, print a table, write the results."""
    before = machine()
    columns = ("append_p50_ms", "append_p99_ms", "append_to_follow_p50_ms", "append_to_follow_p99_ms", "refused", "missing")
    print(f"{PROCESSES} processes, {PARTITIONS} partitions, {RECORD_BYTES} bytes a record, {SECONDS:.0f} s at each rate")
    print(f"{'events/s':>9} " + " ".join(f"{column:>24}" for column in columns))
    rows = []
    for rate in RATES:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(row := asyncio.run(_measure(Path(folder) / "log.db", rate)))
        print(f"{rate:>9} " + " ".join(f"{row[column]:>24}" for column in columns), flush=True)
    facts = {"processes": PROCESSES, "partitions": PARTITIONS, "record_bytes": RECORD_BYTES, "seconds": SECONDS}
    path = write_results("log_append", rows, measured_on=before, sqlite=sqlite3.sqlite_version, **facts)
    print(f"written to {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")


if __name__ == "__main__":
    uvloop.run(_child(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
