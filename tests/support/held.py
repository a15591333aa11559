"""A log that cannot be written, as its nodes find it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def log_held(folder: Path) -> Iterator[None]:
    """Hold the lock that every append takes, as a process does that hangs in the middle of its commit."""
    lock = os.open(folder / "log.db.lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
