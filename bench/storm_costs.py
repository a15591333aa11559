"""What a node pays for each thing that people do, for planning: a session that is open, a renewal, a return, a message, a delivery.

Small storms on one node, each with one thing in it. Processor time is that of the node while nobody comes for the first time, less what
idle people cost.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.local_node import SECRET, LocalNode
from bench.report import machine, write_results
from bench.storm_runs import people, row, storm
from loadtest.result import Result

USERS = 1_000
ARRIVE_S, RUN_S = 15, 60
READY_S = 30.0
FROM_S, TO_S = 25, 55  # of each run: nobody comes, nobody goes
BASE = ("--local", "--nodes", "1", "--run-time", str(RUN_S))
#: By name: what they are, the flags, and the series that counts what is paid for.
STORMS: dict[str, tuple[Sequence[str], str]] = {
    "idle": (("--people", "lurker=1", "--ttl", "3600"), "sessions"),
    "renewal": (("--people", "lurker=1", "--ttl", "10", "--renewing", "1"), "renewed"),
    "return": (("--people", "lurker=1", "--ttl", "15", "--renewing", "0"), "let in"),
    "message": (("--people", "talker=1", "--ttl", "3600", "--rate", "0.4", "--rooms", "1000"), "acked"),
    "delivery": (("--people", "talker=1", "--ttl", "3600", "--rate", "0.05", "--rooms", "20"), "delivered"),
}


def steady(result: Result, name: str) -> float:
    """The mean of a series while nobody comes or goes."""
    found = result.series.get(name, [])[FROM_S:TO_S]
    return sum(found) / len(found) if found else 0.0


def paid(name: str, result: Result, counted: str, idle: float) -> dict[str, object]:
    """What one of a kind costs the node, in microseconds of its core."""
    cores, rate = steady(result, "cores of the nodes"), steady(result, counted)
    each = round(1e6 * (cores - idle) / rate, 1) if rate else None
    members = round(steady(result, "delivered") / max(steady(result, "acked"), 1e-9), 1)
    return {
        "what": name,
        "a_second": round(rate, 2),
        "cores": round(cores, 4),
        "us_each": each,
        "members": members,
        **row(result),
    }


def follower(crowd: Sequence[str]) -> Result:
    """Two nodes, all people at the first: what the second one pays for what it only follows."""
    with tempfile.TemporaryDirectory() as folder, LocalNode("n1", Path(folder)) as one, LocalNode("n2", Path(folder)) as other:
        one.wait_ready(READY_S)
        other.wait_ready(READY_S)
        url = one.url()
        assert url is not None
        flags = ("--host", url, "--watch", str(other.process.pid), "--run-time", str(RUN_S), *STORMS["message"][0])
        return storm("steady", *crowd, *flags, title="followed", settings={"jwt_secret": SECRET})


def main() -> None:
    """Run them and write the results."""
    measured_on, rows, idle = machine(), list[dict[str, object]](), 0.0
    crowd = ("--users", people(USERS), "--spawn-rate", str(float(people(USERS)) / ARRIVE_S))
    for name, (flags, counted) in STORMS.items():
        result = storm("steady", *BASE, *crowd, *flags, title=name)
        rows.append(paid(name, result, counted, 0.0 if name == "idle" else idle))
        idle = idle or steady(result, "cores of the nodes")
    rows.append(paid("followed", follower(crowd), "acked", 0.0))
    for one in rows:
        print("  " + "  ".join(f"{name} {one[name]}" for name in ("what", "a_second", "cores", "us_each")))
    path = write_results("storm_costs", rows, measured_on=measured_on)
    print(f"  written to {path}")
