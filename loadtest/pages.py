"""The frame of an HTML page that needs nothing else: no script, no picture, nothing from elsewhere. Pure."""

from collections.abc import Sequence
from html import escape

from loadtest import plot

NOTHING = "-"
_STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 920px; padding: 24px 16px 64px; background: #fff; color: #1f2328 }
h1 { font-size: 24px; margin: 0 0 4px } h2 { font-size: 18px; margin: 36px 0 8px } p { margin: 4px 0 }
.quiet { color: #59636e } .verdict { border-radius: 8px; padding: 12px 16px; margin: 16px 0; font-weight: 600; color: #fff }
.verdict.good { background: #1a7f37 } .verdict.bad { background: #cf222e } .verdict p { font-weight: 400 }
table { border-collapse: collapse; margin: 8px 0 } th, td { padding: 4px 14px 4px 0; text-align: left; vertical-align: top }
th { font-weight: 600; border-bottom: 1px solid #d1d9e0 } td { border-bottom: 1px solid #d1d9e055 }
.scroll { overflow-x: auto } td.number, th.number { text-align: right; font-variant-numeric: tabular-nums }
svg { display: block; width: 100%; height: auto; margin: 12px 0; border: 1px solid #d1d9e0; border-radius: 8px }
code { font: 13px ui-monospace, monospace } .missed { color: #cf222e; font-weight: 600 }
@media (prefers-color-scheme: dark) {
  body { background: #0d1117; color: #f0f6fc } .quiet { color: #9198a1 }
  th, td { border-color: #3d444d } svg { border-color: #3d444d } .missed { color: #f85149 }
}
"""


def page(title: str, body: Sequence[str]) -> str:
    """The whole page."""
    head = f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
    head += '<meta name="viewport" content="width=device-width, initial-scale=1">'
    return "\n".join([head, f"<style>{_STYLE}{plot.STYLE}</style></head><body>", *body, "</body></html>\n"])


def table(head: Sequence[str], rows: Sequence[Sequence[object]], *, missed: Sequence[int] = ()) -> str:
    """A table; numbers stand to the right. Rows whose places are in `missed` stand out."""
    numeric = [
        all(isinstance(row[place], int | float) or row[place] in ("", NOTHING) for row in rows) for place in range(len(head))
    ]

    def cell(kind: str, value: object, place: int) -> str:
        style = ' class="number"' if numeric[place] else ""
        return f"<{kind}{style}>{escape(shown(value))}</{kind}>"

    lines = ["".join(cell("th", title, place) for place, title in enumerate(head))]
    for number, row in enumerate(rows):
        style = ' class="missed"' if number in missed else ""
        lines.append(f"<tr{style}>{''.join(cell('td', value, place) for place, value in enumerate(row))}</tr>")
    return f'<div class="scroll"><table><tr>{lines[0]}</tr>{"".join(lines[1:])}</table></div>'


def shown(value: object) -> str:
    """A value as people read it."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
