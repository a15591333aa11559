"""monitoring/runbook.md by its sections, and as a dashboard: the page that says what to do, one panel an alert."""

import re
from functools import cache
from pathlib import Path

FILE = Path(__file__).parents[1] / "runbook.md"
UID = "tidegate-runbook"
_LINK = re.compile(r"\[(?P<text>[^]]+)\]\((?P<to>[^)]+)\)")


@cache
def sections() -> dict[str, str]:
    """The text of each section by its title, in the order of the file."""
    parts = re.split(r"(?m)^## +(.+?) *$", FILE.read_text())
    return {title: text.strip() for title, text in zip(parts[1::2], parts[2::2], strict=True)}


def panel_id(alert: str) -> int:
    """The number of its section's panel."""
    return list(sections()).index(alert) + 1


def section_url(alert: str) -> str:
    """Where in Grafana its section is. Raises `ValueError` where there is none."""
    return f"/d/{UID}?viewPanel={panel_id(alert)}"


def in_grafana(text: str) -> str:
    """A section's text with links to other sections' panels; those to files of the repository become their names."""

    def linked(found: re.Match[str]) -> str:
        if found["to"].startswith("#"):
            return f"[{found['text']}]({section_url(found['text'])})"
        return f"{found['text']} (`{found['to'].removeprefix('../')}`)"

    return _LINK.sub(linked, text)
