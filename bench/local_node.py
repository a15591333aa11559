"""One `tidegate node` process for a benchmark: started, timed until it is ready, stopped."""

import os
import re
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parents[1]
SECRET = secrets.token_hex(32)  # of this run's tokens
POLL_S = 0.02
STOP_S = 30.0
_ANNOUNCED = re.compile(rb"listening on (http://\S+)")


class LocalNode:
    """A node on the log of a folder, with its read model in the same folder. As a context manager it ends the process.

    `module` is what `python -m` runs; what it logs goes to our own stderr, or, where it is `quiet`, into the folder.
    """

    module, quiet = "node", False

    def __init__(self, id: str, folder: Path, **settings: str) -> None:
        self.id, self._folder = id, folder
        # compiled modules are kept, as on a machine where the node was installed: else compiling them again is most of a start
        foreign = {name for name in os.environ if name.startswith("TIDEGATE_")} | {"PYTHONDONTWRITEBYTECODE"}
        clean = {name: value for name, value in os.environ.items() if name not in foreign}
        log = f"sqlite:///{folder / 'log.db'}"
        own = {"node_id": id, "port": "0", "log": log, "data": str(folder), "jwt_secret": SECRET, "log_level": "warning"}
        self._environment = clean | {f"TIDEGATE_{name.upper()}": value for name, value in (own | settings).items()}
        self._output, self._journal = folder / f"{id}.out", folder / f"{id}.err" if self.quiet else None
        self._process: subprocess.Popen[bytes] | None = None
        self._began = 0.0

    def __enter__(self) -> Self:
        with self._output.open("wb") as output, (self._journal or Path("/dev/stderr")).open("ab") as journal:
            self._began = time.monotonic()
            command = [sys.executable, "-m", self.module, "node"]
            self._process = subprocess.Popen(command, cwd=ROOT, env=self._environment, stdout=output, stderr=journal)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The running process."""
        assert self._process is not None
        return self._process

    def url(self) -> str | None:
        """Where it listens, once it has said so."""
        found = _ANNOUNCED.search(self._output.read_bytes())
        return found[1].decode() if found else None

    def wait_ready(self, limit_s: float) -> float:
        """Block until `/readyz` says 200; returns the seconds since the process was started."""
        while time.monotonic() < self._began + limit_s:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.id} ended with {self.process.returncode} before it was ready")
            if self._is_ready():
                return time.monotonic() - self._began
            time.sleep(POLL_S)
        raise TimeoutError(f"{self.id} was not ready within {limit_s} s")

    def stop(self) -> float:
        """SIGTERM, and wait for the end; returns the seconds that it took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(STOP_S)
        return time.monotonic() - began

    def memory_mb(self) -> dict[str, float]:
        """Resident memory now and at its highest, in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        kib = {name: int(value) for name, value in re.findall(r"(VmRSS|VmHWM):\s+(\d+) kB", status)}
        return {"memory_mb": round(kib["VmRSS"] / 1000, 1), "memory_peak_mb": round(kib["VmHWM"] / 1000, 1)}

    def cpu_seconds(self) -> float:
        """The processor time that it has used, to the nanosecond, but for that of threads that have ended."""
        threads = Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9

    def _is_ready(self) -> bool:
        url = self.url()
        if url is None:
            return False
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False
