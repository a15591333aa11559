"""What the load test itself costs: memory of one user, processor time of one event, in one Locust process against one node; and the floor.

Three storms: few users, many who say next to nothing, and as many who talk. Between the first two lies the memory of a user, between
the last two the processor time of an event that a user saw: receiving, decoding, noting and timing it, and its share of sending. The
node runs on the same cores. The floor (`load_floor.py`) is what a user stands on, step by step, with as many connections.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.load_floor import floor
from bench.local_node import ROOT, SECRET, LocalNode
from bench.report import machine, write_results

FEW, MANY = 20, 1_000
ROOMS = 100
QUIET, LOUD = 0.001, 0.4  # messages a second of one talker; three of ten users are talkers
SPAWNED_PER_S = 100
SECONDS = 15  # of all being there
READY_LIMIT_S = 30.0
LOOK_S = 0.2
RESTING = "coming to rest"  # what the storm's log says before its users end


def main() -> None:
    """Measure, print the figures, write the results."""
    before = machine()
    with tempfile.TemporaryDirectory() as folder:
        runs = [_measure(Path(folder), number, *what) for number, what in enumerate([(FEW, QUIET), (MANY, QUIET), (MANY, LOUD)])]
    few, quiet, loud = runs
    events = loud["seen"] - quiet["seen"]
    figures = {
        "memory_of_a_user_kib": round((quiet["memory_kib"] - few["memory_kib"]) / (MANY - FEW), 1),
        "cpu_of_an_event_us": round((loud["cpu_s"] - quiet["cpu_s"]) / events * 1e6, 1),
        "events_per_s": round(events / SECONDS),
        "cpu_of_the_process_share": round(loud["cpu_s"] / loud["took_s"], 2),
        "kept_waiting_at_most_ms": loud["kept_waiting_ms"],
    }
    for name, value in figures.items():
        print(f"{name:>26} {value}")
    facts = {"users": MANY, "rooms": ROOMS, "seconds": SECONDS, **figures, "floor": floor(MANY)}
    print(f"written to {write_results('load_client', runs, measured_on=before, **facts)}")


def _measure(folder: Path, number: int, users: int, rate: float) -> dict[str, Any]:
    """One storm against a new node."""
    place = folder / str(number)
    place.mkdir()
    with LocalNode("n1", place, handshake_rate="1000", handshake_burst="1000") as node:
        node.wait_ready(READY_LIMIT_S)
        log, output = place / "storm.log", place / "storm.out"
        with log.open("wb") as err, output.open("wb") as out:
            command = _command(node.url() or "", users, rate)
            began = time.monotonic()
            storm = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "TIDEGATE_JWT_SECRET": SECRET}, stdout=out, stderr=err)
            memory = _memory_until_rest(storm, log)
            _, status, used = os.wait4(storm.pid, 0)
            took = time.monotonic() - began
        if os.waitstatus_to_exitcode(status) != 0:
            raise RuntimeError(f"the storm was not clean:\n{output.read_text()[-2_000:]}")
    found = re.search(r"(\d+) acked, (\d+) seen(?:.*\n)*.*waiting for (\d+) ms", output.read_text())
    assert found is not None
    acked, seen, waiting = map(int, found.groups())
    row = {
        "users": users,
        "rate_of_a_talker": rate,
        "acked": acked,
        "seen": seen,
        "kept_waiting_ms": waiting,
        "memory_kib": memory,
    }
    return row | {"cpu_s": round(used.ru_utime + used.ru_stime, 2), "took_s": round(took, 1)}


def _command(url: str, users: int, rate: float) -> list[str]:
    run_time = SECONDS + users / SPAWNED_PER_S
    command = [sys.executable, "-m", "locust", "-f", "loadtest/locustfile.py", "--headless", "--only-summary", "--host", url]
    command += ["--users", str(users), "--spawn-rate", str(SPAWNED_PER_S), "--run-time", f"{run_time:.0f}s"]
    return [*command, "--rooms", str(ROOMS), "--rate", str(rate), "--ttl", "600"]


def _memory_until_rest(storm: "subprocess.Popen[bytes]", log: Path) -> int:
    """The most resident memory, in KiB, while its users live."""
    most, limit = 0, time.monotonic() + READY_LIMIT_S + SECONDS + MANY / SPAWNED_PER_S
    while RESTING not in log.read_text():
        if time.monotonic() > limit:
            storm.kill()
            raise TimeoutError("the storm does not end")
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{storm.pid}/status").read_text())
        assert found is not None
        most = max(most, int(found[1]))
        time.sleep(LOOK_S)
    return most
