"""The systemd unit: known directives, credentials for secrets, time to drain, and a node that starts with what it is given."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from node.config import load
from tests.support.compose import make_secrets
from tests.support.nodes import ROOT

UNIT = ROOT / "deploy" / "systemd" / "tidegate@.service"
DRAIN_BEHIND_S = 4  # docs/operations.md: a drain takes this much longer than TIDEGATE_DRAIN_SECONDS
BAD_CONFIGURATION = 2  # docs/operations.md: the exit code for a bad flag or variable
INSTANCE = "n1"
#: As systemd.unit(5), systemd.service(5), systemd.exec(5), systemd.kill(5) and systemd.resource-control(5) have them.
KNOWN = {
    "Unit": {"Description", "Wants", "After"},
    "Install": {"WantedBy"},
    "Service": {
        *("Type", "ExecStart", "Restart", "RestartSec", "RestartPreventExitStatus", "TimeoutStartSec", "TimeoutStopSec"),
        *("EnvironmentFile", "Environment", "LoadCredential", "WorkingDirectory", "UMask", "LimitNOFILE"),
        *("KillSignal", "KillMode", "MemoryMax", "TasksMax", "DevicePolicy"),
        *("DynamicUser", "StateDirectory", "StateDirectoryMode", "CapabilityBoundingSet", "AmbientCapabilities"),
        *("NoNewPrivileges", "LockPersonality", "PrivateDevices", "PrivateIPC", "PrivateTmp", "PrivateUsers", "ProcSubset"),
        *("ProtectClock", "ProtectControlGroups", "ProtectHome", "ProtectHostname", "ProtectKernelLogs", "ProtectKernelModules"),
        *("ProtectKernelTunables", "ProtectProc", "ProtectSystem", "RemoveIPC", "RestrictAddressFamilies", "RestrictNamespaces"),
        *("RestrictRealtime", "RestrictSUIDSGID", "SystemCallArchitectures", "SystemCallFilter", "SystemCallErrorNumber"),
    },
}


def directives() -> dict[str, dict[str, list[str]]]:
    """Every line by its section and key; a key may stand several times."""
    found: dict[str, dict[str, list[str]]] = {}
    section: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        if (head := re.fullmatch(r"\[(\w+)\]", line)) is not None:
            section = found.setdefault(head[1], {})
        else:
            key, equals, value = line.partition("=")
            assert equals, line
            section.setdefault(key, []).append(value)
    return found


SERVICE = directives()["Service"]


def one(key: str) -> str:
    (value,) = SERVICE[key]
    return value


def environment(credentials: Path, state: Path) -> dict[str, str]:
    """The variables of the instance, with systemd's specifiers replaced."""
    meant = {"%i": INSTANCE, "%d": str(credentials), "%S": str(state)}
    pairs = [pair for line in SERVICE["Environment"] for pair in line.split()]
    replaced = [re.sub(r"%.", lambda found: meant[found[0]], pair) for pair in pairs]
    return dict(pair.split("=", 1) for pair in replaced)


def test_systemd_takes_it(tmp_path: Path) -> None:
    """`systemd-analyze verify`, where it is installed, has nothing to say but that the program is not in its place on this machine."""
    verify = shutil.which("systemd-analyze")
    text = UNIT.read_text().replace(one("ExecStart").split()[0], sys.executable)
    (tmp_path / UNIT.name).write_text(text)
    if verify is not None:
        checked = subprocess.run(
            [verify, "verify", str(tmp_path / UNIT.name)], capture_output=True, text=True, timeout=60, check=False
        )
        assert (checked.returncode, checked.stderr) == (0, "")


def test_every_directive_is_one() -> None:
    """The sections and keys are those that systemd 250 knows; each hardening is on, and stands once."""
    assert {section: set(keys) - KNOWN[section] for section, keys in directives().items()} == {
        section: set() for section in KNOWN
    }
    switches = {key for key, values in SERVICE.items() if values == ["yes"]}
    assert switches >= {
        *("DynamicUser", "NoNewPrivileges", "LockPersonality", "PrivateDevices", "PrivateIPC", "PrivateTmp", "PrivateUsers"),
        *("ProtectClock", "ProtectControlGroups", "ProtectHome", "ProtectHostname", "ProtectKernelLogs", "ProtectKernelModules"),
        *("ProtectKernelTunables", "RemoveIPC", "RestrictNamespaces", "RestrictRealtime", "RestrictSUIDSGID"),
    }
    assert one("CapabilityBoundingSet") == ""
    assert one("ProtectSystem") == "strict"
    assert [key for key, values in SERVICE.items() if len(values) > 1] == [
        "EnvironmentFile",
        "Environment",
        "LoadCredential",
        "SystemCallFilter",
    ]


def test_the_node_starts_with_what_it_is_given(tmp_path: Path) -> None:
    """Its name is the instance's, its data in its state folder; its secrets are the credentials, each of which is read."""
    make_secrets(tmp_path)
    given = environment(tmp_path / "node", tmp_path / "state")
    settings = load({}, given, serving=True)
    assert settings.node_id == INSTANCE
    assert settings.data == tmp_path / "state" / one("StateDirectory").replace("%i", INSTANCE)
    assert given["TIDEGATE_DATA"] == one("WorkingDirectory").replace("%S", str(tmp_path / "state")).replace("%i", INSTANCE)
    credentials = dict(line.split(":", 1) for line in SERVICE["LoadCredential"])
    assert set(credentials) == {Path(value).name for name, value in given.items() if name.endswith("_FILE")}
    assert {Path(path).name for path in credentials.values()} == {path.name for path in (tmp_path / "node").iterdir()}


def test_it_may_drain_and_stays_down_when_it_is_wrong() -> None:
    """SIGTERM comes first and SIGKILL behind the longest drain; a node that failed is started again, but not one with a bad setting."""
    settings = load({}, {}, serving=False)
    assert one("KillSignal") == "SIGTERM"
    assert int(one("TimeoutStopSec")) > settings.drain_seconds + DRAIN_BEHIND_S
    assert one("Restart") == "on-failure"
    assert int(one("RestartPreventExitStatus")) == BAD_CONFIGURATION
    assert int(one("LimitNOFILE")) > settings.max_sessions


def test_it_runs_the_command() -> None:
    """What is started is `tidegate node`, from the folder that docs/deployment.md installs it into."""
    program, command = one("ExecStart").split()
    assert (Path(program).name, command) == ("tidegate", "node")
    assert f"venv {Path(program).parents[1]}" in (ROOT / "docs" / "deployment.md").read_text()
