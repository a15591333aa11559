"""The embedded log and the log on RabbitMQ: append and append-to-follow latency, three processes on one log; what either can take.

At each rate each process appends its third to all partitions in turn, on its own clock and without waiting for the one before (an
open loop), and follows all partitions. Appending is timed from the call to its return; following from the call in one
process to the batch in another one. The first second is not counted. Every record must arrive. The CPU is that of the three
processes, without the broker: for each event one append, and three that follow it.

Saturated, each process keeps some appends in flight on each partition and follows nothing; then one process reads everything.
"""

import asyncio
import contextlib
import itertools
import json
import resource
import sqlite3
import struct
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, aclosing, contextmanager
from pathlib import Path
from typing import Any

import uvloop

from bench.report import machine, percentile, write_results
from broker.log import START, Broker, Log, LogUnavailable
from broker.rabbitmq import open_rabbitmq
from broker.sqlite import open_sqlite
from tests.support.rabbit import Rabbit

PROCESSES = 3
PARTITIONS = 9  # those of a cluster with the default setting, and the control partition
RATES = (100, 1_000, 5_000)  # events a second of all processes together
SECONDS = 8.0
SATURATED_SECONDS = 4.0
IN_FLIGHT = 100  # appends of one process to one partition while it is saturated
WARM_UP_S = 1.0
RECORD_BYTES = 300  # a message with its envelope
ARRIVAL_LIMIT_S = 5.0
START_LIMIT_S = 30.0
_HEADER = struct.Struct("<Bqd")  # process, number (negative while warming up), when by the machine's monotonic clock
Row = dict[str, Any]

# One of the processes


class Appender:
    """What it appended, and what it saw of the others."""

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


def _opened(where: str, me: int) -> AbstractAsyncContextManager[Broker]:
    opening: Any = {"partitions": PARTITIONS, "name": f"bench-{me}"}
    return open_rabbitmq([where], **opening) if "://" in where else open_sqlite(Path(where), **opening)


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _told_to_begin() -> float:
    """Say that we are ready, and wait for the moment."""
    print("ready", flush=True)
    return float(sys.stdin.readline())


async def _at_rate(log: Log, me: int, rate: int) -> Row:
    appender = Appender(log, me, per_second=rate / PROCESSES)
    following = [asyncio.create_task(appender.follow(partition)) for partition in range(PARTITIONS)]
    begin, used = _told_to_begin(), _cpu_seconds()
    await appender.append_at_rate(begin)
    with contextlib.suppress(TimeoutError):  # what has not come by then is counted as missing
        await asyncio.wait_for(appender.all_seen.wait(), ARRIVAL_LIMIT_S)
    used = _cpu_seconds() - used
    for task in following:
        task.cancel()
    await asyncio.gather(*following, return_exceptions=True)
    figures = {"appended": appender.appended, "followed": appender.followed, "late": appender.late}
    counts = {"refused": appender.refused, "missing": appender.expected - appender.seen, "cpu": used}
    return {name: [round(s * 1000, 3) for s in seconds] for name, seconds in figures.items()} | counts


async def _saturated(log: Log) -> Row:
    acked = 0

    async def work(partition: int) -> None:
        nonlocal acked
        while True:
            await log.append(partition, b"x" * RECORD_BYTES)
            acked += 1

    begin = _told_to_begin()
    await asyncio.sleep(begin - time.monotonic())
    working = [asyncio.create_task(work(partition)) for partition in range(PARTITIONS) for _ in range(IN_FLIGHT)]
    await asyncio.sleep(WARM_UP_S)
    before, used, since = acked, _cpu_seconds(), time.monotonic()
    await asyncio.sleep(SATURATED_SECONDS)
    row = {"appended": acked - before, "cpu": _cpu_seconds() - used, "seconds": time.monotonic() - since}
    for task in working:
        task.cancel()
    await asyncio.gather(*working, return_exceptions=True)
    return row


async def _read_all(log: Log) -> Row:
    """Follow every partition from its start to where it ends now."""
    ends = [await log.end(partition) for partition in range(PARTITIONS)]
    read = 0

    async def follow(partition: int) -> None:
        nonlocal read
        async with aclosing(log.follow(partition, START)) as batches:
            async for batch in batches:
                read += len(batch)
                if batch[-1].position >= ends[partition]:
                    return

    _told_to_begin()
    used, since = _cpu_seconds(), time.monotonic()
    await asyncio.gather(*(follow(partition) for partition in range(PARTITIONS)))
    return {"read": read, "cpu": _cpu_seconds() - used, "seconds": time.monotonic() - since}


async def _child(where: str, me: int, what: str) -> None:
    async with _opened(where, me) as broker:
        match what:
            case "saturated":
                row = await _saturated(broker.log)
            case "read":
                row = await _read_all(broker.log)
            case rate:
                row = await _at_rate(broker.log, me, int(rate))
    print(json.dumps(row), flush=True)


