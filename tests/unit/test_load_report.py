"""What is written down of a storm: one page that needs nothing else, the same as JSON, and several side by side."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

from loadtest import compare, report
from loadtest.board import Board
from loadtest.checker import Fault, Verdict
from loadtest.figures import COLUMNS, table_of
from loadtest.measures import Measures
from loadtest.options import Plan
from loadtest.outcome import Cost, Leftover, Outcome
from loadtest.plot import BOTTOM, HEIGHT, Line, Moment, Plot, round_up
from loadtest.result import Mark, Nodes, Result, result_of
from loadtest.scenarios import SCENARIOS
from loadtest.tokens import minted

HOSTILE = "<script>alert('&')</script>"


def measures() -> Measures:
    """Ten who came, three who were put out at 5 s and came back within 2 s."""
    found = Measures()
    for number in range(10):
        found.count("tried", number / 10)
        found.count("let in", number / 10)
        found.time("connect", 0.01 * (number + 1))
    for back in (5.5, 6.0, 7.0):
        found.count("lost", 5.0)
        found.count("tried", back)
        found.count("let in", back)
        found.returns.append((5.0, back, "token_expired"))
        found.time("reconnect", back - 5.0)
        found.time("end of a token, lateness", 0.05)
        found.end("token_expired")
    found.refuse("connect", "server_busy")
    return found


def result(
    *,
    title: str = "a storm",
    faults: Sequence[Fault] = (),
    limits: dict[str, float] | None = None,
    measured: Measures | None = None,
) -> Result:
    """Of `measures`, or of these."""
    plan = Plan(
        scenario=msgspec.structs.replace(SCENARIOS["cliff"], strike_s=5.0),
        hosts=("http://a.test",),
        mint=minted("x" * 40),
        seed="s",
        prefix="load",
        settle_s=1.0,
        tolerance_ms=250,
    )
    verdict = Verdict(clients=10, acked=4, seen=40, faults=tuple(faults))
    outcome = Outcome(
        verdict=verdict, leftover=Leftover(), cost=Cost(people=10, events=100, cpu_s=0.01, grown_kib=300, kept_kib=100)
    )
    return result_of(
        plan,
        outcome,
        measures() if measured is None else measured,
        title=title,
        began=1_700_000_000.0,
        lasted_s=10.4,
        marks=[Mark(name="all tokens end", at_s=5.0)],
        nodes=Nodes(cpu_s=1.5, cores=dict.fromkeys(range(10), 0.25)),
        limits=limits or {},
    )


class _Links(HTMLParser):
    """Everything that a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {"src", "href", "xlink:href", "srcset", "action"}
        self.found += [f"{tag} {name}" for name, _ in attrs if name in named]
        self.found += [tag] if tag in ("script", "link", "iframe", "img", "object") else []


def test_the_figures_are_those_that_were_measured() -> None:
    """Counted from the strike; sessions are who came less who went; the cost is by event and by person."""
    one = result()
    assert (one.figures["all_back_s"], one.figures["peak_handshakes"], one.figures["lost"]) == (2.0, 1, 0)
    assert one.series["sessions"] == [10, 10, 10, 10, 10, 8, 9, 10, 10, 10]
    assert one.times["connect"].count == 10 and one.times["connect"].max_ms == 100.0
    assert (one.cost.us_an_event, one.cost.kib_a_person) == (100.0, 20.0)
    assert one.ok and one.verdict.clean


def test_what_the_load_tests_own_end_does_is_no_peak() -> None:
    """Whoever was away on purpose is called then, to be judged: peaks end where the plots do."""
    measured = measures()
    measured.count("tried", 10.5, number=140)
    measured.count("renewed", 10.5, number=70)
    found = result(measured=measured)
    assert (found.figures["peak_handshakes"], found.figures["peak_renewals"]) == (1, 0)
    assert max(found.series["tried"]) == 10


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    """The JSON is all of it; a name with a dot stays whole."""
    one = result()
    report.write(one, tmp_path / "new" / "storm.1")
    assert report.read(tmp_path / "new" / "storm.1.json") == one
    assert (tmp_path / "new" / "storm.1.html").read_text() == report.html(one)


