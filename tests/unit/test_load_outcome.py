"""When a storm is clean, and what is said of it."""

import pytest

from loadtest.journal import Journal, Names
from loadtest.outcome import MOST_FAULTS, Attendance, Cost, Handover, Leftover, judged

ALL = Attendance(asked=1)


def handover(*seqs: int, client: str = "c", leftover: Leftover | None = None) -> Handover:
    """A process in which one client saw these events of a room that it watched from the first on."""
    names = Names()
    journal = Journal(client, names)
    journal.watch("r", after=0)
    for seq in seqs:
        journal.saw("r", seq, f"e{seq}", at=1, expires_at=2)
    cost = Cost(late_ms=len(seqs))
    return Handover(names=names.texts, pages=[journal.pages()], leftover=leftover or Leftover(), cost=cost)


def test_clean_is_what_all_processes_agree_on() -> None:
    """Their histories are judged together, however each numbers its names."""
    outcome = judged([handover(1, 2), handover(1, 2, client="d")], ALL, tolerance_ms=0, missing=0)
    assert outcome.ok
    assert outcome.lines()[0].startswith("verdict: clean: 2 clients, 0 acked, 4 seen")
    assert outcome.lines()[1:] == ["the load test itself kept packets waiting for 2 ms at most"]
    assert outcome.lines("as said")[0].startswith("verdict: as said: 2 clients, ")
    apart = judged([handover(1, 2), handover(1, client="d")], ALL, tolerance_ms=0, missing=0)
    assert not apart.ok
    assert "  hole: d in r at 2 " in apart.lines()


@pytest.mark.parametrize(
    ("handovers", "missing", "said"),
    [
        ([handover()], 0, "  nobody saw anything"),
        ([handover(1)], 1, "  1 workers did not hand over what their users saw"),
        ([handover(1, leftover=Leftover(away=2))] * 2, 0, "  at the end: 4 not back"),
        ([handover(1, leftover=Leftover(unacked=3))], 0, "  at the end: 3 messages without an answer"),
        ([handover(1, leftover=Leftover(barred={"token_revoked": 1}))] * 2, 0, "  at the end: 2 refused for good: token_revoked"),
    ],
)
def test_what_was_not_answered_is_not_clean(handovers: list[Handover], missing: int, said: str) -> None:
    """Nothing seen, nobody back, nothing handed over: the checker alone would find no fault."""
    outcome = judged(handovers, ALL, tolerance_ms=0, missing=missing)
    assert outcome.verdict.ok and not outcome.ok
    assert outcome.lines()[0].startswith("verdict: NOT CLEAN: ")
    assert said in outcome.lines()


@pytest.mark.parametrize(
    ("attendance", "clean", "said"),
    [
        (Attendance(asked=2), True, []),
        (Attendance(asked=1), True, []),  # some were taken out, and others came
        (Attendance(asked=1_500), False, ["  2 of 1,500 people came"]),
        (Attendance(asked=1_500, cut_short=True), True, ["  2 of 1,500 people came: it was ended before its time"]),
    ],
)
def test_a_storm_to_which_not_everybody_came_is_not_clean(attendance: Attendance, clean: bool, said: list[str]) -> None:
    """At its time: whoever ended it before that is told the same, and what was seen is judged."""
    outcome = judged([handover(1), handover(1, client="d")], attendance, tolerance_ms=0, missing=0)
    assert outcome.verdict.ok
    assert (outcome.ok, [line for line in outcome.lines() if "people came" in line]) == (clean, said)


def test_many_faults_are_told_in_a_few_lines() -> None:
    """The first of them, and how many there are besides."""
    outcome = judged([handover(1, *[1] * 30)], ALL, tolerance_ms=0, missing=0)
    assert len(outcome.verdict.faults) == 30
    assert sum(line.startswith("  duplicated: c in r at 1") for line in outcome.lines()) == MOST_FAULTS
    assert f"  and {30 - MOST_FAULTS} more" in outcome.lines()
