"""One person of Locust's own `SocketIOUser` against a server: `python -m tests.support.crossing URL KINDS`. A process of its own, since
Locust makes it gevent's. Prints what is held against the server as soon as there are so many kinds of it.
"""

import json
import sys
import time
from argparse import Namespace
from typing import Any

import gevent
from locust.contrib.socketio import SocketIOUser
from locust.env import Environment

from loadtest import people
from loadtest.clock import wall
from loadtest.cross_check import Crossing
from loadtest.options import plan_of
from loadtest.storm import Storm
from tests.unit.test_load_options import GIVEN, SECRET

LIMIT_S = 20.0


def main(url: str, kinds: str) -> None:
    plan = plan_of(Namespace(**GIVEN | {"scenario": "cross-check", "jwt_secret": SECRET, "rooms": 1, "rate": 20.0}), url)
    observer: Any = type("Nobody", (), {"__getattr__": lambda self, name: lambda *arguments, **named: None})()
    storm = Storm(plan, observer=observer, began=wall())
    user = SocketIOUser(Environment())
    crossing = Crossing(user, storm, "u", 0, patience_s=0.3)
    living = gevent.spawn(crossing.live)
    limit = time.monotonic() + LIMIT_S
    while not living.ready() and len(people.undone(storm)) < int(kinds) and time.monotonic() < limit:
        gevent.sleep(0.02)
    storm.quiet = True
    sys.stdout.write(json.dumps({"raised": repr(living.exception), "undone": people.undone(storm)}))
    sys.stdout.flush()
    living.kill()
    crossing.leave()


if __name__ == "__main__":
    main(*sys.argv[1:])
