"""Makes the secrets of a cluster, each in a file of its own, in a folder for each of those who read them; stdlib only.

    node/jwt-secret           what tokens are signed with                  TIDEGATE_JWT_SECRET_FILE
    node/log                  the brokers' URL, with the password          TIDEGATE_LOG_FILE
    rabbitmq/.erlang.cookie   what brokers know each other by              in the HOME of the broker
    rabbitmq/definitions.json the brokers' definitions, with its hash      load_definitions
    grafana/admin-password    of Grafana's `admin`                         GF_SECURITY_ADMIN_PASSWORD__FILE

What is there is kept, so it may run at each start: the password is the one in `node/log`, and only what follows from it (the URL,
for other brokers; the definitions, for a new template) is written again. Nobody but its owner may read a file.
"""

import argparse
import base64
import hashlib
import json
import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

USER = VHOST = "tidegate"
_SALT_BYTES = 4  # as RabbitMQ has it


def make(folder: Path, template: Mapping[str, Any], brokers: str, owners: Mapping[str, int]) -> None:
    """Make what is missing in `folder`. `brokers` is `host,host,…`, `owners` the user id by the name of a folder. Raises `OSError`."""
    log = folder / "node" / "log"
    password = (_password(log.read_text()) if log.exists() else None) or secrets.token_urlsafe(32)
    _keep(folder / "node" / "jwt-secret", secrets.token_urlsafe(48), owners)
    _write(log, f"amqp://{USER}:{password}@{brokers}/{VHOST}", owners)
    _keep(folder / "rabbitmq" / ".erlang.cookie", secrets.token_hex(32), owners)
    _write(folder / "rabbitmq" / "definitions.json", json.dumps(with_password(template, password), indent=2), owners)
    _keep(folder / "grafana" / "admin-password", secrets.token_urlsafe(24), owners)


def with_password(template: Mapping[str, Any], password: str) -> dict[str, Any]:
    """The definitions in which Tidegate's user has this password; in the template nobody can sign in."""
    users = [user | {"password_hash": _hash(password)} if user["name"] == USER else user for user in template["users"]]
    return dict(template) | {"users": users}


def _hash(password: str) -> str:
    """As RabbitMQ keeps it: base64 of the salt and of SHA-256 of salt and password."""
    salt = secrets.token_bytes(_SALT_BYTES)
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def _password(url: str) -> str | None:
    login = urlsplit(url.strip()).netloc.rpartition("@")[0]
    return login.partition(":")[2] or None


def _keep(path: Path, value: str, owners: Mapping[str, int]) -> None:
    if not path.exists():
        _write(path, value, owners)


def _write(path: Path, value: str, owners: Mapping[str, int]) -> None:
    """The whole value or none of it: who reads meanwhile has the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
    with os.fdopen(descriptor, "w") as file:
        file.write(value)
        owner = owners.get(path.parent.name)
        if owner is not None:
            os.fchown(descriptor, owner, owner)
    new.replace(path)


def _owner(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    return name, int(number)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Make the secrets of a cluster, each in a file of its own; what is there is kept."
    )
    parser.add_argument("folder", type=Path, help="where they go, in the folders node, rabbitmq and grafana")
    parser.add_argument("--definitions", type=Path, required=True, help="the template of the brokers' definitions")
    parser.add_argument("--brokers", required=True, metavar="HOST,HOST", help="where the brokers are, as in TIDEGATE_LOG")
    parser.add_argument(
        "--owner", type=_owner, action="append", default=[], metavar="FOLDER=UID", help="who may read a folder's files"
    )
    given = parser.parse_args()
    try:
        make(given.folder, json.loads(given.definitions.read_text()), given.brokers, dict(given.owner))
    except OSError as error:
        sys.stderr.write(f"{error.filename}: {error.strerror}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
