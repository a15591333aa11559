"""What happens in a storm at its moments: the marks in its report, and the faults. In the process that has the run, not in its workers."""

from collections.abc import Callable

import gevent

from loadtest.clock import wall
from loadtest.faults import FaultFailed, Faults
from loadtest.result import Mark
from loadtest.shapes import Shape
from loadtest.waiting import sleep_until

_REST_S = 2.0  # from one node's return to the next one's leave


class Striker:
    """A greenlet that strikes when it is time. `stop` ends it, wherever it is."""

    def __init__(self, shape: Shape, *, began: float, nodes: int, faults: Faults | None) -> None:
        self.marks: list[Mark] = []
        self.problems: list[str] = []
        self._shape, self._began, self._nodes, self._faults = shape, began, nodes, faults
        self._done = False
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        """It is over; what had not been done by now is a problem of the storm's. Idempotent."""
        if not self._done:
            self._greenlet.kill(block=False)
            self.problems.append(f"the storm was over before {self._shape.scenario.strike} was")
            self._done = True

    def _run(self) -> None:
        try:
            self._strike()
        except FaultFailed as error:
            self.problems.append(str(error))
        self._done = True

    def _strike(self) -> None:
        scenario, strike_s = self._shape.scenario, self._shape.scenario.strike_s
        match scenario.strike:
            case "nothing":
                return
            case "cliff":
                self._at(strike_s, "all tokens end")
            case "waking":
                self._at(self._shape.night_s, "people fall asleep")
                self._at(strike_s, "they wake")
            case "revocation":
                self._at(strike_s, "tokens are withdrawn")
            case "drain":
                self._sleep_until(strike_s)
                for number in range(1, self._nodes + 1):
                    self._do(f"node {number} drains", lambda faults, number=number: faults.drain(number))  # type: ignore[misc]
                    if number < self._nodes:
                        gevent.sleep(_REST_S)
            case "kill":
                self._sleep_until(strike_s)
                self._do(f"node {self._nodes} is killed", lambda faults: faults.kill(self._nodes))
            case "broker":
                self._sleep_until(strike_s)
                self._do("the broker is killed", lambda faults: faults.restart_broker())

    def _do(self, what: str, fault: Callable[[Faults], None]) -> None:
        assert self._faults is not None
        self._mark(what)
        fault(self._faults)
        self._mark("it is back")

    def _at(self, moment_s: float, what: str) -> None:
        self._sleep_until(moment_s)
        self._mark(what)

    def _sleep_until(self, moment_s: float) -> None:
        sleep_until(self._began + moment_s)

    def _mark(self, what: str) -> None:
        self.marks.append(Mark(name=what, at_s=round(wall() - self._began, 2)))
