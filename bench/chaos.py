"""Five minutes of everything at once on three nodes and three brokers: what was acked, what was lost, how long until it was whole.

Official JavaScript clients talk all the while. CHAOS_SECONDS and CHAOS_SEED are variables; the same seed is the same trouble.
"""

import asyncio
import os
import tempfile
from pathlib import Path

import msgspec

from bench.report import machine, percentile, write_results
from tests.support.chaos import SETTINGS, Round, chaos
from tests.support.crowd import UNHURRIED
from tests.support.js import js_clients
from tests.support.nodes import Cluster
from tests.support.rabbit_cluster import RabbitCluster
from tests.support.talk import Talk, same_on_every_node

SECONDS, SEED = 300.0, 1
RATE = 200  # messages a second, of all together


def main() -> None:
    """Run it, print each round, and write the results."""
    measured_on = machine()
    seconds, seed = float(os.environ.get("CHAOS_SECONDS", SECONDS)), int(os.environ.get("CHAOS_SEED", SEED))
    with tempfile.TemporaryDirectory() as folder:
        rounds, facts = asyncio.run(_run(Path(folder), seconds, seed))
    path = write_results("chaos", [msgspec.to_builtins(one) for one in rounds], measured_on=measured_on, seed=seed, **facts)
    print(f"  written to {path}")


async def _run(folder: Path, seconds: float, seed: int) -> tuple[list[Round], dict[str, object]]:
    with RabbitCluster(folder / "brokers") as brokers, Cluster(folder, UNHURRIED | SETTINGS | {"log": brokers.url}) as cluster:
        async with js_clients() as js:
            talk = Talk(js, cluster, "chaos", rate=RATE)
            await talk.begin()
            rounds = await chaos(cluster, brokers, "/", seed=seed, seconds=seconds, tell=_tell)
            await talk.end()
            verdicts = talk.verdicts()
            for verdict in verdicts:
                print(f"  {verdict}")
            talk.check(in_time=False)
        same_on_every_node(cluster)
        print("  replay --verify: no difference on any node")
    whole = sorted(one.whole_after_s for one in rounds)
    facts: dict[str, object] = {
        "seconds": seconds,
        "acked": sum(verdict.acked for verdict in verdicts),
        "seen": sum(verdict.seen for verdict in verdicts),
        "faults": sum(len(verdict.faults) for verdict in verdicts),
        "whole_after_s": {"p50": percentile(whole, 0.5), "worst": whole[-1]},
    }
    return rounds, facts


def _tell(one: Round) -> None:
    how = "killed" if one.broker_killed else "stopped"
    print(
        f"  {one.killed} killed, {one.hung} hung for {one.hung_s} s, broker {one.broker + 1} {how}: "
        f"whole {one.whole_after_s} s after the broker's return",
        flush=True,
    )
