"""The window over which renewals are spread, against what it spares: renewals in the fullest second, reconnect p99, cores.

2,000 people on one node, whose tokens end in the same second; 8 of 10 renew, the others fall. One window
after the other.
"""

from bench.report import machine, write_results
from bench.storm_runs import DOCS, people, row, storm
from loadtest.plot import Line, Plot
from loadtest.result import Result

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


def plot(rows: list[dict[str, object]]) -> Plot:
    """Renewals in the fullest second over the window, and what would be level."""
    points = [(float(str(one["window_s"])), float(str(one["peak_renewals"]))) for one in rows]
    level = [(window, float(str(rows[0]["renewing_people"])) / window) for window, _ in points]
    lines = [
        Line(name="renewals in the fullest second", points=points),
        Line(name="level", points=level, colour="grey", dashed=True),
    ]
    return Plot(title="The renewal window and the fullest second", x_label="window, seconds", lines=lines)


def main() -> None:
    """Run them, write the results and draw the curve."""
    measured_on = machine()
    rows: list[dict[str, object]] = []
    for window_s in WINDOWS_S:
        result = measured(window_s)
        own = {"window_s": window_s, "renewing_people": result.times["renewal"].count, "cores_fullest": fullest(result, window_s)}
        rows.append(own | row(result))
    path = write_results("renewal_window", rows, measured_on=measured_on, users=USERS)
    (DOCS / "renewal-window.svg").write_text(plot(rows).svg(alone=True))
    print(f"  written to {path} and docs/renewal-window.svg")
