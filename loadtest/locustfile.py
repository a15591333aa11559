"""Storms on Locust: `locust -f loadtest/locustfile.py --headless --scenario cliff --host http://a,http://b`, or `--local 3`.

Requests are named after what a person waits for, and their times are true: from the moment when a thing was due, be it late because of the
server, of the network or of this process. So no pause leaves out the samples that it spoils (coordinated omission); and nothing
that is merely received counts as 0 ms. Between machines the times of deliveries are as good as their clocks are in step.

The checker's verdict decides the exit code: 0 only when it is clean, everybody was back, every message answered, every objective met and
nobody's code raised.
"""

import atexit
import logging
import secrets
import signal
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

from locust import User, argument_parser, events, task
from locust.argument_parser import LocustArgumentParser
from locust.contrib.socketio import SocketIOUser
from locust.env import Environment
from locust.exception import StopUser
from locust.runners import WorkerRunner

from loadtest import exporter, people, replaying, web_page
from loadtest.beginnings import LOOPBACK, lacking
from loadtest.client import Barred
from loadtest.cross_check import Crossing
from loadtest.local_cluster import LocalCluster, LocalClusterError, local_cluster
from loadtest.options import Plan, Unfit, add_options, plan_of, refuse
from loadtest.run import Run
from loadtest.storm import Person, Storm
from loadtest.waiting import begin_now

_log = logging.getLogger("tidegate.storm")
_runs: dict[Environment, Run] = {}


def _options(parser: LocustArgumentParser, **_: Any) -> None:
    add_options(parser)
    # Locust's would be all addresses: whoever came would start storms that sign with the cluster's key, or be told it as a worker.
    parser.set_defaults(web_host=LOOPBACK, master_bind_host=LOOPBACK)


def _init(environment: Environment, **_: Any) -> None:
    options = environment.parsed_options
    assert options is not None
    if options.brief:
        options.only_summary = True
        logging.getLogger("locust.stats_logger").setLevel(logging.ERROR)
    if isinstance(environment.runner, WorkerRunner):  # which gets its flags from the master
        # At each spawn message, one a second, Locust makes its parser anew for each flag: seconds in which a worker does nothing else.
        argument_parser.default_args_dict = cache(argument_parser.default_args_dict)
        run = _runs[environment] = Run(environment, None)
        if options.processes:
            run.leave_ctrl_c_to_the_master()
        return
    plan, local = _begun(environment, options)
    # what was not said is as the scenario has it
    options.num_users, options.run_time = plan.scenario.users, options.run_time or round(plan.scenario.run_s)
    options.spawn_rate = plan.scenario.users / plan.scenario.arrive_s
    begin_now()  # the clock that Locust's --run-time goes by stood still while everything was imported
    run = _runs[environment] = Run(environment, local)
    run.weigh(plan)
    if environment.web_ui is not None:
        web_page.extend(environment.web_ui, run)
    elif options.prometheus_port is not None:
        exporter.serve(run, options.prometheus_port)


def _begun(environment: Environment, options: Namespace) -> tuple[Plan, LocalCluster | None]:
    """What the flags come to, and the local cluster, where one is asked for, which ends with this process. Nothing is started, and no
    folder made, for flags that do not fit.
    """
    if options.local and not any((options.jwt_secret, options.jwt_secret_file, options.issuer_url)):
        options.jwt_secret = secrets.token_urlsafe(48)
    try:
        plan = plan_of(options, None if options.local else environment.host)
    except Unfit as unfit:
        refuse(unfit)
    if options.local and options.jwt_secret is None:
        refuse(Unfit(["--local: takes --jwt-secret or nothing for its key, got --jwt-secret-file or --issuer-url"]))
    if problems := lacking(options, page=environment.web_ui is not None):
        refuse(Unfit(problems))
    if not options.local:
        return plan, None
    cluster = _started(options)
    environment.host = options.host = ",".join(cluster.hosts)
    return plan_of(options, environment.host), cluster


def _started(options: Namespace) -> LocalCluster:
    kept = ExitStack()
    atexit.register(kept.close)
    try:
        return kept.enter_context(local_cluster(options.local, options.jwt_secret))
    except LocalClusterError as error:
        print(error, file=sys.stderr)  # noqa: T201 - for whoever gave the command
        sys.exit(1)
    except KeyboardInterrupt:  # before there is a storm that could be judged
        sys.exit(128 + signal.SIGINT)


events.init_command_line_parser.add_listener(_options)
events.init.add_listener(_init)


@contextmanager
def _once(user: User) -> Iterator[None]:
    """What this user does, who is ended by an exception: told as raised, where Locust would have them begin again at once."""
    try:
        yield
    except StopUser:
        raise
    except Exception as error:  # noqa: BLE001 - of any kind: it is told, and fails the storm
        user.environment.events.user_error.fire(user_instance=user, exception=error, tb=error.__traceback__)
        _log.exception("somebody's code raised")
        raise StopUser from None


class _Someone(User):
    abstract = True
    person: Person | None = None

    def behave(self, person: Person, storm: Storm) -> None:
        """What this kind of person does until their greenlet is ended."""
        raise NotImplementedError

    def join(self, run: Run) -> Person:
        """Take part."""
        return run.join(type(self).__name__)

    def on_stop(self) -> None:
        """Ended by Locust: at the end, or because there are to be fewer users."""
        if self.person is not None:
            _runs[self.environment].storm().leave(self.person)

    @task
    def live(self) -> None:
        """Everything that this user does."""
        run = _runs[self.environment]
        if not run.under_way:
            raise StopUser
        with _once(self):
            if self.person is None:
                self.person = self.join(run)
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


class Replayer(_Someone):
    """See `replaying`."""

    def join(self, run: Run) -> Person:
        assert run.plan is not None and run.plan.recorded is not None
        name, place = run.next_user(type(self).__name__)
        people_of_log = run.plan.recorded.people
        return replaying.join(run.storm(), name, people_of_log[place.number % len(people_of_log)])

    def behave(self, person: Person, storm: Storm) -> None:
        replaying.live(person, storm)


class CrossChecker(SocketIOUser):
    """See `cross_check`."""

    crossing: Crossing | None = None

    def on_stop(self) -> None:
        """Ended by Locust."""
        if self.crossing is not None:
            self.crossing.leave()

    @task
    def live(self) -> None:
        """Everything that this user does."""
        run = _runs[self.environment]
        if not run.under_way:
            raise StopUser
        with _once(self):
            name, place = run.next_user(type(self).__name__)
            self.crossing = Crossing(self, run.storm(), name, place.arrival)
            self.crossing.live()
