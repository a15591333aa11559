"""Storms of the suite for the benchmarks: each a process of its own, with what it wrote down."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from loadtest.report import read
from loadtest.result import Result

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
LIMIT_S = 900.0
SIZE = float(os.environ.get("TIDEGATE_BENCH_SIZE", "1"))  # of the crowd: 0.1 is a trial of the benchmark itself


class StormFailed(Exception):
    """There is no result; the text is what it said."""


def people(number: int) -> str:
    """So many, at full size."""
    return str(max(10, round(number * SIZE)))


def storm(scenario: str, *flags: str, title: str, settings: Mapping[str, str] | None = None) -> Result:
    """Run one to its end; `settings` are those of a local cluster's nodes. A verdict that is not clean is a result like any other."""
    foreign = ("TIDEGATE_", "LOCUST_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    variables = clean | {f"TIDEGATE_{name.upper()}": value for name, value in (settings or {}).items()}
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "storm"
        command = [sys.executable, "-m", "node", "storm", scenario, "--report", str(report), "--title", title, *flags]
        done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        written = report.with_suffix(".json")
        if not written.exists():
            raise StormFailed(f"{title}: exit {done.returncode}\n{done.stdout[-2_000:]}{done.stderr[-2_000:]}")
        result = read(written)
    print(f"  {title}: {result.said}, {_counts(result)}", flush=True)
    for line in result.lines():
        print(f"    {line}")
    return result


def _counts(result: Result) -> str:
    found = [f"{count} {kind}" for kind, count in result.verdict.counts.items() if count]
    return ", ".join(found) or f"{result.verdict.seen:,} events seen"


def row(result: Result) -> dict[str, object]:
    """What of it stands in the results of a benchmark; of one that is not clean, all that says why."""
    verdict, cores = result.verdict, result.series.get("cores of the nodes", [])
    return {
        "title": result.title,
        "clean": result.ok,
        **result.settings,
        **result.figures,
        "refusals": result.refusals,
        "acked": verdict.acked,
        "seen": verdict.seen,
        "faults": {kind: count for kind, count in verdict.counts.items() if count},
        "leftover": str(verdict.leftover),
        "absence": verdict.absence,
        "missing": verdict.missing,
        "problems": verdict.problems,
        "objectives_missed": [str(objective) for objective in result.objectives if not objective.met],
        "nodes_cpu_s": result.nodes.cpu_s,
        "nodes_cores_peak": max(cores, default=0),
        "nodes_memory_mb": sorted(result.nodes.memory_mb.values()),
        "load_test_us_an_event": result.cost.us_an_event,
        "load_test_kib_a_person": result.cost.kib_a_person,
        "load_test_cpu_s": result.cost.cpu_s,
        "load_test_late_ms": result.cost.late_ms,
    }


def write_between(page: Path, begin: str, end: str, text: str) -> None:
    """Put `text` between two lines of a page that begin and end what a benchmark writes there."""
    before, _, rest = page.read_text().partition(begin)
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{rest.partition(end)[2]}")
