"""The Dockerfile: what it copies is there and sent to the builder; what runs is locked, has no rights, and asks after itself."""

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from node.config import SETTINGS
from tests.support.client import chat_client, error
from tests.support.dockerfile import in_context, stages, tracked
from tests.support.held import log_held
from tests.support.nodes import ROOT, Cluster
from tests.support.tokens import token

STAGES = stages()
RUN = {"node", "load"}  # the stages that are run; the others make something for them


@pytest.mark.parametrize("name", STAGES)
def test_what_is_copied_is_there(name: str) -> None:
    """Each source of a COPY is under git and sent to the builder, or comes from another stage."""
    for copy in STAGES[name].all("COPY"):
        *sources, _ = copy.words
        for source in sources:
            if "from" in copy.flags:
                assert copy.flags["from"] in STAGES
            else:
                assert tracked(ROOT / source), source
                assert in_context(source.rstrip("/")), source
    assert not STAGES[name].all("ADD")


def test_the_builder_is_sent_nothing_else() -> None:
    """Of what a clone has, only what is copied; neither secrets, data, tests nor what make has made."""
    copied = {source for stage in STAGES.values() for copy in stage.all("COPY") if not copy.flags for source in copy.words[:-1]}
    sent = {path for path in tracked() if in_context(path)}
    assert all(any(path == source or path.startswith(f"{source}/") for source in copied) for path in sent)
    assert {path for path in tracked() if path.startswith(("node/", "broker/", "loadtest/"))} <= sent
    for private in (
        ".git/config",
        ".env",
        "secrets/node/log",
        "tidegate-data/log.db",
        ".venv/bin/python",
        "node_modules/htm/x.js",
    ):
        assert not in_context(private), private
    for made in ("node/edge/web/vendor/htm.module.js", "node/__pycache__/app.cpython-313.pyc", "node/edge/__pycache__/http.pyc"):
        assert not in_context(made), made


def test_images_are_pinned() -> None:
    """Each base has the three numbers of its version; the Python that builds is the Python that runs, and one that this project takes."""
    images = {stage.image for stage in STAGES.values()}
    assert len(images) == 2
    (python,) = [image for image in images if image.startswith("python:")]
    (nodejs,) = images - {python}
    assert nodejs.startswith("node:")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    version = python.removeprefix("python:").split("-")[0]
    assert version.count(".") == 2
    assert f"Programming Language :: Python :: {version.rpartition('.')[0]}" in project["classifiers"]
    assert python.removeprefix(f"python:{version}-").startswith("slim-")


@pytest.mark.parametrize("name", sorted(RUN))
def test_what_runs_is_nobody(name: str) -> None:
    """A numeric user that is not root, ended by the signal that drains, started without a shell; nothing is put in behind it."""
    stage = STAGES[name]
    assert stage.last("USER").rest == "10001:10001"
    words = [one.word for one in stage.instructions]
    assert "RUN" not in words[words.index("USER") :]
    assert "COPY" not in words[words.index("USER") :]
    assert stage.last("STOPSIGNAL").rest == "SIGTERM"
    assert stage.last("ENTRYPOINT").exec_form[0] in ("tidegate", "locust")
    assert stage.last("CMD").exec_form
    assert list(STAGES)[-1] == "node"


@pytest.mark.parametrize("name", ["build", "load-build"])
def test_what_is_installed_is_locked(name: str) -> None:
    """Everything comes from a lock, by its hash and without a compiler; but for this package itself, which fetches nothing."""
    installs = [step for run in STAGES[name].all("RUN") for step in run.rest.split("&&") if " install " in step]
    assert installs
    for install in installs:
        locked = "--require-hashes --only-binary=:all: -r requirements/" in install
        own = "--no-deps --no-build-isolation ." in install
        assert locked or own, install


def test_variables_are_settings() -> None:
    """What the image sets for a node are settings, none of them a secret or one that whoever runs it gives by file."""
    known = {setting.variable: setting for setting in SETTINGS.values()}
    for name, value in STAGES["node"].environment.items():
        if name.startswith("TIDEGATE_"):
            known[name].parse(value)
            assert not known[name].secret


def test_the_package_is_whole(tmp_path: Path) -> None:
    """What is built from the files that are sent has the code, the pages and the command."""
    for path in tracked():
        if in_context(path):
            target = tmp_path / "context" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / path).read_bytes())
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--no-build-isolation",
    ]
    subprocess.run([*command, "--wheel-dir", tmp_path, tmp_path / "context"], check=True, timeout=100, capture_output=True)
    (wheel,) = tmp_path.glob("tidegate-*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    ours = {path for path in tracked() if path.startswith(("node/", "broker/"))}
    assert ours <= packed
    assert {"node/edge/web/index.html", "node/edge/web/tidegate.js"} <= ours
    (entry,) = [name for name in packed if name.endswith("entry_points.txt")]
    assert "tidegate = node.cli:main" in zipfile.ZipFile(wheel).read(entry).decode()


def probe(port: int, path: str) -> subprocess.CompletedProcess[str]:
    """What the HEALTHCHECK runs, with this machine's Python, for another path than its own."""
    python, flags, program, own = STAGES["node"].last("HEALTHCHECK").exec_form
    assert (python, own) == ("python", "/healthz")
    (copy,) = [one for one in STAGES["build"].all("COPY") if f"/opt/tidegate/{Path(one.words[0]).name}" == program]
    command = [sys.executable, flags, str(ROOT / copy.words[0]), path]
    return subprocess.run(
        command, env=os.environ | {"TIDEGATE_PORT": str(port)}, capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.anyio
async def test_health_is_what_the_node_says(tmp_path: Path) -> None:
    """The check says yes of a node that serves; alive and not ready, with the reason, of one whose log is away; no of none."""
    with Cluster(tmp_path, count=1) as cluster:
        node, port = cluster[0], cluster[0].address[1]
        assert [probe(port, path).returncode for path in ("/healthz", "/readyz", "/nowhere")] == [0, 0, 1]
        with log_held(tmp_path):
            async with chat_client(node.url, token("writer")) as writer:
                assert error(await writer.ask("room:create", {"room": "lost"}))["code"] == "unavailable"
            assert probe(port, "/healthz").returncode == 0
            away = probe(port, "/readyz")
            assert (away.returncode, "503" in away.stderr, "log away" in away.stderr) == (1, True, True)
        node.kill()
        gone = probe(port, "/healthz")
        assert (gone.returncode, "no answer" in gone.stderr) == (1, True)
