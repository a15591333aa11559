"""What one Locust process knows of its run: the plan, the storm while it has users, the board and the outcome where it judges."""

import logging
import os
import signal
import time
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any

import gevent
import msgspec
from gevent.lock import RLock
from locust.env import Environment
from locust.rpc.protocol import Message
from locust.runners import MasterRunner, WorkerRunner

from loadtest import clock, people, report
from loadtest.board import Board, Report
from loadtest.clock import wall
from loadtest.closing import GRACE_S, Closing
from loadtest.effect import unspoken, without_effect
from loadtest.faults import Faults, Hook, LocalFaults
from loadtest.local_cluster import LocalCluster
from loadtest.options import Plan, Unfit, plan_of
from loadtest.outcome import Attendance, Cost, Handover, judged
from loadtest.places import Place
from loadtest.processes import own_cpu_seconds, resident_kib
from loadtest.requests import Requests
from loadtest.result import Result, result_of
from loadtest.revoking import Revoking
from loadtest.saying import say
from loadtest.scenarios import ALL_KINDS
from loadtest.shapes import Shape
from loadtest.storm import Person, Storm
from loadtest.striking import Striker
from loadtest.ushers import Ushers

BEGIN, REPORT = "tidegate-begin", "tidegate"
_LOOK_S = 1.0
_PROGRESS_EVERY = 2  # looks
_EARLY_S = 1.0  # before its time, and a storm was ended by hand: it runs for whole seconds, by another timer
_WORD_S = 3.0  # that a master takes to say that the storm is over, once it has heard so itself
_WORD_LOOK_S = 0.05
_log = logging.getLogger("tidegate.storm")


