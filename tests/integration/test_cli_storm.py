"""`tidegate storm`: what it takes, what it hands on to the load test, and one storm from the command to its report."""

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loadtest.options import add_options
from node.cli.storm import COMMAND, SCENARIOS
from tests.support.commands import tidegate

#: Of the load test alone: keys, which are settings of the command, and what the command decides itself.
ELSEWHERE = {"jwt-secret", "jwt-secret-file", "jwt-issuer", "jwt-audience", "scenario", "brief"}


def test_every_flag_of_the_load_test_can_be_given() -> None:
    """Under the same name; and every scenario that there is."""

    flags: set[str] = set()
    scenarios: list[str] = []

    class Parser:
        def add_argument(self, flag: str, **rest: Any) -> None:
            flags.add(flag.removeprefix("--"))
            if flag == "--scenario":
                scenarios.extend(rest["choices"])

    add_options(Parser())  # type: ignore[arg-type]
    given = {parameter.label.removeprefix("--") for parameter in COMMAND.parameters().values()}
    assert flags - ELSEWHERE <= given
    assert set(scenarios) == set(SCENARIOS)


@pytest.fixture
def taken() -> Iterator[socket.socket]:
    """Somebody else listens here."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def test_what_is_missing_or_wrong_is_said_in_a_line(tmp_path: Path, taken: socket.socket) -> None:
    """By the command itself, or by the load test behind it: exit 2, nothing started, no traceback."""
    secret = "a-secret-of-this-test-that-is-long-enough"
    nodes = ("--host", "http://127.0.0.1:1")
    for arguments, lines in (
        ((), ["SCENARIO: takes steady, cliff, "]),
        (("cliff",), ["--host or --local: takes one of them, got none"]),
        (
            ("cliff", "--local", *nodes, "--master", "--processes", "2"),
            ["--host or --local: takes one of them, got both", "--master or --processes: takes one of them, got both"],
        ),
        (
            ("cliff", *nodes, "--master-bind-host", "*", "--web-host", "*"),
            ["--master-bind-host: takes an address beside --master, ", "--web-host: takes an address beside --web-port, "],
        ),
        (
            ("clif", "--local", "--users", "none"),
            ["SCENARIO: takes steady, ", "--users: takes a whole number from 1 to "],
        ),
        (
            ("broker-restart", "--local", "--cliff-at", "1"),
            [
                "--cliff-at: takes 1 s or more behind the last arrival (10 s), got 1",
                "--hook: takes a command that restarts the broker, for broker-restart, got nothing",
            ],
        ),
        (
            ("replay", *nodes, "--sessions", "missing"),
            [
                "--sessions: takes a file that can be read, got 'missing'",
                "--jwt-secret, --jwt-secret-file or --issuer-url: takes",
            ],
        ),
        (
            ("rolling", *nodes, "--issuer-url", "nonsense", "--jwt-secret", secret),
            ["--local or --hook: takes one of them, for rolling, got none", "--issuer-url: takes http://host/path or "],
        ),
        (
            ("steady", "--local", "--prometheus-port", str(taken.getsockname()[1]), "--report", f"{__file__}/report"),
            ["--report: takes a path that can be written to, got ", "--prometheus-port: takes a port that is free, got "],
        ),
    ):
        done = tidegate("storm", *arguments, folder=tmp_path)
        assert done.returncode == 2, (arguments, done.stderr)
        assert all(line in done.stderr for line in lines) and "Traceback" not in done.stderr, (arguments, done.stderr)
        assert secret not in done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_storm_on_a_local_cluster_and_its_report(tmp_path: Path) -> None:
    """Progress, figures and the verdict on the screen, exit 0, a page and a JSON in storms/; and two of them side by side."""
    flags = ("--local", "--nodes", "1", "--users", "6", "--spawn-rate", "6", "--rate", "2", "--run-time", "4", "--title", "small")
    done = tidegate("storm", "steady", *flags, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^ +\d s \| \d of 6 here \|", done.stdout, re.MULTILINE), done.stdout
    assert "verdict: clean: 6 clients, " in done.stdout
    (report,) = (tmp_path / "storms").glob("steady-*.json")
    assert report.with_suffix(".html").exists() and f"report: storms/{report.stem}.html" in done.stdout
    written = json.loads(report.read_text())
    assert (written["title"], written["settings"]["users"], written["settings"]["nodes"]) == ("small", 6, 1)
    assert written["nodes"]["cpu_s"] > 0
    both = tidegate("storm", "--compare", report, report, "--report", "both", folder=tmp_path)
    assert both.returncode == 0, both.stderr
    assert "| verdict | clean | clean |" in both.stdout and (tmp_path / "both.html").exists()
