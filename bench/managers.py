"""One python-socketio application under its own manager for RabbitMQ and under ours: what is lost, how fast it is, what it costs.

The application is that of the tests (`tests/support/chatter.py`): a line differs. Each process serves on uvicorn as it is by default; its
clients are lean ones in this process. All on one RabbitMQ of one scheduler thread, which costs its share of the same two cores.

- `backlog`: the consumer is stopped while a publisher emits all it can, then let go: what one process can send, and what one can
  take. CPU is of the process, per event. With `member`, the consumer has one client in the room; without, only the last event is for it.
- `pace`: both at 500 events a second.
- `restart`: 50 events a second while the broker is killed (`kill -9`) and started again: those that a client on another process never got.
"""

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bench.lean_listener import LeanListener
from bench.report import machine, percentile, write_results
from tests.support.chatters import Chatter, chatters
from tests.support.rabbit import Rabbit

KINDS = ("stock", "tidegate")
TEXT = "x" * 100
BACKLOG = {
    "stock": 5_000,
    "tidegate": 200_000,
}  # a consumer stands still for some seconds, and not for as many as heartbeats take
BACKLOG_MEMBER = {"stock": 5_000, "tidegate": 50_000}
PACE, PACE_S = 500, 8
RESTART_RATE, RESTART_S, RESTART_BEGUN_S = 50, 25, 3.0
WARM_UP = 200
SETTLE_S = 2.0
LIMIT_S = 120.0
QUIET_S = 8.0  # what has not come by then, after the last one, will not


def cpu_seconds(pid: int) -> float:
    """The processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Pair:
    """A publisher and a consumer, with a lean client each."""

    def __init__(self, rabbit: Rabbit, nodes: list[Chatter], clients: list[LeanListener]) -> None:
        self.rabbit = rabbit
        self.publisher, self.consumer = (node.process.pid for node in nodes)
        self.asking, self.hearing = clients

    def cpu(self) -> dict[str, float]:
        """Seconds so far, by part."""
        return {
            "publisher": cpu_seconds(self.publisher),
            "consumer": cpu_seconds(self.consumer),
            "broker": cpu_seconds(self.rabbit.pid),
        }

    async def heard(self, count: int) -> None:
        """Wait until the consumer's client has had so many events."""
        async with asyncio.timeout(LIMIT_S):
            await self.hearing.heard(count)

    def per_event_us(self, before: dict[str, float], events: int) -> dict[str, float]:
        """Microseconds of processor time since `before`, by part."""
        return {f"{part}_us": round((now - before[part]) / events * 1e6, 1) for part, now in self.cpu().items()}


@asynccontextmanager
async def pair(rabbit: Rabbit, kind: str, *, member: bool) -> AsyncIterator[Pair]:
    """Two processes that hear each other; the consumer's client is in `last`, and in `room` where it is a member."""
    async with chatters(kind, rabbit.url, 2, f"bench-{kind}") as nodes:
        clients = [await LeanListener.connect(node.url) for node in nodes]
        both = Pair(rabbit, nodes, clients)
        try:
            await both.hearing.ask("enter", "last")
            if member:
                await both.hearing.ask("enter", "room")
            while not both.hearing.count:  # a process listens from its first client on, and a moment later
                await both.asking.ask("burst", "last", 1, "")
                await asyncio.sleep(0.2)
            await both.asking.ask("burst", "room", WARM_UP, TEXT)
            await asyncio.sleep(SETTLE_S)
            yield both
        finally:
            for client in clients:
                client.close()


