"""What processes of this machine take of it, as the kernel counts it (Linux; elsewhere nothing is known)."""

import os
import time
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float | None:
    """The processor time that a process has used; None where there is none of this number, or nobody knows."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_kib(pid: int) -> int:
    """Its resident memory; 0 where that is not known."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")), 0)


def own_cpu_seconds() -> float:
    """The processor time of this process."""
    times = os.times()
    return times.user + times.system


class Meter:
    """The processor time of several processes, from one look to the next. A process that was started again begins anew."""

    def __init__(self) -> None:
        self._last: dict[int, float] = {}
        self._looked = time.monotonic()
        self.total_s = 0.0

    def look(self, pids: list[int]) -> float:
        """How many cores they have had since the last look: 0 at the first."""
        now, used = time.monotonic(), 0.0
        found = {pid: seconds for pid in pids if (seconds := cpu_seconds(pid)) is not None}
        for pid, seconds in found.items():
            used += seconds - self._last.get(pid, seconds if not self._last else 0.0)
        took, self._last, self._looked = now - self._looked, found, now
        self.total_s += used
        return used / took if took > 0 else 0.0
