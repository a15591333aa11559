"""What this process takes of its machine, under the names that every Prometheus client gives it."""

import os
import resource
import time
from collections.abc import Iterable
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
_FDS = "/proc/self/fd"


class ProcessReadings:
    """Reads `/proc`; Linux alone has all of it."""

    def __init__(self) -> None:
        self._started = _started_at()

    def __call__(self) -> Iterable[tuple[str, tuple[str, ...], float]]:
        """For `Metrics.watch`."""
        size, resident = map(int, Path("/proc/self/statm").read_text().split()[:2])
        yield "process_cpu_seconds_total", (), time.process_time()
        yield "process_resident_memory_bytes", (), resident * _PAGE
        yield "process_virtual_memory_bytes", (), size * _PAGE
        yield "process_start_time_seconds", (), self._started
        yield "process_open_fds", (), _open_files()
        yield "process_max_fds", (), resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _open_files() -> int:
    """As the folder's size, which Linux says since 6.2; to list 10,000 takes 10 ms."""
    return os.stat(_FDS).st_size or len(os.listdir(_FDS))


def _started_at() -> float:
    """Seconds since the Unix epoch."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    (boot,) = (int(line.split()[1]) for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime"))
    return boot + ticks / os.sysconf("SC_CLK_TCK")
