"""deploy/make_secrets.py: each secret once, for its reader alone; what follows from one fits it, at each run."""

import base64
import hashlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from node.config import load
from tests.support.nodes import ROOT

SCRIPT = ROOT / "deploy" / "make_secrets.py"
TEMPLATE = ROOT / "deploy" / "rabbitmq" / "definitions.json"
MADE = {"node/jwt-secret", "node/log", "rabbitmq/.erlang.cookie", "rabbitmq/definitions.json", "grafana/admin-password"}
KEPT = MADE - {"rabbitmq/definitions.json"}  # which has a salt of its own at each run


def make(folder: Path, *flags: str, brokers: str = "r1,r2:5673") -> dict[str, str]:
    """Run it; returns what is in each file."""
    command = [sys.executable, str(SCRIPT), str(folder), "--definitions", str(TEMPLATE), "--brokers", brokers, *flags]
    subprocess.run(command, check=True, timeout=30, capture_output=True)
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def opens(made: dict[str, str]) -> bool:
    """Whether the password in the nodes' URL is the one that the brokers know by its hash."""
    password = (urlsplit(made["node/log"]).password or "").encode()
    (user,) = json.loads(made["rabbitmq/definitions.json"])["users"]
    kept = base64.b64decode(user["password_hash"])
    return hashlib.sha256(kept[:4] + password).digest() == kept[4:]


def test_everything_is_made_once(tmp_path: Path) -> None:
    """All files, each for its owner to read and for nobody to write; a second run changes none that is a secret of its own."""
    first = make(tmp_path)
    assert set(first) == MADE
    for name in MADE:
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o400
    again = make(tmp_path)
    assert {name: again[name] for name in KEPT} == {name: first[name] for name in KEPT}
    assert opens(first)
    assert opens(again)


def test_no_two_are_alike(tmp_path: Path) -> None:
    """Another folder has other secrets, all of them."""
    one, other = make(tmp_path / "one"), make(tmp_path / "other")
    assert all(one[name] != other[name] for name in MADE)


def test_brokers_may_change(tmp_path: Path) -> None:
    """With other brokers the URL names them, and the password stays."""
    before, after = make(tmp_path), make(tmp_path, brokers="elsewhere")
    assert urlsplit(after["node/log"]).password == urlsplit(before["node/log"]).password
    assert urlsplit(after["node/log"]).hostname == "elsewhere"


@pytest.mark.parametrize("lost", sorted(MADE))
def test_what_is_lost_is_made_anew(tmp_path: Path, lost: str) -> None:
    """Without one of the files the rest is kept, and the nodes' password opens the brokers again."""
    before = make(tmp_path)
    (tmp_path / lost).unlink()
    after = make(tmp_path)
    assert set(after) == MADE
    assert opens(after)
    assert {name for name in KEPT if after[name] == before[name]} == KEPT - {lost}


def test_an_interrupted_run_is_no_harm(tmp_path: Path) -> None:
    """What a run that was killed has left half written is not taken for a secret, and does not stop the next one."""
    (tmp_path / "node").mkdir()
    (tmp_path / "node" / "jwt-secret.new").write_text("half")
    made = make(tmp_path)
    assert set(made) == MADE
    assert "half" not in made["node/jwt-secret"]


def test_owners(tmp_path: Path) -> None:
    """A folder's files go to the user that was named for it. Where this may not be, it says which and exits 1."""
    make(tmp_path, f"--owner=node={os.getuid()}")
    assert (tmp_path / "node" / "log").stat().st_uid == os.getuid()


def test_a_node_takes_them(tmp_path: Path) -> None:
    """The settings of a node load from the files."""
    make(tmp_path)
    files = {"TIDEGATE_JWT_SECRET_FILE": tmp_path / "node" / "jwt-secret", "TIDEGATE_LOG_FILE": tmp_path / "node" / "log"}
    settings = load({}, {name: str(path) for name, path in files.items()}, serving=True)
    assert str(settings.log) == "amqp://r1,r2:5673/tidegate"
    assert settings.jwt_secret


def test_the_template_opens_nothing() -> None:
    """What is under git lets nobody in."""
    assert [user["password_hash"] for user in json.loads(TEMPLATE.read_text())["users"]] == [""]


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    """A folder that is a file: one line and exit 1."""
    (tmp_path / "node").write_text("")
    command = [sys.executable, str(SCRIPT), str(tmp_path), "--definitions", str(TEMPLATE), "--brokers", "r1"]
    done = subprocess.run(command, timeout=30, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
