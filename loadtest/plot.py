"""Plots as SVG, drawn without any library: lines over an axis, with moments marked. They follow the reader's light or dark theme. Pure."""

import math
from collections.abc import Iterator, Sequence
from html import escape

import msgspec

WIDTH, HEIGHT = 860, 300
LEFT, RIGHT, TOP, BOTTOM = 66, 24, 72, 46  # around the plot itself
STEPS = 4  # of the y axis
_FEW_POWERS = 3  # of ten: in fewer there is room for the labels of 2 and 5, too
_FEW_STEPS = 5  # between neighbours of those
_LETTER = 7.0  # the width of one, about
#: Told apart by who sees no red or green, too.
COLOURS = ("blue", "orange", "purple", "green", "grey")
STYLE = """
svg text { font: 13px system-ui, sans-serif; fill: #1f2328 }
svg .title { font-size: 15px; font-weight: 600 }
svg .quiet { fill: #59636e }
svg .back { fill: #ffffff }
svg .grid { stroke: #d1d9e0 }
svg .line { fill: none; stroke-width: 2; stroke-linejoin: round }
svg .dashed { stroke-dasharray: 6 4; stroke-width: 1.5 }
svg .mark { stroke: #cf222e; stroke-dasharray: 3 3 }
svg .blue { stroke: #0969da } svg .orange { stroke: #bc4c00 } svg .purple { stroke: #8250df } svg .green { stroke: #1a7f37 }
svg .grey { stroke: #59636e }
@media (prefers-color-scheme: dark) {
  svg text { fill: #f0f6fc } svg .quiet { fill: #9198a1 } svg .back { fill: #0d1117 } svg .grid { stroke: #3d444d }
  svg .blue { stroke: #4493f8 } svg .orange { stroke: #f0883e } svg .purple { stroke: #ab7df8 } svg .green { stroke: #3fb950 }
  svg .grey { stroke: #9198a1 } svg .mark { stroke: #f85149 }
}
"""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One series, `(x, y)` in order of x; `colour` is one of `COLOURS`."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: str = "blue"
    dashed: bool = False


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """A vertical line."""

    x: float
    name: str


class Plot(msgspec.Struct, frozen=True, kw_only=True):
    """Lines over each other; y begins at 0. With `logarithmic` the x axis is (its values are over 0)."""

    title: str
    x_label: str
    lines: Sequence[Line]
    moments: Sequence[Moment] = ()
    logarithmic: bool = False
    most_y: float | None = None  # of the axis; else what the lines need

    def svg(self, *, alone: bool = False) -> str:
        """The picture; `alone`: with its style, as a file of its own."""
        axis = _Axis(self)
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(self.title)}">'
        style = [f"<style>{STYLE}</style>"] if alone else []
        parts = [head, f"<title>{escape(self.title)}</title>", *style, f'<rect class="back" width="{WIDTH}" height="{HEIGHT}"/>']
        parts.append(f'<text class="title" x="{LEFT}" y="24">{escape(self.title)}</text>')
        parts += [*_grid(self, axis), *_lines(self, axis), *_moments(self, axis)]
        middle = (LEFT + WIDTH - RIGHT) / 2
        parts.append(f'<text class="quiet" x="{middle:g}" y="{HEIGHT - 8}" text-anchor="middle">{escape(self.x_label)}</text>')
        return "\n".join([*parts, "</svg>"]) + "\n"


