"""What it costs a node to be observed: its processor time with all metrics and lines, and without, under fan-out and under handshakes.

The same work is done by a node as it is, which is scraped too, and by one in which each observation is left out, both at the same time, so
that what the machine does besides costs both alike; several times, each time by new processes (`bench/unobserved_node.py`). Clients are
another process beside them. The pairs are told one by one, with their median. Beside that stands what
the observations of one delivery and of one handshake cost by themselves, and their share in all that it costs the node; and what one of
ours costs beside prometheus_client's.
"""

import asyncio
import contextlib
import io
import statistics
import tempfile
import time
import timeit
import urllib.request
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jwt
import prometheus_client
import uvloop
from opentelemetry.sdk.trace import TracerProvider

from bench.handshake_storm import Knock
from bench.lean_client import LeanClient
from bench.local_node import SECRET, LocalNode
from bench.report import machine, write_results
from node.cli.journal import open_journal
from node.config import Settings
from node.core.events import MessagePosted
from node.core.identity import Principal
from node.edge.delivery import Deliveries, Delivery
from node.edge.handshake import Accepted
from node.edge.witness import Witness
from node.instruments import Histogram
from node.metrics import FAST_S, Metrics
from node.tracing import Tracer

PAIRS = 12  # in each other one the first node is the observed one
MEMBERS, MESSAGES, MESSAGES_PER_S = 100, 600, 40.0  # of one room, and what is said in it
HANDSHAKES, HANDSHAKES_PER_S = 2_000, 120.0
SCRAPE_EVERY_S = 5.0
READY_LIMIT_S, LIMIT_S = 60.0, 120.0


def _token(user: str) -> str:
    return jwt.encode({"sub": user, "iat": time.time(), "exp": time.time() + 3_600}, SECRET, algorithm="HS256")


class FanOut:
    """Members of a room, one of whom talks; every message has to reach all of them."""

    units, unit = MEMBERS * MESSAGES, "delivery"

    def __init__(self) -> None:
        self._members: list[LeanClient] = []
        self._heard = 0
        self._all = asyncio.Event()

    async def begin(self, url: str) -> None:
        """Everybody is in the room."""
        for number in range(MEMBERS):
            member = await LeanClient.connect(url, _token(f"m{number}"), delivered=self._delivered, acked=lambda *_: None)
            assert (await member.ask("room:join" if number else "room:create", {"room": "r"}))["ok"]
            self._members.append(member)

    async def work(self, _: str) -> None:
        """Say it all, at the rate, and wait until it has arrived."""
        for number in range(MESSAGES):
            began = time.monotonic()
            self._members[number % MEMBERS].say(b"r", began)
            await asyncio.sleep(1 / MESSAGES_PER_S)
        async with asyncio.timeout(LIMIT_S):
            await self._all.wait()

    def end(self) -> None:
        """Everybody leaves."""
        for member in self._members:
            member.close()

    def _delivered(self, _due: float, _now: float) -> None:
        self._heard += 1
        if self._heard == self.units:
            self._all.set()


class Handshakes:
    """People who come one after the other, each with a token of his own, and go as soon as they are welcomed."""

    units, unit = HANDSHAKES, "handshake"

    async def begin(self, url: str) -> None:
        """The tokens are there."""
        self._tokens = [_token(f"u{number}") for number in range(HANDSHAKES)]
        self._netloc = url.removeprefix("http://")

    async def work(self, url: str) -> None:
        """Come, at the rate."""
        async with asyncio.TaskGroup() as tasks:
            for token in self._tokens:
                tasks.create_task(self._come(token))
                await asyncio.sleep(1 / HANDSHAKES_PER_S)

    async def _come(self, token: str) -> None:
        host, _, port = self._netloc.partition(":")
        _, knock = await asyncio.get_running_loop().create_connection(lambda: Knock(self._netloc, token), host, int(port))
        assert await asyncio.wait_for(knock.ended, LIMIT_S) is None, "it was turned away"
        knock.transport.close()

    def end(self) -> None:
        """Nobody is left."""


class _Observed(LocalNode):
    quiet = True


class _Unobserved(_Observed):
    module = "bench.unobserved_node"


