"""The client module's pure parts, by Node's own test runner."""

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.nodejs
@pytest.mark.timeout(60)
@pytest.mark.parametrize("file", sorted(HERE.glob("*.test.mjs")), ids=lambda file: file.name)
def test_client_module(file: Path) -> None:
    """Every test in the file passes."""
    node = shutil.which("node")
    assert node is not None, "Node.js is needed"
    done = subprocess.run([node, "--test", str(file)], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
