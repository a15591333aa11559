"""Which metrics there are, with their labels: those of a node from its own table, RabbitMQ's from a scrape, and what the rules record."""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

from node.instruments import Described
from node.metrics import METRICS, Metrics

HERE = Path(__file__).parent
RULES = HERE / "prometheus" / "rules"
RABBITMQ = HERE / "rabbitmq-metrics.txt"
TARGET = frozenset({"job", "instance"})  # what Prometheus adds to all that it scrapes
#: Beside `job`, the labels that the level of a recorded name may have.
_LEVELS = frozenset({"job", "instance", "outcome", "code", "within", "span", "le"})


@cache
def rules() -> list[Mapping[str, Any]]:
    """Every rule of every file, as it is written."""
    files = [yaml.safe_load(path.read_text()) for path in sorted(RULES.glob("*.yml"))]
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]


def alerts() -> list[Mapping[str, Any]]:
    """The rules that alert."""
    return [rule for rule in rules() if "alert" in rule]


@cache
def labels() -> Mapping[str, frozenset[str]]:
    """The labels of every series that may be asked for, by its name."""
    return (
        {name: found | TARGET for name, found in (*_of_nodes(), *_of_rabbitmq())}
        | dict(_recorded())
        | {
            "up": TARGET,
            "ALERTS": TARGET | {"alertname", "alertstate", *(label for rule in alerts() for label in rule["labels"])},
        }
    )


def values(metric: str, label: str) -> frozenset[str] | None:
    """What a label may be; None where that is not known, as for all that is not a node's."""
    if (metric, label) == ("ALERTS", "alertname"):
        return frozenset(rule["alert"] for rule in alerts())
    described = METRICS.get(metric) or METRICS.get(metric.rpartition("_")[0])
    if described is None or label not in described.label_names or metric == "tidegate_build_info" or label == "node":
        return None
    for space in described.spaces:
        if label in space.names:
            return frozenset(one[space.names.index(label)] for one in space.values)
    return None


def level(recorded: str) -> frozenset[str]:
    """The labels that the first part of a recorded name stands for. Raises `ValueError` where it has not three parts, or names others."""
    first, _, _ = recorded.split(":")
    found = frozenset(first.split("_"))
    if not found <= _LEVELS:
        raise ValueError(f"{first} is no level")
    return found | {"job"}


def _of_nodes() -> Iterator[tuple[str, frozenset[str]]]:
    for described in METRICS.values():
        yield from _series(described)
    body, _ = Metrics(node="n1", version="0").expose("")
    for family in text_string_to_metric_families(body.decode()):
        yield from ((one.name, frozenset(one.labels)) for one in family.samples if family.name not in METRICS)


def _series(described: Described) -> Iterator[tuple[str, frozenset[str]]]:
    own = frozenset(described.label_names)
    if described.kind == "histogram":
        yield from ((f"{described.name}_bucket", own | {"le"}), (f"{described.name}_sum", own), (f"{described.name}_count", own))
    else:
        yield described.name, own


def _of_rabbitmq() -> Iterator[tuple[str, frozenset[str]]]:
    for line in RABBITMQ.read_text().splitlines():
        if not line.startswith("#"):
            name, *found = line.split()
            yield name, frozenset(found)


def _recorded() -> Iterator[tuple[str, frozenset[str]]]:
    for rule in rules():
        if "record" in rule:
            yield rule["record"], level(rule["record"])