# All of them


async def _run(where: str, what: str, *, processes: int, limit_s: float) -> list[Row]:
    """What each of the processes has to tell."""
    command = [sys.executable, "-m", "bench.log_append", where]
    running = [
        await asyncio.create_subprocess_exec(*command, str(me), what, stdin=PIPE, stdout=PIPE, limit=1 << 26)
        for me in range(processes)
    ]
    try:
        async with asyncio.timeout(limit_s + START_LIMIT_S):
            for process in running:
                assert await _line(process) == b"ready\n"
            begin = f"{time.monotonic() + 0.3}\n".encode()
            for process in running:
                assert process.stdin is not None
                process.stdin.write(begin)
            answers = [json.loads(await _line(process)) for process in running]
            for process in running:
                await process.wait()
    finally:
        for process in running:
            if process.returncode is None:
                process.kill()
                await process.wait()
    return answers


async def _line(process: Process) -> bytes:
    assert process.stdout is not None
    return await process.stdout.readline()


def _measure_rate(where: str, rate: int) -> Row:
    limit_s = SECONDS + WARM_UP_S + ARRIVAL_LIMIT_S
    answers = asyncio.run(_run(where, str(rate), processes=PROCESSES, limit_s=limit_s))
    row: Row = {"events_per_second": rate}
    for name, title in (("appended", "append"), ("followed", "append_to_follow"), ("late", "generator_late")):
        values = sorted(itertools.chain.from_iterable(answer[name] for answer in answers))
        row |= {
            f"{title}_p50_ms": percentile(values, 0.5),
            f"{title}_p99_ms": percentile(values, 0.99),
            f"{title}_max_ms": values[-1],
        }
    row["appends"] = sum(len(answer["appended"]) for answer in answers)
    row["cpu_us_per_event"] = round(1e6 * sum(answer["cpu"] for answer in answers) / (rate * (SECONDS + WARM_UP_S)), 1)
    return row | {count: sum(answer[count] for answer in answers) for count in ("refused", "missing")}


def _measure_most(where: str) -> Row:
    appended = asyncio.run(_run(where, "saturated", processes=PROCESSES, limit_s=2 * SATURATED_SECONDS))
    (read,) = asyncio.run(_run(where, "read", processes=1, limit_s=60))
    records = sum(row["appended"] for row in appended)
    return {
        "appends_per_second": round(sum(row["appended"] / row["seconds"] for row in appended)),
        "append_cpu_us": round(1e6 * sum(row["cpu"] for row in appended) / records, 1),
        "reads_per_second": round(read["read"] / read["seconds"]),
        "read_cpu_us": round(1e6 * read["cpu"] / read["read"], 1),
    }


@contextmanager
def _logs() -> Iterator[dict[str, Any]]:
    """By name: what makes a new place for a log, and returns where it is."""
    with tempfile.TemporaryDirectory() as folder, Rabbit(Path(folder) / "rabbit") as rabbit:
        numbers = itertools.count()
        yield {
            "sqlite": lambda: str(Path(folder) / f"{next(numbers)}.db"),
            "rabbitmq": lambda: rabbit.url_for(rabbit.fresh_vhost()),
        }


def main() -> None:
    """Measure each log at each rate, and saturated; print tables, write the results."""
    before = machine()
    columns = (
        "append_p50_ms",
        "append_p99_ms",
        "append_to_follow_p50_ms",
        "append_to_follow_p99_ms",
        "cpu_us_per_event",
        "missing",
    )
    mosts = ("appends_per_second", "append_cpu_us", "reads_per_second", "read_cpu_us")
    print(f"{PROCESSES} processes, {PARTITIONS} partitions, {RECORD_BYTES} bytes a record, {SECONDS:.0f} s at each rate")
    rows = []
    with _logs() as logs:
        for name, new_place in logs.items():
            print(f"{name:>9} " + " ".join(f"{column:>24}" for column in columns))
            for rate in RATES:
                rows.append({"log": name} | (row := _measure_rate(new_place(), rate)))
                print(f"{rate:>9} " + " ".join(f"{row[column]:>24}" for column in columns), flush=True)
            rows.append({"log": name} | (row := _measure_most(new_place())))
            print("saturated " + ", ".join(f"{column} {row[column]}" for column in mosts), flush=True)
    facts = {"processes": PROCESSES, "partitions": PARTITIONS, "record_bytes": RECORD_BYTES, "seconds": SECONDS}
    path = write_results("log_append", rows, measured_on=before, sqlite=sqlite3.sqlite_version, **facts)
    print(f"written to {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")


if __name__ == "__main__":
    uvloop.run(_child(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