class Run:
    """Of one process; listens to Locust's events from the start on. `local` is the cluster that this process has started, if any."""

    def __init__(self, environment: Environment, local: LocalCluster | None) -> None:
        self._environment, self._local = environment, local
        self.plan: Plan | None = None
        self.board: Board | None = None  # where the run is judged
        self.result: Result | None = None
        self._unwritten: str | None = None  # why there is no report where one was asked for
        self._storm: Storm | None = None
        self._requests: Requests | None = None
        self._revoking: Revoking | None = None
        self._striker: Striker | None = None
        self._ticker: gevent.Greenlet | None = None
        self._before = (0.0, 0)  # processor time and memory, before anybody came
        self._begin: Mapping[str, Any] = {}  # what the master says of it to its workers
        self._once, self._said, self._handed_over = RLock(), False, False
        self._closing = Closing(environment, self.storm, self._hand_over)
        assert environment.runner is not None
        self._ushers = Ushers(environment.runner)
        events = environment.events
        for event, listener in (
            (events.test_start, self._start),
            (events.test_stopping, self._stopping),
            (events.test_stop, self._stop),
            (events.quitting, self._quitting),
            (events.quit, self._quit),
            (events.report_to_master, self._tell_master),
            (events.worker_report, self._told_by_worker),
        ):
            event.add_listener(listener)
        if isinstance(environment.runner, WorkerRunner):
            environment.runner.register_message(BEGIN, self._told_begin)

    @property
    def under_way(self) -> bool:
        """Whether there is a storm in this process."""
        return self._storm is not None

    def storm(self) -> Storm:
        """The storm of this process, of which there is one from the start on."""
        assert self._storm is not None
        return self._storm

    def leave_ctrl_c_to_the_master(self) -> None:
        """A terminal's Ctrl-C comes to the workers of `--processes`, too: what their people saw is still to be handed over."""

        def heard(number: int, frame: FrameType | None) -> None:
            if self._storm is None or self._handed_over:
                signal.default_int_handler(number, frame)

        signal.signal(signal.SIGINT, heard)

    def join(self, kind: str) -> Person:
        """A new user of this process."""
        name, place = self.next_user(kind)
        return self.storm().join(kind, name, place.arrival)

    def next_user(self, kind: str) -> tuple[str, Place]:
        """The name of a new user of this kind, and their place among all of the storm."""
        assert self.plan is not None
        place = self._ushers.take(kind)
        return f"{self.plan.prefix}-{kind.lower()}-{place.number}", place

    @property
    def workers(self) -> int:
        """How many there were at the start; 1 where this process is alone."""
        return int(self._begin.get("workers", 1))

    # The start

    def weigh(self, plan: Plan) -> None:
        """Have Locust make the people of this plan."""
        for kind in self._environment.user_classes:
            if kind.__name__ in ALL_KINDS:
                kind.weight = plan.scenario.people.get(kind.__name__, 0)

    def _told_begin(self, msg: Message, **_: Any) -> None:
        self._begin = msg.data

    def _start(self, **_: Any) -> None:
        """A test begins: the first or, with Locust's page, another."""
        environment, runner = self._environment, self._environment.runner
        options, host = environment.parsed_options, environment.host
        assert options is not None
        clock.begin()
        began = wall()
        if isinstance(runner, WorkerRunner):
            assert self._begin, "a worker that came behind the start"
            began, options = self._begin["began"], Namespace(**self._begin["options"])
            host = options.host
        self.plan = self.board = self._storm = self.result = self._unwritten = None
        self._handed_over = self._closing.asked = False
        self._ushers.begin()
        try:
            self.plan = plan = plan_of(options, host, form=True)
        except Unfit as unfit:  # of a form: a command line was judged before
            _log.error("no storm: %s", unfit)
            return
        self.weigh(plan)
        if isinstance(runner, MasterRunner):
            told = {name: value for name, value in vars(options).items() if isinstance(value, str | int | float | None)}
            told |= {"host": host, "objectives": None, "watch": None}
            self._begin = {"began": began, "options": told, "workers": runner.worker_count}
            runner.send_message(BEGIN, self._begin)
        else:
            self._before = own_cpu_seconds(), resident_kib(os.getpid())
            self._requests = Requests(environment, began)
            self._storm = Storm(plan, observer=self._requests, began=began)
            self._revoking = Revoking(self._storm) if plan.scenario.strike == "revocation" else None
        if not isinstance(runner, WorkerRunner):
            self.board = Board(began)
            self._striker = Striker(Shape(scenario=plan.scenario), began=began, nodes=len(plan.hosts), faults=self._faults(plan))
            self._ticker = gevent.spawn(self._tick, self.board, brief=options.brief)

    def _faults(self, plan: Plan) -> Faults | None:
        if plan.hook is not None:
            return Hook(plan.hook, plan.hosts)
        return None if self._local is None else LocalFaults(self._local)

    # While it runs

    def _tick(self, board: Board, *, brief: bool) -> None:
        looks = 0
        while True:
            self._look(board)
            if brief and looks % _PROGRESS_EVERY == 0:
                say(board.line())
            looks += 1
            gevent.sleep(_LOOK_S)

    def _look(self, board: Board) -> None:
        if self._storm is not None:
            board.report("", self._report())
        pids = list(self._local.pids().values()) if self._local else []
        pids += self.plan.watched if self.plan else ()
        if pids:
            board.look_at(pids)
            board.nodes.memory_mb = {str(pid): round(resident_kib(pid) / 1024, 1) for pid in pids}

    def _report(self) -> Report:
        assert self._requests is not None
        return Report(live=self.storm().live(), measures=self._requests.taken())

    def _tell_master(self, data: dict[str, Any], **_: Any) -> None:
        if self._storm is not None:
            data[REPORT] = msgspec.msgpack.encode(self._report())

    def _told_by_worker(self, client_id: str, data: dict[str, Any], **_: Any) -> None:
        if self.board is not None and REPORT in data:
            self.board.report(client_id, msgspec.msgpack.decode(data[REPORT], type=Report))

    # The end

    def _hand_over(self) -> Handover:
        """What everybody was acked and saw, as it stands now."""
        storm, requests = self.storm(), self._requests
        assert requests is not None
        self._handed_over = True
        cpu_s, memory_kib = self._before
        journals, now_kib = list(storm.journals()), resident_kib(os.getpid())
        cost = Cost(
            people=len(journals),
            events=sum(person.client.packets for person in storm.people),
            cpu_s=round(own_cpu_seconds() - cpu_s, 3),
            memory_kib=now_kib,
            grown_kib=now_kib - memory_kib,
            kept_kib=sum(journal.weight for journal in journals) // 1024,
            late_ms=storm.live().late_ms,
        )
        return Handover(
            names=storm.names.texts,
            pages=[journal.pages() for journal in journals],
            leftover=storm.leftover(),
            cost=cost,
            measures=requests.taken(),
            problems=[*(self._revoking.problems if self._revoking else ()), *people.undone(storm)],
        )

    def _stopping(self, **_: Any) -> None:
        """Bring everybody to rest and judge, before the users are ended; on a worker the master asks for it.

        Whoever ends the run while this goes on (Ctrl-C, SIGTERM) waits for it: it is done once.
        """
        with self._once:
            if self.result is None:
                self._close()

    def _close(self) -> None:
        plan, board, striker = self.plan, self.board, self._striker
        if plan is None or board is None or striker is None:
            return
        _log.info("coming to rest: nobody begins anything any more")
        striker.stop()
        lasted_s = board.now_s
        handovers, missing = self._closing.close(processes=self.workers, limit_s=plan.settle_s)
        if self._ticker is not None:
            self._ticker.kill()
        problems = [*striker.problems, *self._raised()]
        self._judge(plan, board, handovers, missing=missing, problems=problems, lasted_s=lasted_s)

    def _raised(self) -> list[str]:
        """What the code of the load test itself raised, here or on a worker: somebody did not do what the storm has him do."""
        assert self._environment.runner is not None
        raised = self._environment.runner.exceptions.values()
        return [f"the load test itself raised, {one['count']} times: {one['msg']}" for one in raised]

    def _judge(
        self,
        plan: Plan,
        board: Board,
        handovers: Sequence[Handover],
        *,
        missing: int,
        problems: Sequence[str],
        lasted_s: float,
    ) -> None:
        for handover in handovers:
            board.measured.merge(handover.measures)
        if not plan.stock:
            problems = [*problems, *unspoken(board.measured)]
        in_vain = None if problems else without_effect(plan.scenario, board.measured)
        if in_vain is not None:
            problems = [*problems, in_vain]
        runner = self._environment.runner
        assert runner is not None
        attendance = Attendance(asked=runner.target_user_count, cut_short=lasted_s < plan.scenario.run_s - _EARLY_S)
        outcome = judged(handovers, attendance, tolerance_ms=plan.tolerance_ms, missing=missing, problems=problems)
        assert self._striker is not None
        self.result = result_of(
            plan,
            outcome,
            board.measured,
            title=plan.title or plan.scenario.name,
            began=board.began,
            lasted_s=lasted_s,
            marks=self._striker.marks,
            nodes=board.nodes,
            limits=plan.limits,
        )
        board.outcome = outcome
        if plan.report is not None:
            try:
                report.write(self.result, plan.report)
            except OSError as error:
                self._unwritten = str(error)
        if self._environment.web_ui is not None:
            self._say()

    def _stop(self, **_: Any) -> None:
        if self._revoking is not None:
            self._revoking.stop()
        if self._storm is not None:
            self._storm.end()

    def _quitting(self, **_: Any) -> None:
        environment = self._environment
        assert environment.runner is not None
        if isinstance(environment.runner, WorkerRunner):
            self._leave_the_end_to_the_master(environment.runner)
            return
        environment.runner.stop()  # interrupted: the closing is still to come
        if self.result is not None:
            good = self.result.ok and not environment.runner.exceptions and self._unwritten is None
            environment.process_exit_code = 0 if good else 1

    def _leave_the_end_to_the_master(self, runner: WorkerRunner) -> None:
        """SIGTERM often comes to everybody together (`timeout`, systemd): what the people of a worker saw is still to be handed over, to a
        master that has heard it, too, and asks for it. A worker that it came to alone is not asked, and ends.
        """
        if self._storm is None or self._handed_over:
            return
        _wait_until(lambda: self._closing.asked, _WORD_S)
        if self._closing.asked:
            assert self.plan is not None
            _wait_until(lambda: self._handed_over, 2 * (self.plan.settle_s + GRACE_S))
            _wait_until(
                lambda: len(runner.greenlet) == 0, _WORD_S
            )  # by the master's word, which comes behind what was handed over

    def _quit(self, **_: Any) -> None:
        if self._environment.web_ui is None and not self._said:
            self._said = True
            self._say()

    def _say(self) -> None:
        """The last words of the command."""
        if self.result is None or self.board is None or self.board.outcome is None:
            return
        lines = [*self.result.lines(), *self.board.outcome.lines(self.result.said)]
        if self._unwritten is not None:
            lines.append(f"no report: {self._unwritten}")
        elif self.plan is not None and self.plan.report is not None:
            lines.append(f"report: {report.beside(self.plan.report, '.html')}")
        say("\n".join(lines))


def _wait_until(seen: Callable[[], bool], limit_s: float) -> None:
    limit = time.monotonic() + limit_s
    while not seen() and time.monotonic() < limit:
        gevent.sleep(_WORD_LOOK_S)