async def _scraped(url: str) -> None:
    """Scrape, for ever."""
    while True:
        await asyncio.to_thread(lambda: urllib.request.urlopen(f"{url}/metrics").read())
        await asyncio.sleep(SCRAPE_EVERY_S)


async def _run(nodes: list[LocalNode], loads: list[FanOut | Handshakes], *, scraped: LocalNode) -> list[float]:
    """The processor time of each node for its load, in seconds. The first one's load is the first each time."""
    urls = [node.url() or "" for node in nodes]
    for url, load in zip(urls, loads, strict=True):
        await load.begin(url)
    await asyncio.sleep(1.0)  # what the beginning left behind is done
    scraping = asyncio.create_task(_scraped(scraped.url() or ""))
    before = [node.cpu_seconds() for node in nodes]
    await asyncio.gather(*(load.work(url) for url, load in zip(urls, loads, strict=True)))
    await asyncio.sleep(0.5)
    used = [node.cpu_seconds() - began for node, began in zip(nodes, before, strict=True)]
    scraping.cancel()
    await asyncio.gather(scraping, return_exceptions=True)
    for load in loads:
        load.end()
    return used


def _measure(
    kind: type[FanOut] | type[Handshakes], *, first: type[LocalNode], second: type[LocalNode]
) -> dict[type[LocalNode], float]:
    """The processor time of a node of each of these kinds, in seconds; the first one is started first, and spoken to first."""
    free = {"handshake_rate": "5000", "handshake_burst": "5000", "commands_per_second": "100000", "commands_burst": "100000"}
    with contextlib.ExitStack() as stack:
        nodes = dict[type[LocalNode], LocalNode]()
        for one in (first, second):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            nodes[one] = stack.enter_context(one("n1", folder, **(free | {"log_level": "info"})))
        for node in nodes.values():
            node.wait_ready(READY_LIMIT_S)

        async def run() -> list[float]:
            return await _run(list(nodes.values()), [kind(), kind()], scraped=nodes[_Observed])

        used = uvloop.run(run())
        for node in nodes.values():
            node.stop()
    return dict(zip(nodes, used, strict=True))


def _pairs(kind: type[FanOut] | type[Handshakes]) -> dict[str, Any]:
    on, off = list[float](), list[float]()
    for number in range(PAIRS):
        first, second = (_Observed, _Unobserved) if number % 2 else (_Unobserved, _Observed)
        used = _measure(kind, first=first, second=second)
        on.append(used[_Observed])
        off.append(used[_Unobserved])
        print(f"  {kind.unit}: {on[-1]:.2f} s with, {off[-1]:.2f} s without", flush=True)
    shares = [100 * (one - other) / one for one, other in zip(on, off, strict=True)]
    return {
        "load": kind.__name__,
        "units": kind.units,
        "cpu_with_us": round(1e6 * statistics.median(on) / kind.units, 2),
        "cpu_without_us": round(1e6 * statistics.median(off) / kind.units, 2),
        "share_of_all_pairs_percent": round(100 * (sum(on) - sum(off)) / sum(on), 2),
        "share_of_each_pair_percent": [round(share, 1) for share in sorted(shares)],
        "share_median_percent": round(statistics.median(shares), 2),
    }


class _Hearer:
    lineage = "01ARZ3NDEKTSV4RRFFQ69G5FAV"

    def hears(self, _now: int) -> bool:
        return True


