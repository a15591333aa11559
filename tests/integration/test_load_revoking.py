"""How the load test withdraws somebody's tokens: a scripted node, of which the first answer is lost, is none, or does not come."""

import json
import socket
import threading
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import gevent

from loadtest.clock import wall
from loadtest.options import plan_of
from loadtest.revoking import Revoking
from loadtest.storm import Storm
from loadtest.tokens import Token
from tests.unit.test_load_options import GIVEN

LIMIT_S = 20.0


@contextmanager
def a_node(first: Callable[[BaseHTTPRequestHandler], object]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A node that does `first` when it is first asked, and ends the connection; from then on it answers. Its URL, what it was asked."""
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            if len(asked) == 1:
                first(self)
                return
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", asked
        finally:
            server.shutdown()
            thread.join(LIMIT_S)


def withdrawing(url: str, *users: str) -> tuple[Storm, Revoking]:
    """A storm in which the tokens of all of these are withdrawn from now on."""
    plan = plan_of(Namespace(**GIVEN | {"scenario": "revocation", "share": 1.0}), url)
    storm = Storm(plan, observer=None, began=wall() - plan.scenario.strike_s)  # type: ignore[arg-type]
    for number, user in enumerate(users):
        storm.join("Lurker", user, number)
    return storm, Revoking(storm)


def wait(condition: Callable[[], object]) -> None:
    """In gevent's terms."""
    limit = time.monotonic() + LIMIT_S
    while not condition() and time.monotonic() < limit:
        gevent.sleep(0.05)
    assert condition()


def test_what_is_withdrawn_twice_takes_back_nothing_newer() -> None:
    """Who came back with a fresh token before it was asked for again keeps it: asked is each time for the same, which ends before it."""

    def work() -> tuple[list[dict[str, Any]], Token, Token]:
        tokens: list[Token] = []

        def fetch() -> None:
            time.sleep(0.01)  # it is younger
            tokens.append(storm.people[0].client.credentials.fetch())

        with a_node(lambda _: fetch()) as (url, asked):
            storm, revoking = withdrawing(url, "ann")
            fetch()
            wait(lambda: revoking.count)
            revoking.stop()
            storm.end()
            assert (revoking.count, revoking.problems) == (1, ())
        return asked, tokens[0], tokens[1]

    with ThreadPoolExecutor(1) as pool:  # an event loop of gevent's belongs to a thread
        asked, old, fresh = pool.submit(work).result(timeout=2 * LIMIT_S)
    assert len(asked) == 2 and asked[0] == asked[1]
    assert old.issued_at is not None and fresh.issued_at is not None
    assert old.issued_at < asked[0]["before"] <= fresh.issued_at


def test_what_is_not_withdrawn_by_the_end_is_a_problem() -> None:
    """Also what is still being tried then; and an answer that is no HTTP is asked for again, like one that is lost."""

    def work() -> None:
        with a_node(lambda handler: handler.wfile.write(b"nonsense\r\n\r\n")) as (url, asked):
            storm, revoking = withdrawing(url, "ann")
            wait(lambda: revoking.count)
            revoking.stop()
            storm.end()
            assert (len(asked), revoking.problems) == (2, ())
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            storm, revoking = withdrawing(f"http://127.0.0.1:{nobody.getsockname()[1]}", "bob", "cid")
            wait(lambda: len(revoking._pool) == 2)  # who pause from the first try to the second
            revoking.stop()
            wait(lambda: not len(revoking._pool))
            storm.end()
            assert revoking.problems == ("the tokens of 2 people had not been withdrawn by the end: bob, cid",)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result(timeout=2 * LIMIT_S)