async def backlog(rabbit: Rabbit, kind: str, *, member: bool) -> dict[str, Any]:
    """Send all that can be sent to a consumer that stands still, then let it go."""
    events = (BACKLOG_MEMBER if member else BACKLOG)[kind]
    async with pair(rabbit, kind, member=member) as both:
        expected = both.hearing.count + 1 + (events if member else 0)
        before, began = both.cpu(), time.monotonic()
        os.kill(both.consumer, signal.SIGSTOP)
        try:
            await both.asking.ask("burst", "room", events, TEXT)
            await both.asking.ask("burst", "last", 1, "")
            published_s = time.monotonic() - began
        finally:
            began = time.monotonic()
            os.kill(both.consumer, signal.SIGCONT)
        await both.heard(expected)
        row = {
            "published_per_second": round(events / published_s),
            "consumed_per_second": round(events / (both.hearing.last_at - began)),
        }
        return row | both.per_event_us(before, events) | {"events": events}


async def pace(rabbit: Rabbit, kind: str, *, member: bool) -> dict[str, Any]:
    """Send at a rate that both can keep."""
    events = PACE * PACE_S
    async with pair(rabbit, kind, member=member) as both:
        expected = both.hearing.count + 1 + (events if member else 0)
        before = both.cpu()
        ticks = both.hearing.keep()
        await both.asking.ask("pace", "room", events, PACE, TEXT)
        await asyncio.sleep(PACE_S)
        await both.asking.ask("burst", "last", 1, "")
        await both.heard(expected)
        row: dict[str, Any] = both.per_event_us(before, events) | {"events": events}
        if member:
            took = sorted(seconds * 1000 for _, seconds in ticks[:-1])
            row |= {"arrived_p50_ms": round(percentile(took, 0.5), 1), "arrived_p99_ms": round(percentile(took, 0.99), 1)}
        return row


async def restart(rabbit: Rabbit, kind: str) -> dict[str, Any]:
    """Kill the broker under events and start it again. Each is emitted by a handler of its own, as it is in an application."""
    events = RESTART_RATE * RESTART_S

    async def tell(client: LeanListener) -> None:
        begin = time.monotonic()
        for number in range(events):
            await asyncio.sleep(begin + number / RESTART_RATE - time.monotonic())
            client.tell("tick", "room", number)

    async with pair(rabbit, kind, member=True) as both:
        ticks = both.hearing.keep()
        telling = asyncio.create_task(tell(both.asking))
        await asyncio.sleep(RESTART_BEGUN_S)
        began = time.monotonic()
        rabbit.kill()
        rabbit.start()
        await asyncio.to_thread(rabbit.wait_ready)
        away_s = time.monotonic() - began
        await telling
        await both.hearing.quiet(QUIET_S)
        numbers = [number for number, _ in ticks]
        return {
            "broker_away_s": round(away_s, 1),
            "emitted": events,
            "lost": events - len(set(numbers)),
            "twice": len(numbers) - len(set(numbers)),
            "in_order": numbers == sorted(numbers),
        }


async def _measure(rabbit: Rabbit) -> list[dict[str, Any]]:
    rows = []
    for member in (False, True):
        for kind in KINDS:
            rows.append({"what": "backlog", "manager": kind, "member": member} | await backlog(rabbit, kind, member=member))
            _show(rows[-1])
        for kind in KINDS:
            rows.append({"what": "pace", "manager": kind, "member": member} | await pace(rabbit, kind, member=member))
            _show(rows[-1])
    rabbit.erlang("[ok = dets:sync(Table) || Table <- dets:all()]")  # else RabbitMQ 3.10 may forget its first stream
    for kind in KINDS:
        rows.append({"what": "restart", "manager": kind} | await restart(rabbit, kind))
        _show(rows[-1])
    return rows


def _show(row: dict[str, Any]) -> None:
    print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)


def main() -> None:
    """Measure both, one after the other, and write the results."""
    before = machine()
    with tempfile.TemporaryDirectory() as folder, Rabbit(Path(folder)) as rabbit:
        version = rabbit.erlang("rabbit_misc:version()").strip('"')
        rows = asyncio.run(_measure(rabbit))
    path = write_results("managers", rows, measured_on=before, rabbitmq=version, python_executable=Path(sys.executable).name)
    print(f"written to {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")
