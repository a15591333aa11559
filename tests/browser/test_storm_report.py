"""The report of a storm as its readers have it: the file, opened in a browser."""

from pathlib import Path

from playwright.sync_api import expect

from loadtest import measures, report
from loadtest.checker import Fault
from loadtest.measures import Measures
from tests.browser.conftest import MeetPerson
from tests.browser.person import PATIENCE_MS
from tests.unit.test_load_report import HOSTILE, result

COUNTED = (measures.TRIED, measures.LET_IN, measures.REFUSED, measures.RENEWED, measures.LOST, measures.ACKED, measures.DELIVERED)
TIMED = (
    measures.CONNECT,
    measures.RECONNECT,
    measures.ACK,
    measures.DELIVERY,
    measures.REPLAYED,
    measures.LATENESS,
    measures.REVOCATION,
)
PLOTS = (
    "Handshakes a second",
    "Sessions",
    "Renewals, and sessions that ended, a second",
    "Messages a second",
    "Deliveries a second",
    "Cores that the nodes took",
    "Connecting: how many of 100 took no longer",
    "Messages: how many of 100 took no longer",
    "Ends: how many of 100 came no later",
)


def everything() -> Measures:
    """So much of each that every plot has something in each of its lines."""
    found = Measures()
    for number in range(1, 11):
        for name in COUNTED:
            found.count(name, number, 2 * number if name == measures.LET_IN else number)
        for name in TIMED:
            found.time(name, number / 10, number / 20)
    return found


def test_a_report_opens_anywhere_by_itself(meet: MeetPerson, tmp_path: Path) -> None:
    """The verdict on top, all plots drawn and to be seen on a desk and on a phone; no error, no script, no request to anywhere."""
    one = result(title=HOSTILE, faults=[Fault(kind="lost", client=HOSTILE)], measured=everything())
    report.write(one, tmp_path / "storm")
    reader = meet("reader")
    page, asked, alarms = reader.page, list[str](), list[str]()
    page.on("request", lambda request: asked.append(request.url))
    page.on("dialog", lambda dialog: alarms.append(dialog.message))
    file = (tmp_path / "storm.html").as_uri()
    page.goto(file)
    expect(page).to_have_title(f"{HOSTILE}: NOT CLEAN")
    verdict = page.get_by_text("Verdict: NOT CLEAN")
    expect(verdict).to_be_visible(timeout=PATIENCE_MS)
    expect(verdict).to_be_in_viewport()
    plots = page.get_by_role("img")
    assert [plot.get_attribute("aria-label") for plot in plots.all()] == list(PLOTS)
    for width in (1240, 390):
        page.set_viewport_size({"width": width, "height": 780})
        top = verdict.bounding_box()
        assert top is not None
        for name, plot in zip(PLOTS, plots.all(), strict=True):
            expect(plot).to_be_visible()
            box = plot.bounding_box()
            assert box is not None and top["y"] < box["y"] and box["width"] > 0.8 * min(width, 920) and box["height"] > 100, name
            for line in plot.locator("polyline").all():
                drawn = line.bounding_box()
                assert drawn is not None and drawn["width"] > box["width"] / 4 and drawn["height"] > 0, name
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert (asked, alarms) == ([file], [])