def test_the_page_needs_nothing_else_and_runs_nothing() -> None:
    """No script, nothing fetched, the verdict on top, every plot well-formed and with its mark; no text becomes markup."""
    fault = Fault(kind="lost", client=HOSTILE, room="r", seq=3)
    page = report.html(result(title=HOSTILE, faults=[fault], limits={"all_back_s": 1.0}))
    links = _Links()
    links.feed(page)
    assert links.found == []
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    assert HOSTILE not in page
    assert page.index("Verdict: NOT CLEAN") < page.index("<svg")
    assert "1 lost" in page and "MISSED" in page
    plots = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(plots) >= 6
    for one in plots:
        ET.fromstring(one)
    assert sum("all tokens end" in one for one in plots) >= 4


def test_a_missed_objective_is_not_ok_though_the_verdict_is_clean() -> None:
    """And says which."""
    one = result(limits={"reconnect_p99_ms": 100.0, "lost": 0.0})
    assert one.verdict.clean and not one.ok
    assert [objective.met for objective in one.objectives] == [False, True]


def test_the_verdict_is_said_in_the_same_words_everywhere() -> None:
    """In the title and on the banner of the page, side by side, and on Locust's page."""
    clean, unclean = result(), result(faults=[Fault(kind="lost", client="c", room="r", seq=1, event="e")])
    missed = result(limits={"reconnect_p99_ms": 100.0})
    for one, said in ((clean, "clean"), (unclean, "NOT CLEAN"), (missed, "clean, but an objective was missed")):
        page = report.html(one)
        assert f"<title>{one.title}: {said}</title>" in page and f'">Verdict: {said}\n<p>' in page
        assert dict(compare.rows([one]))["verdict"] == [said]
        assert table_of(None, one)[0] == {"what": "verdict", "value": said}


def test_several_storms_stand_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One table and plots with a line for each, seconds counted from the strike; files that are no reports are named."""
    for name in ("one", "two"):
        report.write(result(title=name), tmp_path / name)
    out = tmp_path / "both"
    code = compare.main([str(tmp_path / "one.json"), str(tmp_path / "two.json"), "--report", str(out)])
    assert code == 0
    said = capsys.readouterr().out
    assert "| everybody back after (s) | 2 | 2 |" in said
    page = out.with_suffix(".html").read_text()
    assert page.count("<polyline") == 2 * page.count("<svg")
    (handshakes, *_) = compare.plots([result(), result()])
    assert handshakes.lines[0].points[0] == (-5.0, 10.0)
    junk = tmp_path / "junk.json"
    junk.write_text("{}")
    assert compare.main([str(junk), str(junk)]) == 2
    assert str(junk) in capsys.readouterr().err
    assert compare.main([str(junk)]) == 2


def test_storms_of_one_title_are_told_apart() -> None:
    """By when they began, and those of one second by a number; a title of its own stays as it is."""
    later = msgspec.structs.replace(result(), began=1_700_000_060.0)
    titles = [one.title for one in compare.apart([result(), later, result(), result(title="another")])]
    began = "a storm (2023-11-14 22:13:20)"
    assert titles == [began, "a storm (2023-11-14 22:14:20)", f"{began} 2", "another"]


def test_storms_of_which_one_has_no_strike_count_from_the_start() -> None:
    """Each of them, and the plots say so: no line is moved against another one."""
    struck, steady = result(), msgspec.structs.replace(result(title="steady"), struck_s=None)
    for plot in compare.plots([struck, steady]):
        assert plot.x_label in ("seconds since the start", "ms") and not plot.moments
        one, other = plot.lines
        assert one.points == other.points


def test_what_came_past_an_end_stands_in_the_comparison() -> None:
    """Like every other kind of fault that an objective can be set for."""
    late = [Fault(kind="late", client="c", room="r", seq=seq) for seq in (1, 2)]
    assert ("events past an end", [2, 0]) in compare.rows([result(faults=late), result()])


def test_reports_of_another_version_are_named_or_read_as_far_as_they_go(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another format, by its number; in this one, a figure that was not known then is a gap. A place to write to is needed, too."""
    one = result()
    older = msgspec.structs.replace(one, figures={"lost": 0})
    other = msgspec.structs.replace(one, format=99)
    files = {}
    for name, written in (("one", one), ("older", older), ("other", other)):
        (tmp_path / f"{name}.json").write_bytes(msgspec.json.encode(written))
        files[name] = str(tmp_path / f"{name}.json")
    out = str(tmp_path / "both")
    assert compare.main([files["one"], files["older"], "--report", out]) == 0
    assert "| everybody back after (s) | 2 | - |" in capsys.readouterr().out
    assert compare.main([files["one"], files["other"], "--report", out]) == 2
    assert capsys.readouterr().err.endswith("other.json': it is of format 99, and this version reads 1\n")
    assert compare.main([files["one"], files["one"], "--report", f"{files['one']}/both"]) == 1
    assert capsys.readouterr().err.startswith("--report: takes a path that can be written to, got ")


