"""What a storm says on its standard output."""

import os
import sys


def say(text: str) -> None:
    """A line or several. Where nobody reads any more (`| head -1`), it is dropped, with all that comes behind: the storm goes on, and its
    exit code and its report tell the rest.
    """
    try:
        print(text, flush=True)  # noqa: T201 - for whoever gave the command
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # what is left in Python's buffer would fail once more at the end
        os.close(nowhere)
