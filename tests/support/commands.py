"""Running `tidegate` as its users do: a process of its own, with nothing of this one's settings."""

import contextlib
import os
import pty
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
_LIMIT_S = 60.0


def environment(**settings: str) -> dict[str, str]:
    """This process's environment with `settings` (`jwt_secret="…"`) as the only ones of Tidegate."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")}
    return clean | {"PYTHONPATH": str(ROOT)} | {f"TIDEGATE_{name.upper()}": value for name, value in settings.items()}


def command(*arguments: object) -> list[str]:
    """The command line of `tidegate` with these arguments."""
    return [sys.executable, "-m", "node", *(str(argument) for argument in arguments)]


def tidegate(*arguments: object, folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run `tidegate` in `folder` to its end."""
    return subprocess.run(
        command(*arguments),
        cwd=folder,
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )


def on_a_terminal(*arguments: object, columns: int, folder: Path, **settings: str) -> str:
    """What `tidegate` writes to a terminal of this width, once it has ended well."""
    return screen_of(command(*arguments), columns=columns, folder=folder, **settings)


def screen_of(words: Sequence[str], *, columns: int, folder: Path, **settings: str) -> str:
    """What a command line writes to a terminal of this width, once it has ended well."""
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as screen, os.fdopen(theirs, "wb") as terminal:
        shown = environment(**settings) | {"COLUMNS": str(columns), "TERM": "xterm", "NO_COLOR": "1"}
        process = subprocess.Popen(words, cwd=folder, env=shown, stdout=terminal, stderr=terminal)
        terminal.close()
        written = bytearray()
        with contextlib.suppress(OSError):  # the terminal's end, on Linux
            while chunk := screen.read(65_536):
                written += chunk
        assert process.wait(_LIMIT_S) == 0, written.decode()
    return written.decode()
