"""`kill -9` of the broker, several times, under 1,000 messages a second on three nodes: what is refused, and how soon it is whole.

Official JavaScript clients talk all the while, and the no-loss checker has the last word.
"""

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from bench.report import machine, write_results
from tests.support.broker_kill import kill_and_start
from tests.support.crowd import UNHURRIED
from tests.support.js import js_clients
from tests.support.nodes import Cluster
from tests.support.rabbit import Rabbit
from tests.support.talk import Talk, same_on_every_node
from tests.support.wait import wait_until

RATE = 1_000  # messages a second, of all together
ROOMS = 8  # of three who talk: a session's commands are carried out one after the other, so more of them are needed for the rate
PARTITIONS = (
    1  # of the log. An event that finds no company is a message of its own, for the broker and for every node: more cost more
)
BEFORE_MS = 5_000  # of talk, before each kill
KILLS = 4


def main() -> None:
    """Run it, print each kill, and write the results."""
    measured_on = machine()
    with tempfile.TemporaryDirectory() as folder:
        rows, facts = asyncio.run(_run(Path(folder)))
    print(f"  {facts}\n  written to {write_results('broker_kill', rows, measured_on=measured_on, **facts)}")


async def _run(folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    rows = []
    with Rabbit(folder / "broker") as broker, Cluster(folder, _settings(broker)) as cluster:
        async with js_clients() as js:
            talk = Talk(js, cluster, "killed", rooms=ROOMS, rate=RATE)
            await talk.begin()
            for _ in range(KILLS):
                await talk.acked(100)
                began = _now()
                await wait_until(lambda since=began: _now() - since >= BEFORE_MS, 60.0, "they talk for a while")  # type: ignore[misc]
                before = talk.per_second(began, began + BEFORE_MS)
                killed = await kill_and_start(broker, cluster)
                rows.append({"acked_per_second_before": round(before), **msgspec.to_builtins(killed)})
                print(f"  {rows[-1]}", flush=True)
            await talk.acked(100)
            await talk.end()
            verdicts = talk.verdicts()
            talk.check(in_time=False)
            disconnects = js.count("disconnect")
        same_on_every_node(cluster)
    facts = {
        "asked_per_second": RATE,
        "partitions": PARTITIONS,
        "acked": sum(verdict.acked for verdict in verdicts),
        "seen": sum(verdict.seen for verdict in verdicts),
        "faults": sum(len(verdict.faults) for verdict in verdicts),
        "slowest_refusal_ms": talk.slowest_refusal_ms(),
        "disconnects": disconnects,
    }
    return rows, facts


def _settings(broker: Rabbit) -> dict[str, str]:
    return UNHURRIED | {"log": broker.url, "partitions": str(PARTITIONS)}


def _now() -> int:
    return time.time_ns() // 1_000_000
