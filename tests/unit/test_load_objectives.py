"""Objectives of a storm: what a file of them may say, and when one is missed."""

from pathlib import Path

import pytest

from loadtest.objectives import NAMES, Unreadable, judged, read

ROOT = Path(__file__).parents[2]


def written(folder: Path, text: str) -> Path:
    file = folder / "objectives.toml"
    file.write_text(text)
    return file


def test_a_table_of_a_scenario_goes_before_what_holds_for_all(tmp_path: Path) -> None:
    """And another's says nothing."""
    file = written(tmp_path, "lost = 0\nreconnect_p99_ms = 9000\n[cliff]\nreconnect_p99_ms = 5000\n[morning]\nlate = 1\n")
    assert read(file, "cliff") == {"lost": 0.0, "reconnect_p99_ms": 5000.0}
    assert read(file, "steady") == {"lost": 0.0, "reconnect_p99_ms": 9000.0}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lost =", "a file of objectives in TOML"),
        ("loss = 0", "got 'loss'"),
        ("lost = true", "got True"),
        ("lost = -1", "got -1"),
        ("cliff = 3", "a table for the scenario cliff"),
        ("[clif]\nlost = 0", r"got \[clif\]"),
        ("[morning]\nloss = 0", "got 'loss'"),
    ],
)
def test_what_is_no_objective_is_named(tmp_path: Path, text: str, said: str) -> None:
    """A slip of the pen is no objective that is always met."""
    with pytest.raises(Unreadable, match=said):
        read(written(tmp_path, text), "cliff")
    with pytest.raises(Unreadable):
        read(tmp_path / "missing.toml", "cliff")


def test_an_objective_is_missed_over_its_limit() -> None:
    """What did not happen misses none."""
    found = judged({"lost": 0, "late": 2, "all_back_s": 5}, {"lost": 1, "late": 2, "all_back_s": None})
    assert [objective.met for objective in found] == [False, True, True]
    assert str(found[0]) == "objective MISSED: lost: 1, at most 0"
    assert str(found[2]) == "objective met: all_back_s: nothing of the kind, at most 5"


def test_the_objectives_of_this_project_can_be_read() -> None:
    """For every scenario of theirs."""
    limits = read(ROOT / "loadtest" / "objectives.toml", "cliff")
    assert limits["lost"] == 0 and set(limits) <= set(NAMES)
