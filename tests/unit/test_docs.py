"""The pages for users name what the code has, all of it, and nothing else."""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from loadtest import measures
from loadtest.checker import KINDS
from loadtest.objectives import NAMES as OBJECTIVES
from loadtest.options import add_options
from loadtest.scenarios import SCENARIOS
from node.auth.denied import DenialCode
from node.cli.haproxy import configuration
from node.config import SETTINGS
from node.core.commands import NAMES
from node.core.errors import Code
from node.core.limits import Limits
from node.edge.admin import ADMIN_NAMES
from node.edge.commands import REFRESH
from node.watch import LINES

ROOT = Path(__file__).parents[2]
PROTOCOL, OPERATIONS = ROOT / "docs" / "protocol.md", ROOT / "docs" / "operations.md"
PAGES = [
    *sorted((ROOT / "docs").glob("*.md")),
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "SECURITY.md", "monitoring/runbook.md")),
]
Rows = list[list[str]]


# Reading a page


def tables(page: Path, header: str) -> Rows:
    """The rows of all tables of a page whose first column is called `header`, as cells."""
    found: Rows = []
    head = ""
    for line in page.read_text().splitlines():
        if not line.startswith("|"):
            head = ""
            continue
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not head:
            head = cells[0]
        elif head == header and not re.fullmatch("-+", cells[0]):
            found.append(cells)
    assert found, f"{page.name} has no table with {header!r}"
    return found


def coded(text: str) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"`([^`]+)`", text)


def named(page: Path, header: str) -> set[str]:
    """What the first columns of these tables name."""
    return {name for cells in tables(page, header) for name in coded(cells[0])}


# Reading the code


def calls(folder: str) -> Iterator[tuple[str, ast.Call]]:
    """Every call in the modules of a folder, with the bare name of what is called."""
    for node in nodes(folder):
        if isinstance(node, ast.Call):
            function = node.func
            name = function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
            yield name.lstrip("_"), node


def nodes(folder: str) -> Iterator[ast.AST]:
    """The syntax of the modules of a folder, or of one module."""
    for path in sorted((ROOT / folder).rglob("*.py")) or [ROOT / folder]:
        yield from ast.walk(ast.parse(path.read_text()))


