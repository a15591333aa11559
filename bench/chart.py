"""Line charts one above the other, as an SVG that follows the reader's light or dark theme."""

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

import msgspec

WIDTH, PLOT_HEIGHT = 860, 210
LEFT, RIGHT, TOP, BOTTOM = 66, 24, 62, 34  # around the plot of each panel
FOOT = 34  # under the last one, for what the x axis means
STEPS = 4  # of the y axis
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-size: 15px; font-weight: 600 }
.quiet { fill: #59636e }
.back { fill: #ffffff }
.grid { stroke: #d1d9e0 }
.line { fill: none; stroke-width: 2; stroke-linejoin: round }
.dashed { stroke-dasharray: 6 4; stroke-width: 1.5 }
.blue { stroke: #0969da } .orange { stroke: #bc4c00 } .purple { stroke: #8250df } .grey { stroke: #59636e }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc } .quiet { fill: #9198a1 } .back { fill: #0d1117 } .grid { stroke: #3d444d }
  .blue { stroke: #4493f8 } .orange { stroke: #f0883e } .purple { stroke: #ab7df8 } .grey { stroke: #9198a1 }
}
"""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One series, `(x, y)` in order of x; `colour` is a class of `STYLE`."""

    name: str
    colour: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False


class Panel(msgspec.Struct, frozen=True, kw_only=True):
    """One plot: its lines over each other; y begins at 0."""

    title: str
    lines: Sequence[Line]


def chart(panels: Sequence[Panel], *, title: str, x_label: str) -> str:
    """The SVG of panels that share their x axis; `title` is for who cannot see it."""
    xs = [x for panel in panels for line in panel.lines for x, _ in line.points]
    each = TOP + PLOT_HEIGHT + BOTTOM
    height = each * len(panels) + FOOT
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
    parts = [head, f"<title>{escape(title)}</title>", f"<style>{STYLE}</style>"]
    parts.append(f'<rect class="back" width="{WIDTH}" height="{height}"/>')
    for number, panel in enumerate(panels):
        parts += [f'<g transform="translate(0 {number * each})">', *_panel(panel, min(xs), max(xs)), "</g>"]
    parts.append(f'<text class="quiet" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{height - 16}" text-anchor="middle">{x_label}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def write_chart(path: Path, panels: Sequence[Panel], *, title: str, x_label: str) -> None:
    """Write what `chart` draws."""
    path.write_text(chart(panels, title=title, x_label=x_label))


def round_up(value: float) -> int:
    """The least round number that is not under `value` and whose quarter is whole."""
    scale = 1
    while True:
        for factor in (4, 8, 12, 16, 20, 24, 28, 32):
            if value <= factor * scale:
                return factor * scale
        scale *= 10


def _panel(panel: Panel, low: float, high: float) -> Iterator[str]:
    most = round_up(max(y for line in panel.lines for _, y in line.points))
    bottom = TOP + PLOT_HEIGHT

    def across(x: float) -> float:
        return round(LEFT + (x - low) / (high - low) * (WIDTH - LEFT - RIGHT), 1)

    def up(y: float) -> float:
        return round(bottom - y / most * PLOT_HEIGHT, 1)

    yield f'<text class="title" x="{LEFT}" y="24">{escape(panel.title)}</text>'
    for step in range(STEPS + 1):
        value = most * step // STEPS
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{up(value)}" y2="{up(value)}"/>'
        yield f'<text class="quiet" x="{LEFT - 10}" y="{up(value) + 4}" text-anchor="end">{value:,}</text>'
    for second in range(round(low), round(high) + 1, max(1, round((high - low) / 12))):
        yield f'<text class="quiet" x="{across(second)}" y="{bottom + 20}" text-anchor="middle">{second}</text>'
    key = float(LEFT)
    for line in panel.lines:
        style = f"line {line.colour}{' dashed' if line.dashed else ''}"
        points = " ".join(f"{across(x)},{up(y)}" for x, y in line.points)
        yield f'<polyline class="{style}" points="{points}"/>'
        yield f'<line class="{style}" x1="{key:.0f}" x2="{key + 22:.0f}" y1="44" y2="44"/>'
        yield f'<text x="{key + 28:.0f}" y="48">{escape(line.name)}</text>'
        key += 28 + 7.2 * len(line.name) + 24  # a letter is about so wide
