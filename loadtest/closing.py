"""The end of a storm: everybody comes to rest, every history is handed over, the checker judges.

One process does it by itself; with workers the master asks and they answer, in messages of Locust. First nobody begins anything more
and each worker tells how far its rooms got; only then, with the furthest of all, everybody is waited for.
"""

import time
from collections.abc import Callable, Sequence, Sized
from typing import Any

import gevent
import msgspec
from locust.env import Environment
from locust.rpc.protocol import Message
from locust.runners import MasterRunner, WorkerRunner

from loadtest.outcome import Handover
from loadtest.storm import Storm

SETTLE, LEVEL, ENDS, HISTORIES = "tidegate-settle", "tidegate-level", "tidegate-ends", "tidegate-histories"
_LOOK_S = 0.05
GRACE_S = 10.0  # for a message to arrive, over what is waited for


class Closing:
    """Both sides of it for the runner of one process. `storm` gives the one that runs here, `hand_over` what there is of it."""

    def __init__(self, environment: Environment, storm: Callable[[], Storm], hand_over: Callable[[], Handover]) -> None:
        assert environment.runner is not None
        self._runner, self._storm, self._hand_over = environment.runner, storm, hand_over
        self._ends: dict[str, dict[str, int]] = {}  # by who told them: who is asked again counts once
        self._handovers: dict[str, Handover] = {}
        self.asked = False  # by the master, to come to rest: its word that the storm is over
        if not isinstance(self._runner, MasterRunner):
            self._runner.register_message(SETTLE, self._settle, concurrent=True)
            self._runner.register_message(LEVEL, self._level, concurrent=True)
        if not isinstance(self._runner, WorkerRunner):
            self._runner.register_message(ENDS, self._told_ends)
            self._runner.register_message(HISTORIES, self._told_histories)

    # Whoever asks

    def close(self, *, processes: int, limit_s: float) -> tuple[Sequence[Handover], int]:
        """Bring the storm to rest, each step within `limit_s`; what was handed over, and how many did not of the `processes` that began.

        Locust counts only the workers that are still there: one that has died is owed an answer all the same.
        """
        runner = self._runner
        workers = runner.worker_count if isinstance(runner, MasterRunner) else 1
        self._ends.clear()
        self._handovers.clear()
        runner.send_message(SETTLE, {"limit_s": limit_s})
        self._wait(self._ends, workers, limit_s)
        ends: dict[str, int] = {}
        for told in self._ends.values():
            ends |= {room: max(seq, ends.get(room, 0)) for room, seq in told.items()}
        runner.send_message(LEVEL, {"limit_s": limit_s, "ends": ends})
        self._wait(self._handovers, workers, limit_s)
        return list(self._handovers.values()), max(processes, workers) - len(self._handovers)

    def _wait(self, told: Sized, count: int, limit_s: float) -> None:
        limit = time.monotonic() + limit_s + GRACE_S
        while len(told) < count and time.monotonic() < limit:
            gevent.sleep(_LOOK_S)

    def _told_ends(self, msg: Message, **_: Any) -> None:
        self._ends[msg.node_id] = msg.data

    def _told_histories(self, msg: Message, **_: Any) -> None:
        self._handovers[msg.node_id] = msgspec.msgpack.decode(msg.data["packed"], type=Handover)

    # Whoever has the users

    def _settle(self, msg: Message, **_: Any) -> None:
        self.asked = True
        self._runner.send_message(ENDS, self._storm().settle(msg.data["limit_s"]))

    def _level(self, msg: Message, **_: Any) -> None:
        self._storm().level(msg.data["ends"], msg.data["limit_s"])
        self._runner.send_message(HISTORIES, {"packed": msgspec.msgpack.encode(self._hand_over())})
