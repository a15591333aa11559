"""Keeping a local cluster running: a process for each node, its lines with its name in front, started again when it dies.

So are the programs beside them, a proxy or a monitor: they come when all nodes are ready for the first time, and go when all are gone.
"""

import asyncio
import contextlib
import math
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from node.cli import probe

STEADY_S = 10.0  # a node that lived so long did not die of its start
FIRST_PAUSE_S = 0.2
MOST_PAUSE_S = 15.0
GRACE_S = 5.0  # beyond the drain, before a node that does not end is killed
_ASK_EVERY_S = 0.1
_FIRST_TOLD_S, _LATER_TOLD_S = (
    5.0,
    60.0,
)  # what a node waits for that is not ready; then after twice the time each time, up to this
_TOLD_FOR_ALL_S = 4.0  # nodes that were started together wait together for the log: one line is for all of them
_LONGEST_LINE = 65_536
_LISTENING = b"tidegate node "  # the line that a node prints once it has its port


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One process: its name, where it listens, and its whole environment. It is a node where no other program is named."""

    id: str
    host: str
    port: int
    environment: Mapping[str, str]
    program: tuple[str, ...] = ()  # with its arguments
    inherits: tuple[int, ...] = ()  # open files of ours, which it has under the same numbers
    ready_path: str = "/readyz"  # answers 200 once it serves

    @property
    def url(self) -> str:
        return probe.url(self.host, self.port)


Say = Callable[[str, str], None]  # (who, line); the supervisor itself is ""
LogAway = Callable[[], Awaitable[str]]


class Supervisor:
    """Runs the planned processes until it is asked to stop. `say` prints a line, `ready` is called once, when all are.

    `log_away` says what keeps every node from opening its log, where that is known; else it is empty.
    """

    def __init__(
        self,
        nodes: Sequence[Plan],
        *,
        beside: Sequence[Plan] = (),
        drain_s: float,
        say: Say,
        log_away: LogAway,
        ready: Callable[[], None],
    ) -> None:
        self._nodes, self._beside, self._drain_s, self._say, self._tell_ready = nodes, beside, drain_s, say, ready
        self._log_away, self._away_told = log_away, -math.inf
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._kept = {plan.id for plan in nodes}
        self._not_ready = {plan.id for plan in (*nodes, *beside)}
        self._was_ready = False
        self._nodes_settled = asyncio.Event()  # all have been ready, or are gone
        self._nodes_gone = asyncio.Event()
        self._stopping = asyncio.Event()
        self._killing = asyncio.Event()
        self._exit_code = 0

    async def run(self) -> int:
        """Start all nodes and keep them running until `stop`; the exit code, with no process left behind."""
        keeping = [asyncio.create_task(self._keep_node(plan), name=plan.id) for plan in self._nodes]
        keeping += [asyncio.create_task(self._keep_beside(plan), name=plan.id) for plan in self._beside]
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

    # One process

    async def _keep_node(self, plan: Plan) -> None:
        try:
            await self._keep(plan, self._stopping)
        finally:
            self._kept.discard(plan.id)
            if not self._kept:
                self._nodes_are_gone()

    async def _keep_beside(self, plan: Plan) -> None:
        await self._nodes_settled.wait()
        await self._keep(plan, self._nodes_gone)

    def _nodes_are_gone(self) -> None:
        """Only now the proxy goes: clients of a node that took its leave earlier were to find the others."""
        self._nodes_gone.set()
        self._nodes_settled.set()
        for plan in self._beside:
            if plan.id in self._processes:
                _signal(
                    self._processes[plan.id], signal.SIGKILL
                )  # a proxy has nothing to put away, and Prometheus has put it away

    async def _keep(self, plan: Plan, ended: asyncio.Event) -> None:
        """Run the process, and again when it dies, until `ended`; whoever sets that has to end the process."""
        pause = FIRST_PAUSE_S
        while not ended.is_set():
            began = time.monotonic()
            code = await self._run_once(plan, ended)
            lived = time.monotonic() - began
            if ended.is_set():
                return
            if not self._was_ready and code > 0:
                self._give_up(plan, code)
                return
            pause = FIRST_PAUSE_S if lived > STEADY_S else min(pause * 2, MOST_PAUSE_S)
            self._say("", f"{plan.id} {_ended(code)} after {lived:.1f} s; starting it again in {pause:.1f} s")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), pause)

    def _give_up(self, plan: Plan, code: int) -> None:
        """A process that refuses to start, as it says itself, would do so for ever."""
        self._say("", f"{plan.id} {_ended(code)} instead of starting; nothing is left running")
        self._exit_code = code
        self._stopping.set()

    async def _run_once(self, plan: Plan, ended: asyncio.Event) -> int:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "node.cli.child", str(os.getpid()), *plan.program),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=dict(plan.environment),
            pass_fds=plan.inherits,
            start_new_session=True,  # the terminal's Ctrl-C is for the supervisor alone
        )
        self._processes[plan.id] = process
        self._say("", f"{plan.id} is process {process.pid}")
        if ended.is_set():
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
        """Return when the process is ready; meanwhile tell now and then what it waits for."""
        self._not_ready.add(plan.id)
        began = told = time.monotonic()
        pause = _FIRST_TOLD_S
        while why := await _not_ready(plan, listening):
            if time.monotonic() - told > pause:
                told, pause = time.monotonic(), min(pause * 2, _LATER_TOLD_S)
                await self._tell_not_ready(plan, why, waited_s=told - began, opened=listening.is_set())
            await asyncio.sleep(_ASK_EVERY_S)
        self._not_ready.discard(plan.id)
        if self._was_ready:
            self._say("", f"{plan.id} is ready again at {plan.url}")
        elif not self._not_ready:
            self._was_ready = True
            self._tell_ready()
        elif self._not_ready.isdisjoint(plan.id for plan in self._nodes):
            self._nodes_settled.set()

    async def _tell_not_ready(self, plan: Plan, why: str, *, waited_s: float, opened: bool) -> None:
        """Where it is known why nobody can open the log, that alone is told, and once for all."""
        away = "" if opened or plan.program else await self._log_away()
        if not away:
            self._say("", f"{plan.id} is not ready after {waited_s:.0f} s: {why}")
        elif time.monotonic() - self._away_told > _TOLD_FOR_ALL_S:
            self._away_told = time.monotonic()
            self._say("", f"{away}; waited for it for {waited_s:.0f} s so far")

    # The end

    async def _end_when_asked(self) -> None:
        """Ask all nodes to stop, and kill those that have not ended in time, or at once at the second asking."""
        await self._stopping.wait()
        self._signal_nodes(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._killing.wait(), self._drain_s + GRACE_S)
        self._signal_nodes(signal.SIGKILL)

    def _signal_nodes(self, number: signal.Signals) -> None:
        for plan in self._nodes:
            if plan.id in self._processes:
                _signal(self._processes[plan.id], number)


async def _not_ready(plan: Plan, listening: asyncio.Event) -> str:
    """What the process waits for before it is ready; empty where it is."""
    if not plan.program and not listening.is_set():  # asking now might take its own port for the asking
        return "it has not opened its log and its read model yet"
    answer = await probe.get(plan.host, plan.port, plan.ready_path)
    if answer is None:
        return "it does not answer yet"
    return "" if answer.status == 200 else " ".join(answer.body.decode(errors="replace").split())[:300]


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
