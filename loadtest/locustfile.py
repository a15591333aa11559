"""Storms on Locust: `locust -f loadtest/locustfile.py --headless --host http://a,http://b --users N --run-time T`.

Requests are named after what a person waits for, and their times are true: from the moment when a thing was due, be it late because of the
server, of the network or of this process. So no pause leaves out the samples that it spoils (coordinated omission); and nothing
that is merely received counts as 0 ms. Between machines the times of deliveries are as good as their clocks are in step.

The checker's verdict decides the exit code: 0 only when it is clean, everybody was back, every message answered and nobody's code raised.
"""

import logging
from collections.abc import Callable
from typing import Any

from locust import User, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.exception import StopUser
from locust.runners import MasterRunner, WorkerRunner

from loadtest import people
from loadtest.client import Barred
from loadtest.closing import Closing
from loadtest.options import Plan, Unfit, add_options, plan_of, refuse
from loadtest.outcome import Outcome
from loadtest.storm import Person, Storm

CHAT = "chat"  # the type of all requests
_log = logging.getLogger("tidegate.storm")


class Code(Exception):
    """Why something was refused, as Locust's table of errors shows it."""

    def __repr__(self) -> str:
        return str(self)


class Requests:
    """Tells Locust of everything, as requests: see `loadtest.observer.Observer`."""

    def __init__(self, environment: Environment) -> None:
        self._fire: Callable[..., None] = environment.events.request.fire

    def _tell(self, name: str, took_s: float | None, error: Exception | None = None) -> None:
        took_ms = None if took_s is None else took_s * 1000
        self._fire(request_type=CHAT, name=name, response_time=took_ms, response_length=0, exception=error, context={})

    def connected(self, took_s: float, *, again: bool) -> None:
        self._tell("reconnect" if again else "connect", took_s)

    def renewed(self, took_s: float) -> None:
        self._tell("renewal", took_s)

    def acked(self, took_s: float) -> None:
        self._tell("send to ack", took_s)

    def delivered(self, took_s: float, *, replayed: bool) -> None:
        self._tell("send to delivery, missed and replayed" if replayed else "send to delivery", took_s)

    def expired(self, late_s: float) -> None:
        self._tell("end of a token, lateness", late_s)

    def refused(self, what: str, code: str) -> None:
        self._tell(f"{what}, refused", None, Code(code))  # it took no time that could be told: it counts, without one


class Run:
    """What this process knows of the run: its plan, its storm while it has users, its outcome at last."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._plan: Plan | None = None
        self._storm: Storm | None = None
        self._outcome: Outcome | None = None
        self._joined = 0
        self._closing = Closing(environment, self.storm)
        for event, listener in (
            (environment.events.test_start, self._start),
            (environment.events.test_stopping, self._stopping),
            (environment.events.test_stop, self._stop),
            (environment.events.quitting, self._quitting),
            (environment.events.quit, self._quit),
        ):
            event.add_listener(listener)

    def storm(self) -> Storm:
        """The storm of this process, of which there is one from the start on."""
        assert self._storm is not None
        return self._storm

    def join(self) -> Person:
        """A new user of this process."""
        worker = getattr(self._environment.runner, "worker_index", 0)
        number, self._joined = self._joined, self._joined + 1
        return self.storm().join(f"load-{worker}-{number}", number)

    def _start(self, **_: Any) -> None:
        """A test begins: the first or, with Locust's page, another."""
        options, environment = self._environment.parsed_options, self._environment
        assert options is not None
        self._plan = plan = plan_of(options, environment.host)
        self._outcome, self._joined = None, 0
        if not isinstance(environment.runner, MasterRunner):
            requests = Requests(environment)
            self._storm = Storm(plan.scenario, hosts=plan.hosts, mint=plan.mint, observer=requests, seed=plan.seed)

    def _stopping(self, **_: Any) -> None:
        """Bring everybody to rest and judge, before the users are ended; on a worker the master asks for it."""
        if self._plan is not None and not isinstance(self._environment.runner, WorkerRunner):
            _log.info("coming to rest: nobody begins anything any more")
            self._outcome = self._closing.close(limit_s=self._plan.settle_s, tolerance_ms=self._plan.tolerance_ms)

    def _stop(self, **_: Any) -> None:
        if self._storm is not None:
            self._storm.end()

    def _quitting(self, **_: Any) -> None:
        environment = self._environment
        assert environment.runner is not None
        if isinstance(environment.runner, WorkerRunner):
            return
        environment.runner.stop()  # interrupted: the closing is still to come
        if self._outcome is not None:
            environment.process_exit_code = 0 if self._outcome.ok and not environment.runner.exceptions else 1

    def _quit(self, **_: Any) -> None:
        if self._outcome is not None:
            print("\n".join(self._outcome.lines()), flush=True)  # noqa: T201 - the last words of the command


_runs: dict[Environment, Run] = {}


def _options(parser: LocustArgumentParser, **_: Any) -> None:
    add_options(parser)


def _init(environment: Environment, **_: Any) -> None:
    options = environment.parsed_options
    assert options is not None
    if not isinstance(environment.runner, WorkerRunner):  # which gets its flags from the master
        try:
            plan = plan_of(options, environment.host)
        except Unfit as unfit:
            refuse(unfit)
        for kind in environment.user_classes:
            kind.weight = plan.scenario.people[kind.__name__]
    _runs[environment] = Run(environment)


events.init_command_line_parser.add_listener(_options)
events.init.add_listener(_init)


class _Someone(User):
    abstract = True
    person: Person | None = None

    def behave(self, person: Person, storm: Storm) -> None:
        """What this kind of person does until their greenlet is ended."""
        raise NotImplementedError

    def on_stop(self) -> None:
        """Ended by Locust: at the end, or because there are to be fewer users."""
        if self.person is not None:
            _runs[self.environment].storm().leave(self.person)

    @task
    def live(self) -> None:
        """Everything that this user does."""
        run = _runs[self.environment]
        if self.person is None:
            self.person = run.join()
        try:
            self.behave(self.person, run.storm())
        except Barred:
            raise StopUser from None  # which the outcome tells
        except KeyboardInterrupt:  # comes to whichever greenlet happens to run, and is the end of it
            run.storm().leave(self.person)
            raise


class Talker(_Someone):
    """See `people.talk`."""

    def behave(self, person: Person, storm: Storm) -> None:
        people.talk(person, storm)


class Listener(_Someone):
    """See `people.listen`."""

    def behave(self, person: Person, storm: Storm) -> None:
        people.listen(person, storm)


class Lurker(_Someone):
    """See `people.lurk`."""

    def behave(self, person: Person, storm: Storm) -> None:
        people.lurk(person, storm)


class Hopper(_Someone):
    """See `people.hop`."""

    def behave(self, person: Person, storm: Storm) -> None:
        people.hop(person, storm)
