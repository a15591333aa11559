"""Several storms side by side: one table and plots over each other, as a page of their own. `python -m loadtest.compare A.json B.json`."""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path

import msgspec

from loadtest import measures, report
from loadtest.pages import page, shown, table
from loadtest.plot import COLOURS, Line, Moment, Plot
from loadtest.result import Result

MOST = len(COLOURS)
DEFAULT_OUT = Path("storms/comparison")
_ROWS: Sequence[tuple[str, Callable[[Result], object]]] = (
    ("people", lambda one: one.settings.get("users")),
    ("handshakes in the fullest second", lambda one: one.figures.get("peak_handshakes")),
    ("renewals in the fullest second", lambda one: one.figures.get("peak_renewals")),
    ("connect p99 (ms)", lambda one: one.figures.get("connect_p99_ms")),
    ("reconnect p50 (ms)", lambda one: one.figures.get("reconnect_p50_ms")),
    ("reconnect p99 (ms)", lambda one: one.figures.get("reconnect_p99_ms")),
    ("everybody back after (s)", lambda one: one.figures.get("all_back_s")),
    ("told of the end, p99 (ms late)", lambda one: one.figures.get("lateness_p99_ms")),
    ("sent to acked, p99 (ms)", lambda one: one.figures.get("ack_p99_ms")),
    ("sent to delivered, p99 (ms)", lambda one: one.figures.get("delivery_p99_ms")),
    ("refused", lambda one: sum(one.refusals.values())),
    ("processor time of the nodes (s)", lambda one: one.nodes.cpu_s or None),
    ("messages acked", lambda one: one.verdict.acked),
    ("events lost", lambda one: one.figures.get("lost")),
    ("events twice", lambda one: one.figures.get("duplicated")),
    ("events out of order", lambda one: one.figures.get("out_of_order")),
    ("events past an end", lambda one: one.figures.get("late")),
    ("verdict", lambda one: one.said),
)


def apart(results: Sequence[Result]) -> list[Result]:
    """The same, and those of one title told apart: by when they began, or by a number where that is the same too."""
    of_title = Counter(one.title for one in results)
    found, names = list[Result](), Counter[str]()
    for one in results:
        began = datetime.fromtimestamp(one.began, UTC).strftime("%Y-%m-%d %H:%M:%S")
        title = one.title if of_title[one.title] == 1 else f"{one.title} ({began})"
        names[title] += 1
        found.append(msgspec.structs.replace(one, title=title if names[title] == 1 else f"{title} {names[title]}"))
    return found


def rows(results: Sequence[Result]) -> list[tuple[str, list[object]]]:
    """The table: what, and for each storm how much; without rows of which nothing is known."""
    found = [(name, [of(one) for one in results]) for name, of in _ROWS]
    return [(name, values) for name, values in found if any(value is not None for value in values)]


def markdown(results: Sequence[Result]) -> str:
    """The table for a README."""
    lines = [f"| | {' | '.join(one.title.replace('|', '/') for one in results)} |", "| --- " * (len(results) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(shown(value) for value in values)} |" for name, values in rows(results)]
    return "\n".join(lines) + "\n"


def plots(results: Sequence[Result]) -> list[Plot]:
    """Over each other; seconds count from the strike where each has one, and else from the start of each."""
    struck = [one.struck_s for one in results if one.struck_s is not None]
    of_all = len(struck) == len(results)
    begins = struck if of_all else [0.0] * len(results)
    shared = [Moment(x=0.0, name="the strike")] if of_all else []
    label = "seconds since the strike" if of_all else "seconds since the start"

    def over(title: str, name: str) -> Plot:
        lines = [
            report.series(one, name, one.title, colour, since_s=begin)
            for one, begin, colour in zip(results, begins, COLOURS, strict=False)
        ]
        return Plot(title=title, x_label=label, lines=lines, moments=shared)

    def curves(title: str, name: str) -> Plot:
        lines = [report.curve(one, name, one.title, colour) for one, colour in zip(results, COLOURS, strict=False)]
        return Plot(title=title, x_label="ms", lines=[line for line in lines if line.points], logarithmic=True, most_y=100)

    found = [
        over("Handshakes begun a second", measures.TRIED),
        over("Sessions", "sessions"),
        over("Cores that the nodes took", "cores of the nodes"),
        curves("Reconnect: how many of 100 took no longer", measures.RECONNECT),
        curves("Sent to delivered: how many of 100 took no longer", measures.DELIVERY),
    ]
    return [plot for plot in found if any(_alive(line) for line in plot.lines)]


def _alive(line: Line) -> bool:
    return any(y for _, y in line.points)


def html(results: Sequence[Result]) -> str:
    """The page."""
    title = f"Storms side by side: {', '.join(one.title for one in results)}"
    found = [(name, *(shown(value) for value in values)) for name, values in rows(results)]
    head = ("", *(one.title for one in results))
    return page(title, [f"<h1>{escape(title)}</h1>", table(head, found), *(plot.svg() for plot in plots(results))])


def write(results: Sequence[Result], path: Path) -> None:
    """Write the page, and the table as Markdown."""
    path.parent.mkdir(parents=True, exist_ok=True)
    report.beside(path, ".html").write_text(html(results))
    report.beside(path, ".md").write_text(markdown(results))


def main(arguments: Sequence[str]) -> int:
    """The command: 0 written, 1 it cannot be written, 2 a bad flag, or a file that is no report."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.compare", description=__doc__)
    parser.add_argument("files", nargs="+", metavar="FILE.json", help=f"reports of storms, 2 to {MOST}")
    parser.add_argument("--report", default=str(DEFAULT_OUT), help=f"where to write it (default {DEFAULT_OUT})")
    asked = parser.parse_args(arguments)
    if not 2 <= len(asked.files) <= MOST:
        sys.stderr.write(f"--compare: takes 2 to {MOST} reports, got {len(asked.files)}\n")
        return 2
    results = []
    for file in asked.files:
        try:
            results.append(report.read(Path(file)))
        except (OSError, msgspec.MsgspecError) as error:
            sys.stderr.write(f"--compare: takes reports of storms as JSON, got {file!r}: {error}\n")
            return 2
    results = apart(results)
    try:
        write(results, Path(asked.report))
    except OSError as error:
        sys.stderr.write(f"--report: takes a path that can be written to, got {asked.report!r}: {error}\n")
        return 1
    sys.stdout.write(f"{markdown(results)}\ncomparison: {report.beside(Path(asked.report), '.html')}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
