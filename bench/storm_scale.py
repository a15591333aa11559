"""5,000 people from two worker processes against one node: does it hold, and what does the load test itself take."""

from bench.report import machine, write_results
from bench.storm_runs import people, row, storm

USERS = 5_000


def main() -> None:
    """Run it and write the results."""
    measured_on = machine()
    flags = ("--local", "--nodes", "1", "--processes", "2", "--users", people(USERS), "--rooms", "200", "--rate", "0.02")
    moments = ("--spawn-rate", people(100), "--cliff-at", "70", "--run-time", "110", "--settle", "60")
    result = storm("cliff", *flags, *moments, title="5,000 people on one node")
    path = write_results("storm_scale", [row(result)], measured_on=measured_on)
    print(f"  written to {path}")
