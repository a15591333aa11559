"""What is held of the rules, their tests, the runbook and the dashboards: `python -m monitoring.check`; one line for each fault, exit 1.

promtool judges the rules and runs their tests; it comes with Prometheus.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from monitoring.dashboards import faults as faults_of_dashboards
from monitoring.grafana.runbook import sections
from monitoring.known import HERE, alerts, labels, rules
from monitoring.queries import faults as faults_of_query

PROMETHEUS = HERE / "prometheus"
TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))
SEVERITIES = ("critical", "warning", "info")


def faults() -> Iterator[str]:
    """All that is wrong, in words."""
    yield from _promtool("check", "config", str(PROMETHEUS / "prometheus.yml"))
    yield from _promtool("test", "rules", *map(str, TESTS))
    for rule in rules():
        name = rule.get("alert") or rule["record"]
        yield from (f"{name}: {fault}" for fault in _of_rule(rule))
        yield from (f"{name}: {fault}" for fault in faults_of_query(rule["expr"]))
    yield from _of_runbook()
    yield from _of_tests()
    yield from faults_of_dashboards()


def _promtool(*arguments: str) -> Iterator[str]:
    program = shutil.which("promtool")
    if program is None:
        yield f"promtool {arguments[0]}: promtool is not installed (on Debian: apt-get install prometheus)"
        return
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)  # noqa: S603  promtool itself
    if done.returncode != 0:
        yield f"promtool {arguments[0]} {arguments[1]}:\n{done.stdout}{done.stderr}"


def _of_rule(rule: Any) -> Iterator[str]:
    if "record" in rule:
        if rule["record"] not in labels():
            yield "is not level:metric:operation"
        return
    annotations = rule.get("annotations", {})
    if "for" not in rule:
        yield "has no `for`"
    if rule.get("labels", {}).get("severity") not in SEVERITIES:
        yield f"has none of the severities {', '.join(SEVERITIES)}"
    yield from (f"has no {name}" for name in ("summary", "description") if not annotations.get(name))
    if annotations.get("runbook_url") != f"monitoring/runbook.md#{rule['alert'].lower()}":
        yield "does not lead to its section of the runbook"


def _of_runbook() -> Iterator[str]:
    named = {rule["alert"] for rule in alerts()}
    yield from (f"{name}: has no section in the runbook" for name in sorted(named - sections().keys()))
    yield from (f"runbook: {title} is no alert" for title in sorted(sections().keys() - named))
    for title, text in sections().items():
        parts = ("**What it means.**", "**What to look at.**", "**What to do.**", "**How to know that it is over.**")
        yield from (f"runbook: {title} does not say: {part}" for part in parts if part not in text)


def _of_tests() -> Iterator[str]:
    """Each alert, by each of its signs, fires in a test, and is silent in one."""
    asked = [
        case
        for path in TESTS
        for test in yaml.safe_load(Path(path).read_text())["tests"]
        for case in test.get("alert_rule_test", [])
    ]
    silent = {case["alertname"] for case in asked if not case["exp_alerts"]}
    fired = {(case["alertname"], one["exp_labels"].get("sign")) for case in asked for one in case["exp_alerts"]}
    for rule in alerts():
        name, sign = rule["alert"], rule["labels"].get("sign")
        if name not in silent:
            yield f"{name}: is silent in no test"
        if (name, sign) not in fired:
            yield f"{name}: fires in no test{f' with the sign {sign}' if sign else ''}"


def main() -> int:
    """Print the faults; the exit code."""
    found = list(faults())
    for fault in found:
        sys.stderr.write(f"{fault}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