def _each() -> dict[str, float]:
    """What one observation costs, in microseconds."""
    open_journal(Settings(log_format="json"), io.StringIO())
    ours, theirs = Metrics(node="n1", version="1"), prometheus_client.CollectorRegistry()
    histogram = prometheus_client.Histogram("h", "h", ["command"], buckets=FAST_S, registry=theirs)
    counter = prometheus_client.Counter("c", "c", ["command", "outcome"], registry=theirs)
    plain, hearer, deliveries = Histogram(FAST_S), _Hearer(), Deliveries(ours)

    clock, tracer, nothing = count(1_004), Tracer(TracerProvider()), contextlib.nullcontext("")
    posted = MessagePosted(id="e", at=1, by="ann", room="r", message="m", text="t")

    def untraced() -> None:
        with nothing:
            assert posted.trace is None

    def traced() -> None:
        with tracer.command("message:send", hearer.lineage), tracer.appending(posted) as carrying:
            reach = tracer.applied(carrying, carrying.trace or "")
            assert reach is not None
            reach.written()

    def fan_out() -> None:
        event = Delivery(deliveries, at=1_000)
        for place in range(MEMBERS):  # as a connection does it
            if (now := 1_004 + place // 50) < event.until:  # in two milliseconds
                event.count += 1
                event.moments += now
            else:
                event.written(hearer, now)

    tried: dict[str, Callable[[], object]] = {
        "empty call": lambda: None,
        "counter with labels": lambda: ours.commands.labels("message:send", "ok").inc(),
        "counter with labels, prometheus_client": lambda: counter.labels("message:send", "ok").inc(),
        "histogram with labels": lambda: ours.command_seconds.labels("message:send").observe(0.004),
        "histogram with labels, prometheus_client": lambda: histogram.labels("message:send").observe(0.004),
        "histogram with an example": lambda: plain.observe(0.004, hearer.lineage),
        "histogram with an example, prometheus_client": lambda: histogram.labels("message:send").observe(
            0.004, {"l": hearer.lineage}
        ),
        "a command that is not traced, since nothing is": untraced,
        "a command that is traced, its event and its way to a socket": traced,
        "an event written to one socket": lambda: Delivery(deliveries, at=1_000).written(hearer, next(clock)),
    }
    each = {name: min(timeit.repeat(run, number=20_000, repeat=7)) / 20_000 * 1e6 for name, run in tried.items()}
    each["an event written to one of 100 sockets"] = min(timeit.repeat(fan_out, number=500, repeat=7)) / 500 / MEMBERS * 1e6
    each["a handshake, and the end of its session"] = min(timeit.repeat(_a_session(ours), number=2_000, repeat=7)) / 2_000 * 1e6
    return {name: round(cost, 2) for name, cost in each.items()}


def _a_session(metrics: Metrics) -> Callable[[], None]:
    """All that is observed of a session that is opened and ended at once, its lines among it, most of which are left out."""
    now = time.time_ns() // 1_000_000
    witness, hearer = Witness(metrics, lambda: now), _Hearer()
    principal = Principal(user="ann", expires_at=now + 60_000)
    connection: Any = SimpleNamespace(transport="websocket")
    session: Any = SimpleNamespace(
        id=hearer.lineage, lineage=hearer.lineage, principal=principal, opened_at=now, namespace="/", connection=connection
    )
    accepted = Accepted(principal=principal, source="auth", resume=None)

    def observe() -> None:
        metrics.verify_seconds.labels("HS256", "miss").observe(0.00004)
        witness.opened(session, None, "e1")
        witness.judged("/", "websocket", accepted, time.perf_counter(), session.lineage)
        witness.ended(session, "transport", "e2", {})
        for _ in range(2):  # events, at most: they are appended in groups, applied and counted one by one
            metrics.append_seconds.observe(0.001)
            metrics.events.labels("session_opened").inc()

    return observe


def main() -> None:
    """Measure, print the figures, write the results."""
    before = machine()
    rows, each = [_pairs(kind) for kind in (FanOut, Handshakes)], _each()
    for row, of in zip(rows, ("an event written to one of 100 sockets", "a handshake, and the end of its session"), strict=True):
        row["observations_us"], row["share_of_the_observations_percent"] = each[of], round(100 * each[of] / row["cpu_with_us"], 2)
        print("  ".join(f"{name} {value}" for name, value in row.items()))
    for name, cost in each.items():
        print(f"{name:>48} {cost:6.2f} µs")
    facts = {
        "members": MEMBERS,
        "messages_per_s": MESSAGES_PER_S,
        "handshakes_per_s": HANDSHAKES_PER_S,
        "scrape_every_s": SCRAPE_EVERY_S,
    }
    print(f"written to {write_results('observing', rows, measured_on=before, one_observation_us=each, **facts)}")


if __name__ == "__main__":
    main()
