"""The files of the dashboards, as the builders make them."""

from pathlib import Path

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from monitoring.grafana.auth import auth
from monitoring.grafana.board import pages
from monitoring.grafana.cluster import cluster
from monitoring.grafana.panels import words
from monitoring.grafana.rabbitmq import rabbitmq
from monitoring.grafana.runbook import UID, in_grafana, sections
from monitoring.grafana.storm import storm

FOLDER = Path(__file__).parent / "dashboards"
_SECTION_ROWS = 11


def runbook() -> Dashboard:
    """monitoring/runbook.md, one panel for each alert."""
    panels = [words(title, "What to do.", in_grafana(text), height=_SECTION_ROWS) for title, text in sections().items()]
    return pages(UID, "Runbook", "What each alert means, and what to do.", panels)


def written() -> dict[str, str]:
    """The text of each file by its name."""
    made = {"auth": auth(), "cluster": cluster(), "storm": storm(), "rabbitmq": rabbitmq(), "runbook": runbook()}
    encoder = JSONEncoder(indent=2, sort_keys=True, ensure_ascii=False)
    return {f"{name}.json": encoder.encode(dashboard.build()) + "\n" for name, dashboard in made.items()}
