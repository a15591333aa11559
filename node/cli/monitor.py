"""Prometheus beside the nodes of `tidegate up`, with the rules of this repository: the one configuration that the tests have of it too."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

RULES = Path(__file__).parents[2] / "monitoring" / "prometheus" / "rules"  # in a clone; what is installed from a wheel has none
EVERY_S = 5.0  # what the windows of the rules are made for
READY_PATH = "/-/ready"
KEPT = "1d"


class Missing(Exception):
    """What is needed and not there; the message says how to get it."""


def program() -> str:
    """The path of Prometheus. Raises `Missing` where it is not installed, or where there are no rules for it."""
    found = shutil.which("prometheus")
    if found is None:
        raise Missing("Prometheus is not installed; nothing was started. On Debian and Ubuntu: apt-get install prometheus")
    if not list(RULES.glob("*.yml")):
        raise Missing(
            f"there are no rules in {RULES}; nothing was started. --monitor wants a clone of the repository,"
            " installed from there with pip install --editable"
        )
    return found


def configuration(nodes: Mapping[str, str], *, rules: Path = RULES, every_s: float = EVERY_S) -> str:
    """The text of a file for Prometheus 2.42 or later (JSON, which is YAML too).

    `nodes` has `host:port` of each node's metrics by its name, which becomes the label `instance`; `rules` is the folder of the rules, and
    `every_s` how often is asked and judged.
    """
    often = f"{round(every_s * 1000)}ms"
    targets = [{"targets": [address], "labels": {"instance": name}} for name, address in nodes.items()]
    return json.dumps(
        {
            "global": {"scrape_interval": often, "scrape_timeout": often, "evaluation_interval": often},
            "rule_files": [str(rules / "*.yml")],
            "scrape_configs": [{"job_name": "tidegate", "static_configs": targets}],
        },
        indent=2,
    )


def arguments(configuration: Path, data: Path, address: str) -> list[str]:
    """What Prometheus gets: its configuration, the folder for its data, `host:port` where it listens. It says what goes wrong alone."""
    return [
        f"--config.file={configuration}",
        f"--storage.tsdb.path={data}",
        f"--storage.tsdb.retention.time={KEPT}",
        f"--web.listen-address={address}",
        "--log.level=warn",
    ]
