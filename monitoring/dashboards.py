"""What is held of the committed dashboards: the builders write them so, Grafana knows every field, each panel says what it shows."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from monitoring.grafana.files import FOLDER, written
from monitoring.grafana.panels import COLUMNS
from monitoring.grafana.runbook import UID as RUNBOOK
from monitoring.known import labels
from monitoring.promql import Selector, selectors
from monitoring.queries import faults as faults_of_query

Json = dict[str, Any]
_RUNBOOK_LINK = re.compile(rf"/d/{RUNBOOK}\?viewPanel=(\d+)")


class Target(NamedTuple):
    """One query of a panel, or of what is marked on a time axis."""

    place: str
    expr: str
    legend: str


def dashboards() -> dict[str, Json]:
    """Every committed dashboard by its file's name."""
    return {path.name: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def panels(dashboard: Json) -> list[Json]:
    """Its panels, without the headings."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def targets(dashboard: Json) -> list[Target]:
    """All that it asks Prometheus for."""
    of_panels = [(f"panel {panel['title']!r}", one) for panel in panels(dashboard) for one in panel.get("targets", [])]
    asked = [Target(f"{dashboard['title']}: {place}", one["expr"], one.get("legendFormat", "")) for place, one in of_panels]
    marks = dashboard["annotations"].get("list", []) if "annotations" in dashboard else []
    return asked + [Target(f"{dashboard['title']}: mark {one['name']!r}", one["expr"], one["titleFormat"]) for one in marks]


def faults() -> Iterator[str]:
    """All that is wrong, in words."""
    yield from _stale()
    uids = Counter(dashboard["uid"] for dashboard in dashboards().values())
    yield from (f"{uid}: two dashboards have this uid" for uid, count in uids.items() if count > 1)
    for name, dashboard in dashboards().items():
        yield from (f"{name}: {fault}" for fault in _of_dashboard(dashboard))
        for target in targets(dashboard):
            yield from (f"{name}: {target.place}: {fault}" for fault in (*faults_of_query(target.expr), *_not_templated(target)))


def _stale() -> Iterator[str]:
    there, files = {path.name: path.read_text() for path in FOLDER.glob("*.json")}, written()
    for name in sorted(there.keys() | files.keys()):
        if there.get(name) != files.get(name):
            yield f"{name}: is not what `python -m monitoring.grafana` writes"


def _of_dashboard(dashboard: Json) -> Iterator[str]:
    if unknown := _unknown(dashboard):
        yield f"Grafana has no such fields, or other values in them: {unknown}"
    if not dashboard.get("title") or not dashboard.get("description"):
        yield "has no title or no description"
    names = [one["name"] for one in dashboard.get("templating", {}).get("list", [])]
    if dashboard["uid"] != RUNBOOK and names != ["job", "node"]:
        yield f"its variables are {names}, not job and node"
    numbers = Counter(panel["id"] for panel in dashboard["panels"])
    yield from (f"two panels have the number {number}" for number, count in numbers.items() if count > 1)
    if any(panel["gridPos"]["x"] + panel["gridPos"]["w"] > COLUMNS for panel in dashboard["panels"]):
        yield "a panel is wider than the screen"
    for panel in panels(dashboard):
        yield from (f"panel {panel['title']!r} {fault}" for fault in _of_panel(panel))


def _of_panel(panel: Json) -> Iterator[str]:
    if not panel.get("title") or not panel.get("description"):
        yield "has no title or no description"
    for link in panel.get("links", []):
        found = _RUNBOOK_LINK.fullmatch(link["url"])
        if (
            found is None
            or int(found[1]) not in _runbook_titles()
            or not link["title"].endswith(_runbook_titles()[int(found[1])])
        ):
            yield f"leads to no section of the runbook: {link['title']}"
    if panel["type"] == "text":
        return
    if not panel["fieldConfig"]["defaults"].get("unit"):
        yield "has no unit"
    if not panel.get("targets"):
        yield "asks for nothing"


def _not_templated(target: Target) -> Iterator[str]:
    for selector in _selectors(target.expr):
        for label, variable in (("job", "$job"), ("instance", "$node")):
            if label in labels().get(selector.metric, frozenset()) and ("=~", variable) not in selector.by(label):
                if selector.by("alertname") or (label == "instance" and _of_the_job(selector, target)):
                    continue
                yield f"{selector.metric} is not of the chosen {label}"


def _of_the_job(selector: Selector, target: Target) -> bool:
    """Whether it is asked for all nodes with good reason: alerts that are a whole job's, or a node that is compared with the others."""
    return selector.metric == "ALERTS" or any(
        other.metric == selector.metric and other.by("instance") for other in _selectors(target.expr)
    )


def _selectors(expression: str) -> list[Selector]:
    try:
        return selectors(expression)
    except ValueError:
        return []  # which is a fault of its own


def _unknown(dashboard: Json) -> str:
    """The first place where it is not what Grafana's own types make of it; empty where there is none."""
    register_default_plugins()
    understood = json.loads(JSONEncoder().encode(Dashboard.from_json(dashboard)))
    for mark, known in zip(dashboard.get("annotations", {}).get("list", []), _marks(understood), strict=True):
        known["titleFormat"] = mark["titleFormat"]  # a field of the data source's
    return _difference(dashboard, understood, "")


def _marks(dashboard: Json) -> list[Json]:
    found: list[Json] = dashboard.get("annotations", {}).get("list", [])
    return found


def _difference(one: Any, other: Any, place: str) -> str:
    if isinstance(one, dict) and isinstance(other, dict):
        for name in one:
            if name not in other:
                return f"{place}.{name}"
            if found := _difference(one[name], other[name], f"{place}.{name}"):
                return found
        return ""
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return next(
            (found for at, pair in enumerate(zip(one, other, strict=True)) if (found := _difference(*pair, f"{place}[{at}]"))), ""
        )
    return "" if one == other else place


@cache
def _runbook_titles() -> dict[int, str]:
    dashboard = json.loads((Path(FOLDER) / "runbook.json").read_text())
    return {panel["id"]: panel["title"] for panel in panels(dashboard)}
