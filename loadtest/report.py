"""The report of a storm: one HTML page that needs nothing else, with the verdict on top, and the same as JSON."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path

import msgspec

from loadtest import measures
from loadtest.pages import page, shown, table
from loadtest.plot import Line, Moment, Plot
from loadtest.result import FORMAT, Result

_MOST_FAULTS = 20


def write(result: Result, path: Path) -> None:
    """Write both, under this path with `.html` and `.json`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside(path, ".json").write_bytes(msgspec.json.format(msgspec.json.encode(result)) + b"\n")
    beside(path, ".html").write_text(html(result))


def beside(path: Path, suffix: str) -> Path:
    """The file of this suffix: what stands behind a dot in the name may be part of it."""
    return path.parent / f"{path.name.removesuffix('.html').removesuffix('.json')}{suffix}"


def read(path: Path) -> Result:
    """What was written, in the format of this version. Raises `OSError` and `msgspec.MsgspecError`."""
    written = path.read_bytes()
    of = msgspec.json.decode(written, type=_Format).format
    if of != FORMAT:
        raise msgspec.ValidationError(f"it is of format {of}, and this version reads {FORMAT}")
    return msgspec.json.decode(written, type=Result)


class _Format(msgspec.Struct):
    format: int


def html(result: Result) -> str:
    """The page."""
    began = datetime.fromtimestamp(result.began, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    body = [f"<h1>{escape(result.title)}</h1>", f'<p class="quiet">{began}, {result.lasted_s:g} s</p>']
    body += [*_verdict(result), *_objectives(result), *_figures(result)]
    body += ["<h2>Over time</h2>", *(one.svg() for one in over_time(result)), "<h2>How long it took</h2>", _times(result)]
    body += [*(one.svg() for one in how_long(result)), *_codes(result), "<h2>The storm</h2>"]
    body.append(table(("setting", "value"), [(name, shown(value)) for name, value in result.settings.items()]))
    return page(f"{result.title}: {result.said}", body)


def _verdict(result: Result) -> Iterator[str]:
    verdict = result.verdict
    counts = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in verdict.counts.items())
    yield f'<div class="verdict {"good" if result.ok else "bad"}">Verdict: {result.said}'
    yield f"<p>{verdict.clients:,} clients, {verdict.acked:,} messages acked, {verdict.seen:,} events seen: {counts}</p>"
    wrong = [verdict.absence] if verdict.absence else []
    wrong += [str(verdict.leftover)] if verdict.leftover else []
    wrong += [f"{verdict.missing} workers did not hand over what their users saw"] if verdict.missing else []
    yield from (f"<p>{escape(line)}</p>" for line in (*wrong, *verdict.problems))
    yield "</div>"
    if verdict.faults:
        yield "<h2>Faults</h2>"
        yield from (f"<p><code>{escape(fault)}</code></p>" for fault in verdict.faults[:_MOST_FAULTS])
        more = sum(verdict.counts.values()) - _MOST_FAULTS
        yield f"<p>and {more:,} more</p>" if more > 0 else ""


def _objectives(result: Result) -> Iterator[str]:
    if result.objectives:
        rows = [(one.name, one.measured, one.limit, "met" if one.met else "MISSED") for one in result.objectives]
        yield "<h2>Objectives</h2>"
        missed = [place for place, one in enumerate(result.objectives) if not one.met]
        yield table(("objective", "measured", "at most", ""), rows, missed=missed)


