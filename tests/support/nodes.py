"""Real node processes for tests: started, asked whether they are ready, killed, stopped, started again."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from tests.support.http import fetch
from tests.support.secrets import SECRETS
from tests.support.tokens import SECRET
from tests.support.wait import Late, block_until, wait_until

ROOT = Path(__file__).parents[2]
_ANNOUNCED = re.compile(r"listening on (http://127\.0\.0\.1:(\d+))")
START_S = 60.0  # until a node serves, on a machine that is busy with other tests
STOP_S = 15.0
_LAST_WORDS = 4_000  # characters of a node's log, where it is to say why


class NodeProcess:
    """One `tidegate node` process on a log that other nodes may share. It keeps its port when it is started again.

    `module` is what `python -m` runs.
    """

    def __init__(self, id: str, folder: Path, settings: Mapping[str, str], module: str = "node") -> None:
        self.id, self.folder = id, folder
        self._settings, self._module = settings, module
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._expected_end = False
        self._starts = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self._port

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def environment(self) -> dict[str, str]:
        """What the process, or another command on the same data, gets."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")}
        own = {
            "node_id": self.id,
            "port": str(self._port),
            "log": f"sqlite:///{self.folder / 'log.db'}",
            "data": str(self.folder),
            "jwt_secret": SECRET,
            "log_format": "json",
        }
        return clean | {f"TIDEGATE_{name.upper()}": value for name, value in (own | dict(self._settings)).items()}

    def start(self) -> None:
        """Start the process; returns at once."""
        assert not self.running
        self._starts += 1
        self._expected_end = False
        command = [sys.executable, "-m", self._module, "node"]
        with self._file("out").open("wb") as out, self._file("err").open("wb") as err:
            self._process = subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=out, stderr=err)

    def wait_listening(self) -> None:
        """Block until it has announced its URL."""
        block_until(self._announced, START_S, f"{self.id} announces itself\n{self.stderr()}")

    def wait_ready(self) -> None:
        """Block until it has announced its URL and `/readyz` says 200."""
        self.wait_listening()
        block_until(self._is_ready, START_S, f"{self.id} is ready\n{self.stderr()}")

    def kill(self) -> None:
        """`kill -9`, and wait until the process is gone."""
        self.signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait(STOP_S)

    def terminate(self) -> None:
        """SIGTERM: the node drains and ends by itself; `wait_ended` waits for it."""
        self.signal(signal.SIGTERM)

    def expect_end(self) -> None:
        """From here on the process may end by itself: someone else asks it to."""
        self._expected_end = True

    def signal(self, number: signal.Signals) -> None:
        """Send a signal after which the process may end."""
        assert self._process is not None
        self.expect_end()
        self._process.send_signal(number)

    def pause(self) -> None:
        """SIGSTOP: its sockets stay open and it does nothing, until `resume`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def wait_ended(self) -> int:
        """Block until the process has ended; returns its exit code."""
        assert self._process is not None
        return self._process.wait(STOP_S)

    def rss_bytes(self) -> int:
        """Resident memory of the process."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024

    def has_loaded(self, library: str) -> bool:
        """Whether the process has a shared library whose path has this in it."""
        return library in Path(f"/proc/{self.pid}/maps").read_text()

    def metrics(self) -> str:
        """What a scraper gets that asks for examples too; nothing where the node does not answer."""
        try:
            headers = {"Accept": "application/openmetrics-text"}
            return fetch(f"{self.url}/metrics", headers=headers, timeout=2).text if self.running and self._port else ""
        except httpx.TransportError:
            return ""

    def stderr(self) -> str:
        """What all its processes have logged."""
        return self._written("err")

    def stdout(self) -> str:
        """What all its processes have printed."""
        return self._written("out")

    def not_ready(self) -> dict[str, str] | None:
        """What `/readyz` says to be wrong: nothing where all is well, None where it does not answer."""
        try:
            answer = fetch(f"{self.url}/readyz", timeout=2)
        except httpx.TransportError:
            return None
        reasons: dict[str, str] = answer.json().get("not_ready", {})
        return reasons

    def tidegate(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run another command with the settings of this node."""
        command = [sys.executable, "-m", "node", *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=START_S, check=False
        )

    def faults(self) -> list[str]:
        """What no node may do: end by itself, log an exception that nobody handled, or write anything secret anywhere."""
        found = [f"{self.id} ended by itself:\n{self.stderr()[-4_000:]}"] if not self.running and not self._expected_end else []
        logged = self.stderr()
        if "Traceback (most recent call last)" in logged:
            found.append(f"{self.id} logged an exception:\n{logged[-4_000:]}")
        for where, text in (("stderr", logged), ("stdout", self._written("out")), ("/metrics", self.metrics())):
            found += [f"{self.id} has written {leak} to {where}" for leak in SECRETS.found_in(text)]
        return found

    def close(self) -> None:
        """End the process, whatever it does. Idempotent."""
        if self.running:
            self.kill()

    def _written(self, kind: str) -> str:
        return "".join(path.read_text(errors="replace") for path in sorted(self.folder.glob(f"{self.id}.*.{kind}")))

    def _file(self, kind: str) -> Path:
        return self.folder / f"{self.id}.{self._starts}.{kind}"

    def _announced(self) -> bool:
        if not self.running:
            raise AssertionError(f"{self.id} ended while it started:\n{self.stderr()}")
        found = _ANNOUNCED.search(self._file("out").read_text())
        if found is not None:
            self._port = int(found[2])
        return found is not None

    def _is_ready(self) -> bool:
        try:
            return fetch(f"{self.url}/readyz", timeout=2).status_code == 200
        except httpx.TransportError:
            return False


class Cluster:
    """Nodes `n1`, `n2`, … on one log in a folder; settings are those of `node.config`, without their prefix, `own` those of one node.

    As a context manager it ends its processes, and then fails if one ended by itself or logged an exception.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, str] | None = None,
        *,
        count: int = 3,
        own: Mapping[str, Mapping[str, str]] | None = None,
        module: str = "node",
    ) -> None:
        self.folder = folder
        ids = [f"n{number}" for number in range(1, count + 1)]
        self.nodes = [NodeProcess(name, folder, dict(settings or {}) | dict((own or {}).get(name, {})), module) for name in ids]

    def __iter__(self) -> Iterator[NodeProcess]:
        return iter(self.nodes)

    def __getitem__(self, place: int) -> NodeProcess:
        return self.nodes[place]

    @property
    def urls(self) -> list[str]:
        return [node.url for node in self.nodes]

    def start(self, nodes: Sequence[NodeProcess] | None = None) -> None:
        """Start these nodes (all) at once and wait until each is ready."""
        for node in nodes if nodes is not None else self.nodes:
            node.start()
        for node in nodes if nodes is not None else self.nodes:
            node.wait_ready()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._close()
            raise
        return self

    async def wait_whole(self, limit_s: float) -> None:
        """Return once every node says that nothing is wrong. Raises `Late` with what each says, and what it has logged last."""
        try:
            await wait_until(lambda: all(node.not_ready() == {} for node in self), limit_s, "the cluster is whole")
        except Late as late:
            said = "\n".join(f"{node.id}: {node.not_ready()}\n{node.stderr()[-_LAST_WORDS:]}" for node in self)
            raise Late(f"{late}\n{said}") from None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        faults = [fault for node in self.nodes for fault in node.faults()]
        self._close()
        assert not faults, "\n".join(faults)

    def _close(self) -> None:
        for node in self.nodes:
            node.close()
