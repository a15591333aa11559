"""One `tidegate up` as a process, and all that it starts."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.commands import command, environment
from tests.support.wait import block_until

START_S = 40.0  # three nodes on a machine that is busy with other tests
STOP_S = 20.0
_PAGE = re.compile(r"^ +(n\d+|haproxy|monitor) +(http://127\.0\.0\.1:\d+)/$", re.MULTILINE)


class Up:
    """One `tidegate up` with its output in a file."""

    def __init__(self, folder: Path, *arguments: object, piped: bool = False, **settings: str) -> None:
        self.folder, self._out = folder, folder / "up.out"
        everything = command("up", "--port", "0", *arguments)
        with self._out.open("wb") as out:
            stdout = subprocess.PIPE if piped else out
            self.process = subprocess.Popen(everything, cwd=folder, env=environment(**settings), stdout=stdout, stderr=out)

    @property
    def output(self) -> str:
        return self._out.read_text()

    @property
    def urls(self) -> dict[str, str]:
        """The URLs that it has printed, by node; those of the proxy and of Prometheus are under `haproxy` and `monitor`."""
        return dict(_PAGE.findall(self.output))

    def wait_ready(self, urls: int) -> None:
        """Block until it has printed so many."""
        block_until(lambda: len(self.urls) == urls or self.process.poll() is not None, START_S, f"ready\n{self.output}")
        assert len(self.urls) == urls, self.output

    def pids(self) -> dict[str, int]:
        """The processes of its nodes, found by their environment, and of its proxy and its monitor, found by their configurations."""
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                variables = dict(v.split("=", 1) for v in (process / "environ").read_text().split("\0") if "=" in v)
                words = (process / "cmdline").read_text().split("\0")
            except (OSError, UnicodeDecodeError):
                continue
            if variables.get("TIDEGATE_DATA", "").startswith(str(self.folder)) and "TIDEGATE_NODE_ID" in variables:
                found[variables["TIDEGATE_NODE_ID"]] = int(process.name)
            if any(word.startswith(str(self.folder)) and word.endswith("/haproxy.cfg") for word in words):
                found["haproxy"] = int(process.name)
            if any(word.startswith(f"--config.file={self.folder}") and word.endswith("/prometheus.yml") for word in words):
                found["monitor"] = int(process.name)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pids = self.pids()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(STOP_S)
        for pid in pids.values():
            with gone_is_fine():
                os.kill(pid, signal.SIGKILL)


@contextmanager
def gone_is_fine() -> Iterator[None]:
    """A process that has ended already is no fault."""
    try:
        yield
    except ProcessLookupError:
        return