def _figures(result: Result) -> Iterator[str]:
    figures, cost = result.figures, result.cost

    def pair(one: str, other: str) -> str:
        return f"{shown(figures[one])} and {shown(figures[other])}"

    rows: list[tuple[str, object]] = [
        ("handshakes in the fullest second", figures["peak_handshakes"]),
        ("renewals in the fullest second", figures["peak_renewals"]),
        ("reconnect, p50 and p99 (ms)", pair("reconnect_p50_ms", "reconnect_p99_ms")),
        ("everybody back after (s)", figures["all_back_s"]),
        ("told of the end of a token, p99 and most (ms late)", pair("lateness_p99_ms", "lateness_max_ms")),
        ("processor time of the nodes (s)", result.nodes.cpu_s or None),
        (
            "cost of the load test",
            f"{cost.us_an_event:g} µs an event, {cost.kib_a_person:g} KiB a person, processes: {cost.processes}",
        ),
        ("it kept packets waiting for (ms, at most)", cost.late_ms),
    ]
    yield "<h2>Figures</h2>"
    yield table(("figure", "value"), [(name, shown(value)) for name, value in rows])


def _times(result: Result) -> str:
    rows = [(name, one.count, one.p50_ms, one.p95_ms, one.p99_ms, one.max_ms) for name, one in result.times.items()]
    return table(("from when it was due", "count", "p50 ms", "p95 ms", "p99 ms", "most ms"), rows)


def _codes(result: Result) -> Iterator[str]:
    for title, counts in (("Refused", result.refusals), ("Sessions that ended, by what was said", result.ends)):
        if counts:
            yield f"<h2>{title}</h2>"
            yield table(("code", "count"), Counter(counts).most_common())


# Plots


def moments(result: Result) -> Sequence[Moment]:
    """What was done, as marks of a plot."""
    return [Moment(x=mark.at_s, name=mark.name) for mark in result.marks]


def series(result: Result, name: str, label: str, colour: str, *, since_s: float = 0.0) -> Line:
    """One of its series as a line; x is seconds since `since_s`."""
    points = [(second - since_s, value) for second, value in enumerate(result.series.get(name, []))]
    return Line(name=label, colour=colour, points=points)


def curve(result: Result, name: str, label: str, colour: str) -> Line:
    """How many of 100 took no longer, over ms."""
    return Line(name=label, colour=colour, points=[(max(ms, 0.1), 100 * share) for ms, share in result.curves.get(name, [])])


def over_time(result: Result) -> list[Plot]:
    """What happened in each second."""
    rows = [
        (
            "Handshakes a second",
            [(measures.TRIED, "begun", "blue"), (measures.LET_IN, "let in", "green"), (measures.REFUSED, "refused", "orange")],
        ),
        ("Sessions", [("sessions", "open", "blue")]),
        (
            "Renewals, and sessions that ended, a second",
            [(measures.RENEWED, "renewed", "green"), (measures.LOST, "ended", "orange")],
        ),
        ("Messages a second", [(measures.ACKED, "acked", "purple")]),
        ("Deliveries a second", [(measures.DELIVERED, "delivered", "blue")]),
        ("Cores that the nodes took", [("cores of the nodes", "all nodes", "purple")]),
    ]
    found = []
    for title, parts in rows:
        lines = [series(result, name, label, colour) for name, label, colour in parts if any(result.series.get(name, []))]
        if lines:
            found.append(Plot(title=title, x_label="seconds since the start", lines=lines, moments=moments(result)))
    return found


def how_long(result: Result) -> list[Plot]:
    """The times as curves: how many of 100 took no longer."""
    rows = [
        (
            "Connecting: how many of 100 took no longer",
            [(measures.CONNECT, "first connect", "blue"), (measures.RECONNECT, "reconnect, from loss to level", "orange")],
        ),
        (
            "Messages: how many of 100 took no longer",
            [
                (measures.ACK, "sent to acked", "purple"),
                (measures.DELIVERY, "sent to delivered", "blue"),
                (measures.REPLAYED, "missed and made up for", "orange"),
            ],
        ),
        (
            "Ends: how many of 100 came no later",
            [(measures.LATENESS, "told of the end of a token", "blue"), (measures.REVOCATION, "told of a withdrawal", "orange")],
        ),
    ]
    found = []
    for title, parts in rows:
        lines = [curve(result, name, label, colour) for name, label, colour in parts if result.curves.get(name)]
        if lines:
            found.append(Plot(title=title, x_label="ms", lines=lines, logarithmic=True, most_y=100))
    return found
