"""Keeping the nodes of a local cluster running: one process each, its lines with its name in front, started again when it dies."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from node.cli import probe

STEADY_S = 10.0  # a node that lived so long did not die of its start
FIRST_PAUSE_S = 0.2
MOST_PAUSE_S = 15.0
GRACE_S = 5.0  # beyond the drain, before a node that does not end is killed
_ASK_EVERY_S = 0.1
_TELL_EVERY_S = 5.0  # what a node waits for that is not ready
_LONGEST_LINE = 65_536
_LISTENING = b"tidegate node "  # the line that a node prints once it has its port


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One node: its name, where it listens, and its whole environment."""

    id: str
    host: str
    port: int
    environment: Mapping[str, str]

    @property
    def url(self) -> str:
        return probe.url(self.host, self.port)


Say = Callable[[str, str], None]  # (who, line); the supervisor itself is ""


class Supervisor:
    """Runs the planned nodes until it is asked to stop. `say` prints a line, `ready` is called once, when all nodes are."""

    def __init__(self, plans: Sequence[Plan], *, drain_s: float, say: Say, ready: Callable[[], None]) -> None:
        self._plans, self._drain_s, self._say, self._tell_ready = plans, drain_s, say, ready
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._not_ready = {plan.id for plan in plans}
        self._was_ready = False
        self._stopping = asyncio.Event()
        self._killing = asyncio.Event()
        self._exit_code = 0

    async def run(self) -> int:
        """Start all nodes and keep them running until `stop`; the exit code, with no process left behind."""
        keeping = [asyncio.create_task(self._keep(plan), name=plan.id) for plan in self._plans]
        ending = asyncio.create_task(self._end_when_asked(), name="ending")
        try:
            await asyncio.gather(*keeping)
        finally:
            self._stopping.set()
            self._killing.set()
            await asyncio.gather(*keeping, ending, return_exceptions=True)
        return self._exit_code

    def drain(self) -> None:
        """Ask the nodes to take their leave. Idempotent."""
        self._stopping.set()

    def stop(self) -> bool:
        """The first time drain the nodes, the second time kill them; whether it was the first."""
        first = not self._stopping.is_set()
        if not first:
            self._killing.set()
        self.drain()
        return first

    # One node

    async def _keep(self, plan: Plan) -> None:
        pause = FIRST_PAUSE_S
        while not self._stopping.is_set():
            began = time.monotonic()
            code = await self._run_once(plan)
            lived = time.monotonic() - began
            if self._stopping.is_set():
                return
            if not self._was_ready and code > 0:
                self._give_up(plan, code)
                return
            pause = FIRST_PAUSE_S if lived > STEADY_S else min(pause * 2, MOST_PAUSE_S)
            self._say("", f"{plan.id} {_ended(code)} after {lived:.1f} s; starting it again in {pause:.1f} s")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)

    def _give_up(self, plan: Plan, code: int) -> None:
        """A node that refuses to start, as it says itself, would do so for ever."""
        self._say("", f"{plan.id} {_ended(code)} instead of starting; nothing is left running")
        self._exit_code = code
        self._stopping.set()

    async def _run_once(self, plan: Plan) -> int:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "node.cli.child", str(os.getpid())),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=dict(plan.environment),
            start_new_session=True,  # the terminal's Ctrl-C is for the supervisor alone
        )
        self._processes[plan.id] = process
        self._say("", f"{plan.id} is process {process.pid}")
        if self._stopping.is_set():
            _signal(process, signal.SIGTERM)
        listening = asyncio.Event()
        watching = asyncio.create_task(self._watch_ready(plan, listening))
        try:
            assert process.stdout is not None
            await self._pass_lines(plan, process.stdout, listening)
            return await process.wait()
        finally:
            _signal(process, signal.SIGKILL)  # only after a fault of our own does it still run
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching

    async def _pass_lines(self, plan: Plan, output: asyncio.StreamReader, listening: asyncio.Event) -> None:
        rest = b""
        while chunk := await output.read(_LONGEST_LINE):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > _LONGEST_LINE:
                lines, rest = [*lines, rest], b""
            for line in lines:
                if line.startswith(_LISTENING):
                    listening.set()
                self._say(plan.id, line.decode(errors="replace"))
        if rest:
            self._say(plan.id, rest.decode(errors="replace"))

    async def _watch_ready(self, plan: Plan, listening: asyncio.Event) -> None:
        """Return when the node is ready; meanwhile tell now and then what it waits for."""
        self._not_ready.add(plan.id)
        await listening.wait()  # asking earlier might take its own port for the asking
        told = time.monotonic()
        while (answer := await probe.get(plan.host, plan.port, "/readyz")) is None or answer.status != 200:
            if time.monotonic() - told > _TELL_EVERY_S:
                told = time.monotonic()
                why = " ".join(answer.body.decode(errors="replace").split())[:300] if answer else "it does not answer yet"
                self._say("", f"{plan.id} is not ready: {why}")
            await asyncio.sleep(_ASK_EVERY_S)
        self._not_ready.discard(plan.id)
        if self._was_ready:
            self._say("", f"{plan.id} is ready again at {plan.url}")
        elif not self._not_ready:
            self._was_ready = True
            self._tell_ready()

    # The end

    async def _end_when_asked(self) -> None:
        """Ask all nodes to stop, and kill those that have not ended in time, or at once at the second asking."""
        await self._stopping.wait()
        for process in self._processes.values():
            _signal(process, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._killing.wait(), self._drain_s + GRACE_S)
        for process in self._processes.values():
            _signal(process, signal.SIGKILL)


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)


def _ended(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
