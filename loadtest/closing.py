"""The end of a storm: everybody comes to rest, every history is handed over, the checker judges.

One process does it by itself; with workers the master asks and they answer, in messages of Locust. First nobody begins anything more
and each worker tells how far its rooms got; only then, with the furthest of all, everybody is waited for.
"""

import time
from collections.abc import Callable
from typing import Any

import gevent
import msgspec
from locust.env import Environment
from locust.rpc.protocol import Message
from locust.runners import MasterRunner, WorkerRunner

from loadtest.checker import Verdict, check
from loadtest.journal import Names
from loadtest.storm import Handover, Leftover, Storm

SETTLE, LEVEL, ENDS, HISTORIES = "tidegate-settle", "tidegate-level", "tidegate-ends", "tidegate-histories"
MOST_FAULTS = 20  # that are told one by one
_LOOK_S = 0.05
_GRACE_S = 10.0  # for a message to arrive, over what is waited for


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a storm ended."""

    verdict: Verdict
    leftover: Leftover
    late_ms: int  # the longest that a process of the load test itself kept a packet waiting
    missing: int = 0  # workers that did not hand over their histories

    @property
    def ok(self) -> bool:
        """Clean, of all histories, and of a storm in which something happened."""
        return self.verdict.ok and not self.leftover and not self.missing and self.verdict.seen > 0

    def lines(self) -> list[str]:
        """What there is to tell of it."""
        lines = [f"verdict: {'clean' if self.ok else 'NOT CLEAN'}: {self.verdict}"]
        lines += [
            f"  {fault.kind}: {fault.client} in {fault.room} at {fault.seq} {fault.event}"
            for fault in self.verdict.faults[:MOST_FAULTS]
        ]
        if len(self.verdict.faults) > MOST_FAULTS:
            lines.append(f"  and {len(self.verdict.faults) - MOST_FAULTS} more")
        if self.leftover:
            lines.append(f"  at the end: {self.leftover}")
        if self.missing:
            lines.append(f"  {self.missing} workers did not hand over what their users saw")
        if not self.verdict.seen:
            lines.append("  nobody saw anything")
        return [*lines, f"the load test itself kept packets waiting for {self.late_ms} ms at most"]


def judged(handovers: list[Handover], *, tolerance_ms: int, missing: int) -> Outcome:
    """The outcome of a storm from what all its processes handed over."""
    histories = []
    for handover in handovers:
        names = Names(handover.names)
        histories += [pages.history(names) for pages in handover.pages]
    return Outcome(
        verdict=check(histories, tolerance_ms=tolerance_ms),
        leftover=sum((handover.leftover for handover in handovers), Leftover()),
        late_ms=max((handover.late_ms for handover in handovers), default=0),
        missing=missing,
    )


class Closing:
    """Both sides of it for the runner of one process. `storm` gives the one that runs here."""

    def __init__(self, environment: Environment, storm: Callable[[], Storm]) -> None:
        assert environment.runner is not None
        self._runner, self._storm = environment.runner, storm
        self._limit_s = 0.0
        self._ends: list[dict[str, int]] = []
        self._handovers: list[Handover] = []
        if not isinstance(self._runner, MasterRunner):
            self._runner.register_message(SETTLE, self._settle, concurrent=True)
            self._runner.register_message(LEVEL, self._level, concurrent=True)
        if not isinstance(self._runner, WorkerRunner):
            self._runner.register_message(ENDS, self._told_ends)
            self._runner.register_message(HISTORIES, self._told_histories)

    # Whoever asks

    def close(self, *, limit_s: float, tolerance_ms: int) -> Outcome:
        """Bring the storm to rest, each step within `limit_s`, and judge it."""
        runner = self._runner
        workers = runner.worker_count if isinstance(runner, MasterRunner) else 1
        self._ends.clear()
        self._handovers.clear()
        runner.send_message(SETTLE, {"limit_s": limit_s})
        self._wait(self._ends, workers, limit_s)
        ends: dict[str, int] = {}
        for told in self._ends:
            ends |= {room: max(seq, ends.get(room, 0)) for room, seq in told.items()}
        runner.send_message(LEVEL, {"limit_s": limit_s, "ends": ends})
        self._wait(self._handovers, workers, limit_s)
        return judged(self._handovers, tolerance_ms=tolerance_ms, missing=workers - len(self._handovers))

    def _wait(self, told: list[Any], count: int, limit_s: float) -> None:
        limit = time.monotonic() + limit_s + _GRACE_S
        while len(told) < count and time.monotonic() < limit:
            gevent.sleep(_LOOK_S)

    def _told_ends(self, msg: Message, **_: Any) -> None:
        self._ends.append(msg.data)

    def _told_histories(self, msg: Message, **_: Any) -> None:
        self._handovers.append(msgspec.msgpack.decode(msg.data["packed"], type=Handover))

    # Whoever has the users

    def _settle(self, msg: Message, **_: Any) -> None:
        self._runner.send_message(ENDS, self._storm().settle(msg.data["limit_s"]))

    def _level(self, msg: Message, **_: Any) -> None:
        storm = self._storm()
        storm.level(msg.data["ends"], msg.data["limit_s"])
        self._runner.send_message(HISTORIES, {"packed": msgspec.msgpack.encode(storm.hand_over())})
