"""How much memory this process may use."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_UNLIMITED = 1 << 60  # bytes; version 1 of cgroups says no limit by a number of this size


def memory_limit(root: Path = Path("/")) -> int:
    """In bytes: the least of the limits of its control groups, of either version, and the machine's memory."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([machine, *(limit for limit in _limits(root) if limit < _UNLIMITED)])


def _limits(root: Path) -> Iterator[int]:
    for file in _files(root):
        try:
            text = file.read_text().strip()
        except OSError:  # the root group has none, and a container may not see those above its own
            continue
        if text.isdigit():
            yield int(text)


def _files(root: Path) -> Iterator[Path]:
    """Where the limits stand: of the process's group, and of each above it."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        base, name = ("memory", "memory.limit_in_bytes") if controllers else ("", "memory.max")
        for one in (PurePosixPath(group), *PurePosixPath(group).parents):
            yield root / "sys/fs/cgroup" / base / str(one).lstrip("/") / name
