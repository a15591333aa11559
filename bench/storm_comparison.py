"""One storm four times: Tidegate as it is, with nothing levelled, with stock clients, and a stock python-socketio application with those.

A cliff: 1,500 people, all tokens end in the same second, messages flow. Three nodes each time, on one RabbitMQ, one after
the other.
"""

import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.report import RESULTS, machine, write_results
from bench.storm_runs import DOCS, ROOT, people, row, storm
from loadtest import compare
from loadtest.result import Result
from tests.support.rabbit import Rabbit

USERS = 1_500
NODES = 3
#: Nobody wanders: the stock application does not know who has left a room.
PEOPLE = ("--people", "talker=3,listener=4,lurker=2", "--cliff-at", "30", "--run-time", "60")
UNLEVELLED = {"refresh_window_seconds": "1", "handshake_rate": "100000", "handshake_burst": "100000"}


@contextmanager
def stock_nodes(url: str, secret: str) -> Iterator[list[tuple[str, int]]]:
    """The stock application, three times: where each listens, and its process."""
    processes: list[subprocess.Popen[str]] = []
    try:
        for _ in range(NODES):
            command = [sys.executable, "-m", "bench.stock_app", url]
            environment = {"TIDEGATE_JWT_SECRET": secret, "PATH": ""}
            processes.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True))
        found = []
        for process in processes:
            assert process.stdout is not None
            found.append((process.stdout.readline().strip(), process.pid))
        yield found
    finally:
        for process in processes:
            process.kill()
            process.wait()


def run(rabbit: Rabbit) -> list[Result]:
    """All four."""
    crowd = ("--users", people(USERS), *PEOPLE)

    def local(title: str, *flags: str, **settings: str) -> Result:
        vhost = rabbit.fresh_vhost()
        own = {"log": rabbit.url_for(vhost)} | settings
        result = storm("cliff", "--local", "--nodes", str(NODES), *crowd, *flags, title=title, settings=own)
        rabbit.drop_vhost(vhost)
        return result

    found = [local("Tidegate"), local("levelling off", **UNLEVELLED), local("stock clients", "--clients", "stock")]
    vhost, secret = rabbit.fresh_vhost(), secrets.token_hex(32)
    with stock_nodes(rabbit.url_for(vhost), secret) as nodes:
        hosts, pids = ",".join(url for url, _ in nodes), ",".join(str(pid) for _, pid in nodes)
        flags = ("--host", hosts, "--watch", pids, "--clients", "stock")
        found.append(storm("cliff", *crowd, *flags, title="stock application", settings={"jwt_secret": secret}))
    return found


def main() -> None:
    """Run them, write the results, the table and the plots."""
    measured_on = machine()
    with tempfile.TemporaryDirectory() as folder, Rabbit(Path(folder)) as rabbit:
        results = run(rabbit)
    path = write_results("storm_comparison", [row(one) for one in results], measured_on=measured_on, nodes=NODES)
    compare.write(results, RESULTS / "storm_comparison")
    handshakes = compare.plots(results)[0]
    (DOCS / "storm-comparison.svg").write_text(handshakes.svg(alone=True))
    print(compare.markdown(results))
    print(f"  written to {path}, beside it .html and .md, and to docs/storm-comparison.svg")
