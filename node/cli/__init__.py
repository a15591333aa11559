"""The command `tidegate`: finds the command that is asked for and says in one line each what went wrong."""

import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from node.cli import flags
from node.cli.screen import complain, say
from node.config import ConfigurationError

#: Each is a module of this package with its `COMMAND`; only the one that runs is imported.
NAMES = ("up", "node", "token", "doctor", "tail", "replay", "sessions", "revoke", "suspend", "snapshot", "restore", "storm")
_HELP = ("--help", "-h")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 done, 1 it failed, 2 a bad flag or variable."""
    leave(run(sys.argv[1:] if arguments is None else arguments))


def leave(code: int) -> NoReturn:
    """End this process, which has put everything away, with all that it has written.

    To take the interpreter apart would cost a node 0.2 s of processor time, 20 times as much as its drain: seconds on a busy machine.
    """
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):  # which the interpreter tells in its own way
        sys.exit(code)
    os._exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run the command line; the exit code. What went wrong stands on stderr, one line for each problem."""
    try:
        return _dispatch(arguments or _HELP[:1])
    except ConfigurationError as error:
        for problem in error.problems:
            complain(problem)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read our output has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _dispatch(arguments: Sequence[str]) -> int:
    name = arguments[0]
    if name in _HELP:
        _show_help(NAMES, [])
        return 0
    if name == "--version":
        import importlib.metadata  # noqa: PLC0415  no other command has a use for it

        say(f"tidegate {importlib.metadata.version('tidegate')}")
        return 0
    if name not in NAMES:
        close = difflib.get_close_matches(name, [*NAMES, "--help", "--version"], n=1, cutoff=0.6)
        meant = f"; did you mean {close[0]}?" if close else ""
        raise ConfigurationError([f"{name}: is not a command of `tidegate`, which takes {', '.join(NAMES)}{meant}"])
    if set(_HELP) & set(arguments):
        _show_help([name], [name])
        return 0
    return flags.call(_command(name), name, arguments[1:])


def _command(name: str) -> flags.Command:
    found: flags.Command = importlib.import_module(f"node.cli.{name}").COMMAND
    return found


def _show_help(names: Sequence[str], arguments: Sequence[str]) -> None:
    from node.cli.helping import show_help  # noqa: PLC0415  takes long, and a node has no use for it

    show_help({name: _command(name) for name in names}, arguments)
