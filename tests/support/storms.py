"""The load test as its users run it: a Locust process of its own, since Locust makes a process gevent's."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from loadtest.report import read
from loadtest.result import Result
from tests.support.nodes import ROOT
from tests.support.secrets import SECRETS
from tests.support.tokens import SECRET
from tests.support.wait import block_until

_LIMIT_S = 200.0
_LOCUST = (sys.executable, "-m", "locust", "-f", str(ROOT / "loadtest" / "locustfile.py"))


class Done(NamedTuple):
    """How it went."""

    code: int
    output: str
    log: str
    requests: dict[str, dict[str, Any]]  # Locust's statistics, by the name of the request
    result: Result | None  # what was written down; None where there was no storm

    @property
    def told(self) -> str:
        """Everything that it said, for whoever looks at a failure."""
        return self.output + self.log

    @property
    def verdict(self) -> str:
        """The line that says it; empty where there is none."""
        return next((line for line in self.output.splitlines() if line.startswith("verdict: ")), "")

    def count(self, name: str) -> int:
        """How many requests of this name there were."""
        return int(self.requests[name]["num_requests"]) if name in self.requests else 0

    def faults(self, kind: str) -> int:
        """How many faults of this kind the verdict has."""
        assert self.result is not None, self.told
        return self.result.verdict.counts[kind]


class Storming:
    """A storm under way. `urls` empty: on a local cluster that it starts itself."""

    def __init__(self, urls: Sequence[str], folder: Path, *flags: str, secret: str = SECRET, headless: bool = True) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._output, self._log, self._report = folder / "locust.out", folder / "locust.err", folder / "report"
        self._statistics = folder / "statistics"  # Locust adds the suffix
        command = [*_LOCUST, *(["--headless"] if headless else [])]
        command += ["--json-file", str(self._statistics), "--report", str(self._report), *flags]
        command += ["--host", ",".join(urls)] if urls else []
        command += [f"--master-{name}={value}" for name, value in _own_master().items()] if "--processes" in flags else []
        environment = _environment() | {"TIDEGATE_JWT_SECRET": secret}
        with self._output.open("wb") as out, self._log.open("wb") as err:
            self._process = subprocess.Popen(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err
            )

    def told(self) -> str:
        """What it has printed and logged so far."""
        return self._output.read_text() + self._log.read_text()

    def wait_said(self, text: str) -> None:
        """Until it has printed or logged this."""
        block_until(lambda: text in self.told(), _LIMIT_S, f"the storm says {text!r}")

    def stop(self) -> None:
        """SIGTERM: it comes to rest, and judges."""
        self._process.send_signal(signal.SIGTERM)

    def signal_workers(self, number: signal.Signals, *, most: int) -> None:
        """Send one to so many of its workers."""
        pid = self._process.pid
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[:most]:
            os.kill(int(child), number)

    def close(self) -> None:
        """End it, whatever it does. Idempotent."""
        self._process.kill()
        self._process.wait()

    def done(self) -> Done:
        """Wait for its end."""
        try:
            code = self._process.wait(_LIMIT_S)
        finally:
            self.close()
        statistics, report = self._statistics.with_suffix(".json"), self._report.with_suffix(".json")
        entries = json.loads(statistics.read_text()) if statistics.exists() else []
        result = read(report) if report.exists() else None
        requests = {entry["name"]: entry for entry in entries}
        done = Done(code, self._output.read_text(), self._log.read_text(), requests, result)
        assert SECRETS.found_in(done.told) == []
        return done


def _environment() -> dict[str, str]:
    """This process's, without anybody's flags."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("TIDEGATE_", "LOCUST_"))}
    return clean | {"PYTHONPATH": str(ROOT)}


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def _own_master() -> dict[str, object]:
    """Where workers find their master, and nobody else's."""
    port = free_port()
    return {"bind-host": "127.0.0.1", "bind-port": port, "port": port}


@contextmanager
def workers(count: int, folder: Path) -> Iterator[Sequence[str]]:
    """So many, each started by itself as on a machine of its own: it knows where its master is, and nothing else. Gives the flags of the
    master, which is still to come. They have ended well before the block does.
    """
    port = free_port()
    command = [*_LOCUST, "--worker", "--master-host", "127.0.0.1", "--master-port", str(port)]
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        begun = []
        for number in range(count):
            log = stack.enter_context((folder / f"worker-{number}.log").open("wb"))
            process = subprocess.Popen(command, cwd=folder, env=_environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.kill)
            begun.append(process)
        flags = ("--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", str(port), "--expect-workers", str(count))
        yield flags
        ended = [process.wait(_LIMIT_S) for process in begun]
        assert ended == [0] * count, "".join(log.read_text() for log in folder.glob("worker-*.log"))


def storm(urls: Sequence[str], folder: Path, *flags: str, secret: str = SECRET) -> Done:
    """Run one to its end."""
    return Storming(urls, folder, "--only-summary", *flags, secret=secret).done()
