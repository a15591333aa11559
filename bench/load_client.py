"""What the load test itself costs: memory of one user, processor time of one event, in one Locust process against one node; and the floor.

Three storms: few users, many who say next to nothing, and as many who talk. Between the first two lies the memory of a user, between
the last two the processor time of a message that a user saw, while all are there: receiving, decoding, noting and timing it, and its share
of what was sent for it, acked and marked as read. The node runs on the same cores. The floor (`load_floor.py`) is what a user stands on,
step by step, with as many connections.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from bench.load_floor import floor
from bench.local_node import ROOT, SECRET, LocalNode
from bench.report import machine, write_results
from loadtest import measures
from loadtest.processes import cpu_seconds, resident_kib
from loadtest.result import Result

FEW, MANY = 20, 1_000
ROOMS = 100
QUIET, LOUD = 0.001, 0.4  # messages a second of one talker; three of ten users are talkers
SPAWNED_PER_S = 100
SECONDS = 20  # of all being there
_FIRST_S, _LAST_S = 4, 2  # of these: people find their rooms; the end is near
READY_LIMIT_S = 30.0
LOOK_S = 0.1
RESTING = "coming to rest"  # what the storm's log says before its users end


def main() -> None:
    """Measure, print the figures, write the results."""
    before = machine()
    with tempfile.TemporaryDirectory() as folder:
        runs = [_measure(Path(folder), number, *what) for number, what in enumerate([(FEW, QUIET), (MANY, QUIET), (MANY, LOUD)])]
    few, quiet, loud = runs
    events, seconds = loud["events"] - quiet["events"], SECONDS - _FIRST_S - _LAST_S
    figures = {
        "memory_of_a_user_kib": round((quiet["memory_kib"] - few["memory_kib"]) / (MANY - FEW), 1),
        "cpu_of_an_event_us": round((loud["cpu_s"] - quiet["cpu_s"]) / events * 1e6, 1),
        "events_per_s": round(events / seconds),
        "cpu_of_the_process_share": round(loud["cpu_s"] / seconds, 2),
        "kept_waiting_at_most_ms": loud["kept_waiting_ms"],
    }
    for name, value in figures.items():
        print(f"{name:>26} {value}")
    facts = {"users": MANY, "rooms": ROOMS, "seconds": seconds, **figures, "floor": floor(MANY)}
    print(f"written to {write_results('load_client', runs, measured_on=before, **facts)}")


def _measure(folder: Path, number: int, users: int, rate: float) -> dict[str, Any]:
    """One storm against a new node; `events` and `cpu_s` are those of the seconds in which all are there, and nothing else happens."""
    place = folder / str(number)
    place.mkdir()
    with LocalNode("n1", place, handshake_rate="1000", handshake_burst="1000") as node:
        node.wait_ready(READY_LIMIT_S)
        log, output = place / "storm.log", place / "storm.out"
        with log.open("wb") as err, output.open("wb") as out:
            command = [*_command(node.url() or "", users, rate), "--report", str(place / "storm")]
            storm = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "TIDEGATE_JWT_SECRET": SECRET}, stdout=out, stderr=err)
            looks = list(_looks_until_rest(storm, log))
        if storm.wait() != 0:
            raise RuntimeError(f"the storm was not clean:\n{output.read_text()[-2_000:]}")
    result = msgspec.json.decode((place / "storm.json").read_bytes(), type=Result)
    begins_s = round(users / SPAWNED_PER_S) + _FIRST_S
    ends_s = begins_s + SECONDS - _FIRST_S - _LAST_S
    return {
        "users": users,
        "rate_of_a_talker": rate,
        "acked": result.verdict.acked,
        "seen": result.verdict.seen,
        "events": sum(result.series.get(measures.DELIVERED, [])[begins_s:ends_s]),
        "cpu_s": round(_cpu_s(looks, result.began + ends_s) - _cpu_s(looks, result.began + begins_s), 2),
        "memory_kib": max(memory for _, _, memory in looks),
        "kept_waiting_ms": result.cost.late_ms,
    }


def _cpu_s(looks: list[tuple[float, float, int]], moment: float) -> float:
    """The processor time that had been used by then."""
    return next(cpu_s for at, cpu_s, _ in looks if at >= moment)


def _command(url: str, users: int, rate: float) -> list[str]:
    run_time = SECONDS + users / SPAWNED_PER_S
    command = [sys.executable, "-m", "locust", "-f", "loadtest/locustfile.py", "--headless", "--only-summary", "--host", url]
    command += ["--users", str(users), "--spawn-rate", str(SPAWNED_PER_S), "--run-time", f"{run_time:.0f}s"]
    return [*command, "--rooms", str(ROOMS), "--rate", str(rate), "--ttl", "600"]


def _looks_until_rest(storm: "subprocess.Popen[bytes]", log: Path) -> Iterator[tuple[float, float, int]]:
    """While its users live: now, by the wall's clock, the processor time so far, and resident memory in KiB."""
    limit = time.monotonic() + READY_LIMIT_S + SECONDS + MANY / SPAWNED_PER_S
    while RESTING not in log.read_text():
        if time.monotonic() > limit:
            storm.kill()
            raise TimeoutError("the storm does not end")
        yield time.time(), cpu_seconds(storm.pid) or 0.0, resident_kib(storm.pid)
        time.sleep(LOOK_S)


if __name__ == "__main__":
    main()
