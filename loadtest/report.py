"""x."""

from pathlib import Path

import msgspec

from loadtest.result import Result


def write(result: Result, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".json").write_bytes(msgspec.json.format(msgspec.json.encode(result)))
