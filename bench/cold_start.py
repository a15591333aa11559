"""Cold start of a node: seconds from its process to ready, with a million events in the log, with and without a read model.

The log is made up by `bench.history` and written through the embedded log. A node is then started without a read model, with the
one it made, with one that lacks the log's last 10,000 events, and after `kill -9`. TIDEGATE_BENCH_EVENTS makes the log smaller.
"""

import asyncio
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from bench.history import History
from bench.local_node import LocalNode
from bench.report import machine, write_results
from broker.sqlite import open_sqlite
from broker.topology import control_partition, partition_for
from node.core.events import Event, RoomEvent, encode

EVENTS = int(os.environ.get("TIDEGATE_BENCH_EVENTS", "1000000"))
TAIL = 10_000
PARTITIONS = 8
GOAL_S = {"no read model": 30.0, "read model": 3.0}
LIMIT_S = 300.0
_AT_ONCE = 5_000


async def _write(path: Path, events: Iterable[Event]) -> None:
    """Append the events, in order."""
    async with open_sqlite(path, partitions=PARTITIONS + 1, name="bench") as broker:
        waiting = iter(events)
        while some := list(islice(waiting, _AT_ONCE)):
            await asyncio.gather(*(broker.log.append(_partition(event), encode(event)) for event in some))


def _partition(event: Event) -> int:
    return partition_for(event.room, PARTITIONS) if isinstance(event, RoomEvent) else control_partition(PARTITIONS)


def _start(folder: Path, case: str, *, kill: bool = False) -> dict[str, Any]:
    """Start the node once; what it took."""
    with LocalNode("n1", folder) as node:
        row: dict[str, Any] = {"case": case, "ready_s": round(node.wait_ready(LIMIT_S), 2), "cpu_s": round(node.cpu_seconds(), 2)}
        row |= node.memory_mb()
        if not kill:
            node.stop()
    row |= {"read_model_mb": _megabytes(folder / "n1.db"), "goal_s": GOAL_S.get(case)}
    print(" ".join(f"{row[column]!s:>16}" for column in _COLUMNS), flush=True)
    return row


_COLUMNS = ("case", "ready_s", "goal_s", "cpu_s", "memory_peak_mb", "read_model_mb")


def _megabytes(path: Path) -> float:
    return round(path.stat().st_size / 1e6, 1)


def _cases(folder: Path, tail: Iterator[Event]) -> Iterator[dict[str, Any]]:
    yield _start(folder, "no read model")
    yield _start(folder, "read model", kill=True)
    yield _start(folder, "after kill -9")
    asyncio.run(_write(folder / "log.db", tail))
    yield _start(folder, f"{TAIL} behind")


def main() -> None:
    """Make the log, start the node four times, print a table, write the results."""
    before = machine()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        events = History().events(EVENTS + TAIL)
        began = time.monotonic()
        asyncio.run(_write(folder / "log.db", islice(events, EVENTS)))
        log_mb = _megabytes(folder / "log.db")
        print(f"{EVENTS} events, {log_mb} MB, made in {time.monotonic() - began:.0f} s")
        print(" ".join(f"{column:>16}" for column in _COLUMNS))
        rows = list(_cases(folder, events))
    facts = {"events": EVENTS, "log_mb": log_mb, "sqlite": sqlite3.sqlite_version}
    print(f"written to {write_results('cold_start', rows, measured_on=before, **facts)}")


if __name__ == "__main__":
    main()
