"""docker-compose.yml as Compose reads it: anchors merged, variables replaced, the short forms written out."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.support.dockerfile import stages
from tests.support.nodes import ROOT

FILE = ROOT / "docker-compose.yml"
_VARIABLE = re.compile(r"\$\{(?P<name>[A-Z_]+):-(?P<default>[^}]*)\}")
Service = dict[str, Any]


def compose(given: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The file, with what `given` sets and the defaults for the rest."""
    text = FILE.read_text()
    whole = _VARIABLE.sub(lambda found: (given or {}).get(found["name"]) or found["default"], text)
    loaded: dict[str, Any] = yaml.safe_load(whole)
    assert "$" not in whole, "a variable without a default, which `docker compose up` alone could not fill"
    return loaded


def services(given: Mapping[str, str] | None = None) -> dict[str, Service]:
    """Every service by its name."""
    return dict(compose(given)["services"])


def variables() -> set[str]:
    """What may be set from outside."""
    return {found["name"] for found in _VARIABLE.finditer(FILE.read_text())}


def nodes(given: Mapping[str, str] | None = None) -> dict[str, Service]:
    """The services that run a node."""
    return {name: service for name, service in services(given).items() if "TIDEGATE_NODE_ID" in service.get("environment", {})}


def brokers() -> dict[str, Service]:
    """The services that run RabbitMQ."""
    return {name: service for name, service in services().items() if service["image"].startswith("rabbitmq:")}


def seconds(text: str) -> float:
    """`30s` or `1m30s`."""
    assert re.fullmatch(r"(\d+[hms])+", text), text
    return sum(int(number) * {"h": 3600, "m": 60, "s": 1}[unit] for number, unit in re.findall(r"(\d+)([hms])", text))


def mounted(service: Service) -> dict[str, dict[str, Any]]:
    """Its volumes by the path where they are."""
    return {one["target"]: one for one in service.get("volumes", [])}


def node_environment(service: Service, secrets: Path) -> dict[str, str]:
    """What the process of a node has, its secrets' paths being those below `secrets`, which `make_secrets` has filled."""
    whole = {**stages()["node"].environment, **service["environment"]}
    (place,) = [path for path, volume in mounted(service).items() if volume["source"] == "secrets-node"]
    return {name: value.replace(place, str(secrets / "node")) for name, value in whole.items() if name.startswith("TIDEGATE_")}


def make_secrets(folder: Path) -> None:
    """Run what the service `secrets` runs, as it runs it, but for the owners: the files stay ours."""
    service = services()["secrets"]
    files = {one["target"]: compose()["configs"][one["source"]]["file"] for one in service["configs"]}
    script, target = service["entrypoint"][1:]
    assert target == "/secrets"
    assert service["entrypoint"][0] == "python"
    flags = [_local(flag, files) for flag in service["command"]]
    subprocess.run([sys.executable, str(ROOT / files[script]), str(folder), *flags], check=True, timeout=30)


def _local(flag: str, files: Mapping[str, str]) -> str:
    name, _, value = flag.partition("=")
    if name == "--owner":
        return f"{name}={value.partition('=')[0]}={os.getuid()}"
    return f"{name}={ROOT / files[value]}" if value in files else flag
