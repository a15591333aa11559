"""How the load test withdraws somebody's tokens: a scripted node, of which one answer is lost."""

import json
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
def losing_the_first_answer(done: Callable[[], None]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A node that calls `done` when it is first asked, and ends the connection; from then on it answers. Its URL, what it was asked."""
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            if len(asked) == 1:
                done()
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


def test_what_is_withdrawn_twice_takes_back_nothing_newer() -> None:
    """Who came back with a fresh token before it was asked for again keeps it: asked is each time for the same, which ends before it."""

    def work() -> tuple[list[dict[str, Any]], Token, Token]:
        tokens: list[Token] = []

        def fetch() -> None:
            time.sleep(0.01)  # it is younger
            tokens.append(storm.plan.mint("ann", 60))
            storm.people[0].client._token = tokens[-1]

        with losing_the_first_answer(fetch) as (url, asked):
            flags = {"scenario": "revocation", "share": 1.0}
            plan = plan_of(Namespace(**GIVEN | flags), url)
            storm = Storm(plan, observer=None, began=wall() - plan.scenario.strike_s)  # type: ignore[arg-type]
            storm.join("Lurker", "ann", 0)
            fetch()
            revoking, limit = Revoking(storm), time.monotonic() + LIMIT_S
            while not revoking.count and time.monotonic() < limit:
                gevent.sleep(0.05)
            revoking.stop()
            storm.end()
            assert (revoking.count, revoking.problems) == (1, [])
        return asked, tokens[0], tokens[1]

    with ThreadPoolExecutor(1) as pool:  # an event loop of gevent's belongs to a thread
        asked, old, fresh = pool.submit(work).result(timeout=2 * LIMIT_S)
    assert len(asked) == 2 and asked[0] == asked[1]
    assert old.issued_at is not None and fresh.issued_at is not None
    assert old.issued_at < asked[0]["before"] <= fresh.issued_at