def texts(found: Iterable[ast.AST]) -> set[str]:
    """Those that are strings, written out."""
    return {node.value for node in found if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def values_of(key: str, folder: str) -> set[str]:
    """The strings that stand under `key` in dictionaries written out."""
    pairs = [(k, v) for node in nodes(folder) if isinstance(node, ast.Dict) for k, v in zip(node.keys, node.values, strict=True)]
    return texts(value for name, value in pairs if isinstance(name, ast.Constant) and name.value == key)


#: The functions through which every event goes out, and which argument is its name.
SENDERS = {"send": 0, "encode_event": 1, "deliver": 1, "tell_users": 1, "sequence": 3}
#: What writes a line of the journal.
LOGGED = ("debug", "info", "warning", "error", "say")


def events() -> set[str]:
    """The names of all events that a node sends."""
    placed = [call.args[SENDERS[name]] for name, call in calls("node") if len(call.args) > SENDERS.get(name, 99)]
    keyed = [word.value for name, call in calls("node") if name == "Deliver" for word in call.keywords if word.arg == "name"]
    return texts([*placed, *keyed])


def http_codes() -> set[str]:
    """The codes that are only answers to HTTP requests, and some that are not."""
    return texts(call.args[1] for name, call in calls("node/edge") if name == "error" and len(call.args) > 1) | values_of(
        "code", "node/edge"
    )


def resources() -> set[str]:
    """`GET /path` for each path and method."""
    found = set()
    for node in nodes("node/edge/http.py"):
        pairs: list[tuple[ast.AST | None, ast.AST]] = []
        if isinstance(node, ast.Dict):
            pairs = list(zip(node.keys, node.values, strict=True))
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
            pairs = [(node.targets[0].slice, node.value)]
        for path, methods in pairs:
            if path is not None and isinstance(methods, ast.Dict):
                found |= {f"{m} {p}" for p in texts([path]) for m in texts(key for key in methods.keys if key)}
    return {one for one in found if " /" in one}


# The wire


def test_commands() -> None:
    """Every command, and no other."""
    assert named(PROTOCOL, "command") == {*NAMES, *ADMIN_NAMES, REFRESH}


def test_fields() -> None:
    """The fields of each command, with a question mark where they may be left out."""
    documented = {coded(cells[0])[0]: cells[1] for cells in tables(PROTOCOL, "command")}
    for name, kind in {**NAMES, **ADMIN_NAMES}.items():
        fields = {field.encode_name: field.required for field in msgspec.structs.fields(kind)}
        written = dict(re.findall(r"([a-z_]+)(\??)", " ".join(coded(documented[name])).replace(" or ", " ")))
        assert set(written) == set(fields), name
        if name in NAMES:
            assert {field for field, mark in written.items() if not mark} == {field for field in fields if fields[field]}, name


def test_codes() -> None:
    """Every code of a refusal, a denial or an HTTP error, and no other."""
    assert named(PROTOCOL, "code") == {*get_args(Code), *get_args(DenialCode)} | http_codes()


def test_events() -> None:
    """Every event that a node sends, and no other; of `room` every change."""
    assert named(PROTOCOL, "event") == events()
    told = texts(call.args[3] for name, call in calls("node/core") if name == "tell_of")
    assert named(PROTOCOL, "`change`") == told | values_of("change", "node/core")


def test_paths() -> None:
    """Everything that is served over HTTP."""
    assert named(PROTOCOL, "path") == {one.replace("{path:path}", "…") for one in resources()}


def test_limits() -> None:
    """Every limit with its default and its setting."""
    rows = {name: cells for cells in tables(PROTOCOL, "what") for name in coded(cells[2])}
    assert set(rows) == {SETTINGS[field].variable for field in Limits.__struct_fields__}
    for field in msgspec.structs.fields(Limits):
        written = f"{field.default:,}".removesuffix(".0")
        assert written in re.findall(r"[\d,]*\d", rows[SETTINGS[field.name].variable][1]), field.name


# Operations


def test_settings() -> None:
    """Every setting in its order, with what it takes and its default; a meaning besides."""
    rows = tables(OPERATIONS, "variable")
    for (variable, takes, default, meaning), setting in zip(rows, SETTINGS.values(), strict=False):
        expected = [f"`{setting.variable}`", setting.takes, f"`{setting.default}`" if setting.default else ""]
        line = f"| {' | '.join(expected)} | {setting.meaning} |"
        assert [variable, takes.replace("`*`", "*"), default] == expected, f"operations.md lacks: {line}"
        assert meaning
        assert ("*file*" in meaning) is setting.from_file, variable
    assert [coded(cells[0])[0] for cells in rows] == [setting.variable for setting in SETTINGS.values()]


def storm_flags() -> set[str]:
    """The load test's own flags, without their dashes."""
    flags = set()

    class Parser:
        def add_argument(self, flag: str, **_: object) -> None:
            flags.add(flag.removeprefix("--"))

    add_options(Parser())  # type: ignore[arg-type]
    return flags


def test_storms() -> None:
    """Each scenario, flag, kind of fault, objective and timed request of the load test is in its page."""
    text = (ROOT / "docs" / "storms.md").read_text()
    kinds = set(KINDS)
    timed = {
        measures.CONNECT,
        measures.RECONNECT,
        measures.RENEWAL,
        measures.ACK,
        measures.DELIVERY,
        measures.REPLAYED,
        measures.LATENESS,
    }
    names = {f"--{flag}" for flag in storm_flags()} | set(SCENARIOS) | kinds | set(OBJECTIVES) | timed | {measures.REVOCATION}
    assert {name for name in names if f"`{name}`" not in text} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_setting_that_is_none(page: Path) -> None:
    """What looks like a setting is one."""
    known = {setting.variable for setting in SETTINGS.values()}
    known |= {f"{setting.variable}_FILE" for setting in SETTINGS.values() if setting.from_file}
    known |= {f"TIDEGATE_STORM_{flag.replace('-', '_').upper()}" for flag in storm_flags()}
    assert set(re.findall(r"TIDEGATE_[A-Z_]*[A-Z]", page.read_text())) <= known


def test_reasons() -> None:
    """Every reason for which a node is not ready, and no other."""
    stored = (node for node in nodes("node/status.py") if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store))
    assert named(OPERATIONS, "reason") == texts(node.slice for node in stored)


def test_lines() -> None:
    """Every line that a node logs, and no other."""
    parts = [f"node/{part}" for part in ("app.py", "auth", "cli/node.py", "edge", "flow", "opening.py", "tracing.py")]
    said = [call for part in parts for name, call in calls(part) if name in LOGGED and call.args]
    lines = texts(call.args[0] for call in said) | {line for pair in LINES.values() for line in pair}
    assert named(OPERATIONS, "line") == lines


def test_the_proxy() -> None:
    """The configuration of HAProxy is the one that `tidegate up` and the tests run, with TLS."""
    nodes = {f"n{number}": f"127.0.0.1:800{number}" for number in (1, 2, 3)}
    shown = re.search(r"(?m)^HAProxy .*\n\n```\n((?:.*\n)*?)```$", OPERATIONS.read_text())
    assert shown is not None
    assert shown[1] == configuration(bind=":443 ssl crt /etc/haproxy/chat.pem", nodes=nodes)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_metric_that_is_none(page: Path) -> None:
    """What looks like a metric is one."""
    known = {text for text in texts(nodes("node")) if text.startswith("tidegate_")}
    said = re.findall(r"(?<![\w/.:-])tidegate_[a-z_]+", page.read_text())
    assert {name for name in said if name not in known and name.removesuffix("_total") not in known} == set()


# Both


def slug(heading: str) -> str:
    """The anchor that a heading gets."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links(page: Path) -> None:
    """Every link to a page, and to a place in one, leads there."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        other = page.parent / path if path else page
        assert other.exists(), target
        if anchor:
            headings = re.findall(r"(?m)^#+ (.+)$", other.read_text())
            assert anchor in {slug(heading) for heading in headings}, target
