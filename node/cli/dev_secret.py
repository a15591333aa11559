"""The secret of a local cluster: made once by `tidegate up` in its data folder, for nobody but its owner."""

import os
import secrets
from pathlib import Path


def dev_secret_file(data: Path) -> Path:
    """Where the secret of the cluster in this folder is."""
    return data / "dev-secret"


def make_dev_secret(data: Path) -> Path:
    """The file with the secret, made where it is missing. Raises `OSError`."""
    file = dev_secret_file(data)
    data.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        file.chmod(0o600)
        return file
    with os.fdopen(descriptor, "w") as opened:
        opened.write(secrets.token_urlsafe(48) + "\n")
    return file
