"""What can be said of this machine's clock from here."""

import ctypes
import errno
import time
from pathlib import Path

import msgspec

from broker.address import SqliteAddress
from node.cli.moments import written
from node.config import Settings

MOST_AHEAD_S = 5.0
_TIMEX_BYTES = 1_024  # of `struct timex`, 208 on Linux: zeros ask for nothing to be changed
_UNSYNCHRONISED = 5  # TIME_ERROR


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """When a file was last changed, by the clock of that time."""

    path: Path
    ahead_s: float  # of the clock now; below 0: it lies in the past


def now() -> str:
    """The time by this machine's clock."""
    return written(int(time.time() * 1000))


def newest_change(settings: Settings) -> Change | None:
    """The last change of the embedded log: a clock that is behind it has been set back."""
    if not isinstance(settings.log, SqliteAddress):
        return None
    path = settings.log.path
    files = [file for file in (path, path.with_name(f"{path.name}-wal")) if file.exists()]
    found = max(((file.stat().st_mtime, file) for file in files), default=None)
    return Change(path=found[1], ahead_s=found[0] - time.time()) if found is not None else None


def synchronised() -> bool | None:
    """Whether the kernel knows of an NTP daemon that keeps the clock; None where it cannot be asked."""
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (OSError, AttributeError):
        return None
    if state < 0:
        return None if ctypes.get_errno() in (errno.ENOSYS, errno.EPERM) else False
    return bool(state != _UNSYNCHRONISED)