class _Axis:
    """From values to places."""

    def __init__(self, plot: Plot) -> None:
        xs = [x for line in plot.lines for x, _ in line.points] or [1.0]
        ys = [y for line in plot.lines for _, y in line.points] or [1.0]
        self._logarithmic = plot.logarithmic
        self.low, self.high = self._scaled(min(xs)), self._scaled(max(xs))
        if self.low == self.high:
            self.high = self.low + 1
        self.most = plot.most_y or round_up(max(ys))
        self.bottom = HEIGHT - BOTTOM

    def _scaled(self, x: float) -> float:
        return math.log10(max(x, 1e-3)) if self._logarithmic else x

    def across(self, x: float) -> float:
        """The place of an x."""
        share = (self._scaled(x) - self.low) / (self.high - self.low)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def up(self, y: float) -> float:
        """The place of a y."""
        return round(self.bottom - min(y, self.most) / self.most * (self.bottom - TOP), 1)

    def ticks(self) -> Iterator[tuple[float, str]]:
        """Round values of x."""
        low, high = (10**end if self._logarithmic else end for end in (self.low, self.high))
        if self._logarithmic:
            factors = (1, 2, 5) if self.high - self.low < _FEW_POWERS else (1,)
            powers = range(math.floor(self.low), math.ceil(self.high) + 1)
            round_ones = [factor * 10.0**power for power in powers for factor in factors]
            found = [value for value in round_ones if self.low <= self._scaled(value) <= self.high]
            if len(found) > 1:
                yield from ((value, f"{value:,.10g}") for value in found)
                return
        step = _nice((high - low) / (_FEW_STEPS if self._logarithmic else 12))
        first = math.ceil(low / step)
        yield from ((number * step, f"{number * step:,.6g}") for number in range(first, math.floor(high / step) + 1))


def _grid(plot: Plot, axis: _Axis) -> Iterator[str]:
    for step in range(STEPS + 1):
        value = axis.most * step / STEPS
        y = axis.up(value)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:g}" y2="{y:g}"/>'
        yield f'<text class="quiet" x="{LEFT - 10}" y="{y + 4:g}" text-anchor="end">{value:,.4g}</text>'
    for value, shown in axis.ticks():
        x = axis.across(value)
        if plot.logarithmic:
            yield f'<line class="grid" x1="{x:g}" x2="{x:g}" y1="{TOP}" y2="{axis.bottom}"/>'
        yield f'<text class="quiet" x="{x:g}" y="{axis.bottom + 20}" text-anchor="middle">{shown}</text>'


def _lines(plot: Plot, axis: _Axis) -> Iterator[str]:
    key = float(LEFT)
    for line in plot.lines:
        style = f"line {line.colour}{' dashed' if line.dashed else ''}"
        points = " ".join(f"{axis.across(x):g},{axis.up(y):g}" for x, y in line.points)
        yield f'<polyline class="{style}" points="{points}"><title>{escape(line.name)}</title></polyline>'
        yield f'<line class="{style}" x1="{key:.0f}" x2="{key + 22:.0f}" y1="44" y2="44"/>'
        yield f'<text x="{key + 28:.0f}" y="48">{escape(line.name)}</text>'
        key += 28 + _LETTER * len(line.name) + 24


def _moments(plot: Plot, axis: _Axis) -> Iterator[str]:
    said_to = -math.inf  # where the words of the last one end
    for moment in plot.moments:
        x = axis.across(moment.x)
        if not LEFT <= x <= WIDTH - RIGHT:
            continue
        yield f'<line class="mark" x1="{x:g}" x2="{x:g}" y1="{TOP}" y2="{axis.bottom}"><title>{escape(moment.name)}</title></line>'
        width = _LETTER * len(moment.name)
        ends = x + 4 + width > WIDTH
        begins = x - 4 - width if ends else x + 4
        if begins > said_to:
            anchor = ' text-anchor="end"' if ends else ""
            yield f'<text class="quiet" x="{x - 4 if ends else x + 4:g}" y="{TOP - 6}"{anchor}>{escape(moment.name)}</text>'
            said_to = begins + width


def round_up(value: float) -> float:
    """The least round number that is not under `value`; its quarters are round, too."""
    if value <= 0:
        return 1.0
    scale = 10.0 ** math.floor(math.log10(value))
    return next(factor * scale for factor in (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10) if value <= factor * scale * (1 + 1e-9))


def _nice(step: float) -> float:
    scale = 10.0 ** math.floor(math.log10(max(step, 1e-9)))
    return next(factor * scale for factor in (1, 2, 5, 10) if step <= factor * scale)
