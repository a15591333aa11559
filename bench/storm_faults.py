"""A node killed, and the broker killed, under 1,000 people on three nodes and RabbitMQ: what was lost, and how long it took."""

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.report import machine, write_results
from bench.storm_runs import people, row, storm
from tests.support.rabbit import Rabbit
from tests.support.wait import Late, block_until

USERS = 1_000
STRIKE = ("--cliff-at", "25", "--run-time", "60")


@contextmanager
def restarting(rabbit: Rabbit, folder: Path) -> Iterator[str]:
    """A hook that has the broker killed and started again: the broker is this process's, so the hook asks for it and waits."""
    asked, done, over = folder / "asked", folder / "done", threading.Event()

    def serve() -> None:
        while not over.is_set():
            try:
                block_until(lambda: asked.exists() or over.is_set(), 60, "somebody asks")
            except Late:
                continue
            if asked.exists():
                asked.unlink()
                rabbit.kill()
                rabbit.start()
                rabbit.wait_ready()
                done.touch()

    server = threading.Thread(target=serve)
    server.start()
    try:
        yield f"touch {asked}; while [ ! -e {done} ]; do sleep 0.05; done; rm {done}"
    finally:
        over.set()
        server.join()


def main() -> None:
    """Run both and write the results."""
    measured_on = machine()
    crowd = ("--local", "--nodes", "3", "--users", people(USERS), *STRIKE)
    with tempfile.TemporaryDirectory() as place, Rabbit(Path(place) / "rabbit") as rabbit:
        lost = storm("node-loss", *crowd, title="node-loss", settings={"log": rabbit.url_for(rabbit.fresh_vhost())})
        with restarting(rabbit, Path(place)) as hook:
            log = rabbit.url_for(rabbit.fresh_vhost())
            restarted = storm("broker-restart", *crowd, "--hook", hook, title="broker-restart", settings={"log": log})
    path = write_results("storm_faults", [row(lost), row(restarted)], measured_on=measured_on)
    print(f"  written to {path}")
