"""The window over which renewals are spread, against what it spares: renewals in the fullest second, reconnect p99, cores.

2,000 people on one node, whose tokens end in the same second; 8 of 10 renew, the others fall. One window
after the other.
"""

from bench.report import machine, write_results
from bench.storm_runs import DOCS, people, row, storm, write_between
from loadtest.plot import Line, Plot
from loadtest.result import Result

PAGE = DOCS / "planning.md"
BEGIN, END = "<!-- the window: make bench ARGS=renewal_window -->", "<!-- the end of the window -->"
USERS = 2_000
WINDOWS_S = (1, 2, 5, 10, 20)
STRIKE_S = 60  # a window is never over half a token's life: the last to come have 40 s
FLAGS = ("--local", "--nodes", "1", "--spawn-rate", people(100), "--cliff-at", str(STRIKE_S), "--run-time", "75", "--rooms", "60")


def measured(window_s: int) -> Result:
    """The storm with this window."""
    settings = {"refresh_window_seconds": str(window_s)}
    return storm("cliff", *FLAGS, "--users", people(USERS), title=f"window {window_s} s", settings=settings)


def fullest(result: Result, window_s: int) -> float:
    """The cores that the node took in the fullest second of its renewals and of the cliff."""
    cores = result.series.get("cores of the nodes", [])
    return max(cores[STRIKE_S - window_s - 1 : STRIKE_S + 3], default=0.0)


def plots(rows: list[dict[str, object]]) -> dict[str, Plot]:
    """By file name: the fullest second over the window with what would be level, how soon who falls is back, and what the node takes."""

    def over(name: str) -> list[tuple[float, float]]:
        return [(float(str(one["window_s"])), float(str(one[name]))) for one in rows]

    level = [(window, float(str(rows[0]["renewing_people"])) / window) for window, _ in over("window_s")]
    peak = [
        Line(name="renewals in the fullest second", points=over("peak_renewals")),
        Line(name="level", points=level, colour="grey", dashed=True),
    ]
    back = [
        Line(name="reconnect p99, ms", points=over("reconnect_p99_ms")),
        Line(name="reconnect p50, ms", points=over("reconnect_p50_ms"), colour="grey"),
    ]
    cores = [Line(name="cores of the node in the fullest second", points=over("cores_fullest"))]
    label = "window, seconds"
    return {
        "renewal-window.svg": Plot(title="The renewal window and the fullest second", x_label=label, lines=peak),
        "renewal-window-reconnect.svg": Plot(title="The renewal window and who falls off", x_label=label, lines=back),
        "renewal-window-cores.svg": Plot(title="The renewal window and the core of the node", x_label=label, lines=cores),
    }


def table(rows: list[dict[str, object]]) -> str:
    """The same figures, as Markdown."""
    head = "| window | renewals in the fullest second | reconnect p50, p99 of who falls | cores in the fullest second | verdict |"
    lines = [
        f"| {one['window_s']} s | {float(str(one['peak_renewals'])):,.0f} | {_seconds(one['reconnect_p50_ms'])}, "
        f"{_seconds(one['reconnect_p99_ms'])} | {float(str(one['cores_fullest'])):.2f} | {'clean' if one['clean'] else 'not clean'} |"
        for one in rows
    ]
    return "\n".join([head, "| --- | --- | --- | --- | --- |", *lines])


def _seconds(milliseconds: object) -> str:
    return f"{float(str(milliseconds)) / 1000:.1f} s"


def main() -> None:
    """Run them, write the results and draw the curve."""
    measured_on = machine()
    rows: list[dict[str, object]] = []
    for window_s in WINDOWS_S:
        result = measured(window_s)
        own = {"window_s": window_s, "renewing_people": result.times["renewal"].count, "cores_fullest": fullest(result, window_s)}
        rows.append(own | row(result))
    path = write_results("renewal_window", rows, measured_on=measured_on, users=USERS)
    for name, plot in plots(rows).items():
        (DOCS / name).write_text(plot.svg(alone=True))
    write_between(PAGE, BEGIN, END, table(rows))
    print(f"  written to {path}, docs/renewal-window*.svg and {PAGE}")
