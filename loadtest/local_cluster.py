"""A cluster of the storm's own, on this machine: `tidegate up` as a process, known by its command line and what it prints.

The load test is a stranger to the nodes: it starts the command as anybody would.
"""

import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic

import gevent

from loadtest.interrupts import ctrl_c_behind_it

START_S = 60.0
STOP_S = 30.0
BACK_S = 60.0  # that a node has to be ready again
_LOOK_S = 0.1
_URL = re.compile(r"^    (n\d+)  (http://\S+?)/$", re.MULTILINE)
_PROCESS = re.compile(r"^(n\d+) is process (\d+)$", re.MULTILINE)
_PR_SET_PDEATHSIG = 1


class LocalClusterError(Exception):
    """It cannot be started, or does not do what it is asked to; one line."""


class LocalCluster:
    """Nodes that are started again when they end. `local_cluster` makes it."""

    def __init__(self, process: "subprocess.Popen[bytes]", output: Path) -> None:
        self._process, self._output = process, output
        self.hosts: Sequence[str] = ()

    def wait_ready(self) -> None:
        """Until all nodes serve. Raises `LocalClusterError`."""
        self._until(lambda text: "Ctrl-C stops it" in text, START_S, "the local cluster is up")
        self.hosts = tuple(url for _, url in sorted(_URL.findall(self._text()), key=lambda found: int(found[0][1:])))

    def pids(self) -> dict[str, int]:
        """The process of each node, by its name."""
        return {name: int(pid) for name, pid in _PROCESS.findall(self._text())}

    def end_node(self, number: int, how: signal.Signals) -> None:
        """Send the `number`th node (from 1) a signal after which it ends, and wait until it is ready again. Raises `LocalClusterError`."""
        name, again = f"n{number}", f"n{number} is ready again at "
        before = self._text().count(again)
        try:
            os.kill(self.pids()[name], how)
        except (KeyError, ProcessLookupError):
            raise LocalClusterError(f"{name} does not run") from None
        self._until(lambda text: text.count(again) > before, BACK_S, f"{name} is ready again")

    def stop(self) -> None:
        """End it; idempotent."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _text(self) -> str:
        return self._output.read_text(errors="replace")

    def _until(self, seen: Callable[[str], bool], limit_s: float, what: str) -> None:
        limit = monotonic() + limit_s
        while not seen(self._text()):
            if self._process.poll() is not None:
                raise LocalClusterError(f"`tidegate up` ended with {self._process.returncode}:\n{self._text()[-2_000:]}")
            if monotonic() > limit:
                raise LocalClusterError(f"{what}: not within {limit_s:g} s:\n{self._text()[-2_000:]}")
            gevent.sleep(_LOOK_S)


@contextmanager
def local_cluster(nodes: int, secret: str) -> Iterator[LocalCluster]:
    """So many nodes on free ports, with this HMAC key; settings are those of `TIDEGATE_*`. Raises `LocalClusterError`."""
    command = [_program(), "up", "--nodes", str(nodes), "--port", "0"]
    with tempfile.TemporaryDirectory(prefix="tidegate-storm-") as folder:
        output = Path(folder) / "up.log"
        with ExitStack() as stack:
            with output.open("wb") as stream, ctrl_c_behind_it():
                process = subprocess.Popen(  # noqa: S603 - a command of ours
                    [*command, "--data", str(Path(folder) / "data")],
                    env=_environment(secret),
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # the terminal's Ctrl-C is for the storm, which ends the cluster behind its verdict
                    preexec_fn=_end_with_us if sys.platform == "linux" else None,  # noqa: PLW1509 - gevent's process has no other threads
                )
                cluster = LocalCluster(process, output)
                stack.callback(cluster.stop)
            cluster.wait_ready()
            yield cluster


def _program() -> str:
    beside = Path(sys.executable).with_name("tidegate")
    found = str(beside) if beside.exists() else shutil.which("tidegate")
    if found is None:
        raise LocalClusterError("a local cluster needs the command `tidegate`, which is not installed here")
    return found


def _environment(secret: str) -> Mapping[str, str]:
    """Ours, without what is for the storm alone."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LOCUST_", "TIDEGATE_STORM_"))}
    kept.setdefault("TIDEGATE_LOG_LEVEL", "warning")
    kept.pop("TIDEGATE_JWT_SECRET_FILE", None)
    return kept | {"TIDEGATE_JWT_SECRET": secret}


def _end_with_us() -> None:
    """Have the kernel ask the cluster to stop when this process is gone, however that ended."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
