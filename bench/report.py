"""What every benchmark writes: percentiles, the machine and the date beside the figures, as JSON in bench/results/."""

import json
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value that `share` (0 to 1) of the sorted values do not exceed; raises `ValueError` for no values."""
    if not ordered:
        raise ValueError("no values to take a percentile of")
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def machine() -> dict[str, Any]:
    """What the figures depend on: cores, Python, and how busy it was already."""
    return {
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load_average_before": round(os.getloadavg()[0], 2),
    }


def write_results(name: str, rows: Sequence[dict[str, Any]], *, measured_on: dict[str, Any], **facts: Any) -> Path:
    """Write the rows of benchmark `name`, and how to have them again; returns the file."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    date = datetime.now(UTC).isoformat(timespec="seconds")
    content = {
        "benchmark": name,
        "command": f"python -m bench {name}",
        "date": date,
        "machine": measured_on,
        **facts,
        "rows": rows,
    }
    path.write_text(json.dumps(content, indent=2) + "\n")
    return path