def test_a_storm_in_which_nothing_happened_has_a_page() -> None:
    """Gaps in place of figures, no plots without lines, and well-formed all the same."""
    empty = msgspec.structs.replace(result(), times={}, curves={}, series={}, figures=dict.fromkeys(result().figures), marks=[])
    page = report.html(empty)
    assert "<svg" not in page and "Verdict: clean" in page
    assert compare.plots([empty, empty]) == []


def test_the_verdict_is_the_first_row_on_locusts_page() -> None:
    """Which sorts by `name`, of rows that have one: live and at the end."""
    for rows in (table_of(Board(0.0), None), table_of(None, result(limits={"lost": 0}))):
        shown = sorted(rows, key=lambda row: row.get("name", ""))
        assert shown[0]["what"] == "verdict" and {column["key"] for column in COLUMNS} == set(shown[0])


def test_axes_have_round_ends() -> None:
    """Not under what there is, and not much over it."""
    for value in (0.003, 0.9, 1.0, 7.3, 24.0, 25.0, 999.0, 1500.0):
        top = round_up(value)
        assert value <= top * (1 + 1e-9) and top <= value * 1.7
    drawn = Plot(
        title="t",
        x_label="ms",
        lines=[Line(name="l", points=[(0.5, 0), (900.0, 100)])],
        moments=[Moment(x=30.0, name="m")],
        logarithmic=True,
        most_y=100,
    ).svg(alone=True)
    assert all(f">{tick}<" in drawn for tick in ("1", "10", "100"))
    ET.fromstring(drawn)


@pytest.mark.parametrize(
    ("least", "most", "ticks", "left_out"),
    [
        (1.7, 7.0, ("2", "5"), ("1", "10")),
        (15.0, 340.0, ("20", "50", "100", "200"), ("10", "500")),
        (2.2, 4.4, ("2.5", "3", "3.5", "4"), ("2", "5")),
        (0.4, 5_000.0, ("1", "10", "100", "1,000"), ("2", "50")),
        (0.0131, 0.0139, ("0.0132", "0.0138"), ()),
    ],
)
def test_a_logarithmic_axis_has_labels(least: float, most: float, ticks: Sequence[str], left_out: Sequence[str]) -> None:
    """Though all lies within one power of ten, or between two round numbers; and no more of them than there is room for."""
    line = Line(name="l", points=[(least, 0), (most, 100)])
    drawn = Plot(title="t", x_label="ms", lines=[line], logarithmic=True, most_y=100).svg(alone=True)
    below = [text.text for text in ET.fromstring(drawn).iter() if text.get("y") == f"{HEIGHT - BOTTOM + 20}"]
    assert set(ticks) <= set(below) and not set(left_out) & set(below), below
    assert len(below) <= 10
