"""The page of the manager names its settings with their defaults, and its counts: all of them, and no others."""

import inspect

from broker.manager import RabbitManager
from broker.manager_counts import Counts
from tests.unit.test_docs import ROOT, coded, named, tables

PAGE = ROOT / "docs" / "manager.md"


def test_settings() -> None:
    """Every setting is in the table, in its order, with its default."""
    parameters = list(inspect.signature(RabbitManager).parameters.values())
    rows = [(coded(cells[0])[0], coded(cells[2])[0]) for cells in tables(PAGE, "setting")]
    assert rows == [(parameter.name, str(parameter.default)) for parameter in parameters]


def test_counts() -> None:
    """Every count is in the table."""
    assert named(PAGE, "count") == set(Counts.__struct_fields__)
