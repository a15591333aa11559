"""`tidegate up --monitor`: Prometheus with the repository's rules against the local cluster, which it comes and goes with."""

import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from node.cli.monitor import RULES
from tests.support.commands import command, environment, tidegate
from tests.support.http import fetch
from tests.support.nodes import ROOT
from tests.support.up import STOP_S, Up
from tests.support.wait import block_until

pytestmark = pytest.mark.prometheus

ASKED_S = 15.0  # until it has asked every node: it does so each 5 s


def asked(url: str, path: str, **parameters: str) -> Any:
    """What Prometheus answers."""
    answer = fetch(f"{url}/api/v1/{path}", params=parameters).raise_for_status().json()
    assert answer["status"] == "success"
    return answer["data"]


def test_prometheus_watches_the_cluster(tmp_path: Path) -> None:
    """Its URL is printed, it has the rules, asks each node by its name; when the cluster ends it has ended too."""
    with Up(tmp_path, "--monitor", "--nodes", "2", "--data", tmp_path / "data") as up:
        up.wait_ready(3)
        assert list(up.urls) == ["n1", "n2", "monitor"]
        url = up.urls["monitor"].rstrip("/")
        groups = asked(url, "rules")["groups"]
        assert {group["file"] for group in groups} == {str(path) for path in RULES.glob("*.yml")}
        assert "TidegateCliffAhead" in {rule["name"] for group in groups for rule in group["rules"]}

        def capacity_of() -> set[str]:
            found = asked(url, "query", query='tidegate_handshake_capacity_per_second{job="tidegate"}')["result"]
            return {series["metric"]["instance"] for series in found}

        block_until(lambda: capacity_of() == {"n1", "n2"}, ASKED_S, f"each node is asked\n{up.output}")
        assert sorted(up.pids()) == ["monitor", "n1", "n2"]
        up.process.send_signal(signal.SIGTERM)
        assert up.process.wait(STOP_S) == 0, up.output
        assert up.pids() == {}
        assert "monitor |" not in up.output, "it had nothing to complain of"


def test_where_it_is_not_installed_one_is_told_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, exit 1, nothing started."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    done = tidegate("up", "--port", "0", "--monitor", "--data", tmp_path / "data", folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "Prometheus is not installed; nothing was started. On Debian and Ubuntu: apt-get install prometheus"
    ]


def test_where_the_rules_are_not_beside_it_one_is_told_what_it_wants(tmp_path: Path) -> None:
    """As it is installed from a wheel, without the repository around it: one line, exit 1, nothing started."""
    for package in ("node", "broker"):
        shutil.copytree(ROOT / package, tmp_path / "site" / package, ignore=shutil.ignore_patterns("__pycache__"))
    settings = environment() | {"PYTHONPATH": str(tmp_path / "site")}
    flags = command("up", "--port", "0", "--monitor", "--data", tmp_path / "data")
    done = subprocess.run(flags, cwd=tmp_path, env=settings, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"there are no rules in {tmp_path / 'site' / 'monitoring' / 'prometheus' / 'rules'}; nothing was started."
        " --monitor wants a clone of the repository, installed from there with pip install --editable\n"
    )
