"""Ctrl-C, where it must not come in the middle of something."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def ctrl_c_behind_it() -> Iterator[None]:
    """A Ctrl-C that comes within the block is heard behind it.

    For whoever forks: Python takes a lock of `logging` before a fork and gives it back behind it, in hooks whose exceptions are dropped.
    A `KeyboardInterrupt` that is raised in them is lost, and the lock is held for good: so is every greenlet that logs.
    """
    heard = False

    def hear(_number: int, _frame: FrameType | None) -> None:
        nonlocal heard
        heard = True

    before = signal.signal(signal.SIGINT, hear)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if heard:
        signal.raise_signal(signal.SIGINT)
