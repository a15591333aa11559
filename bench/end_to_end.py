"""Three local nodes: from a client's send to its ack and to delivery on every node, at 100, 1,000 and 5,000 messages a second in all.

Rooms have three members, one on each node; each member speaks in turn, on a clock of its own (an open loop: a late message counts from
when it was due). All clients are one process beside the nodes, on the same cores; its processor time is told apart.
The first seconds are not counted. Every acked message must reach all three members.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jwt
import uvloop

from bench.lean_client import LeanClient
from bench.local_node import ROOT, SECRET, LocalNode
from bench.report import machine, percentile, write_results

NODES = 3
ROOMS = 100  # so that at 5,000 a second nobody speaks faster than a chat's limits allow
RATES = (100, 1_000, 5_000)  # messages a second of all clients together
SECONDS = 12.0
WARM_UP_S = 2.0
ARRIVAL_LIMIT_S = 15.0
READY_LIMIT_S = 60.0
TICK_S = 0.001


class Crowd:
    """The clients of one run, and what they saw."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._counted_from = float("inf")
        self.delivered_ms: list[float] = []
        self.acked_ms: list[float] = []
        self.late_ms: list[float] = []
        self.refused = self.sent = 0
        self._clients: list[tuple[LeanClient, bytes]] = []

    async def connect(self, places: list[dict[str, str]]) -> None:
        """One client for each place; the first of a room makes it."""
        rooms: set[str] = set()
        for place in places:
            client = await LeanClient.connect(place["url"], place["token"], delivered=self._delivered, acked=self._acked)
            verb = "room:join" if place["room"] in rooms else "room:create"
            rooms.add(place["room"])
            await self._until_ok(client, verb, {"room": place["room"]})
            self._clients.append((client, place["room"].encode()))

    async def speak(self) -> None:
        """Send at the rate, each message when it is due; then wait for what is under way."""
        begin = time.monotonic() + 0.2
        self._counted_from = begin + WARM_UP_S - 0.5 / self._rate  # between two messages
        total = round((WARM_UP_S + SECONDS) * self._rate)
        number = 0
        while number < total:
            now = time.monotonic()
            while number < total and (due := begin + number / self._rate) <= now:
                client, room = self._clients[number % len(self._clients)]
                client.say(room, due)
                if due >= self._counted_from:
                    self.sent += 1
                    self.late_ms.append((now - due) * 1000)
                number += 1
            await asyncio.sleep(TICK_S)
        limit = time.monotonic() + ARRIVAL_LIMIT_S
        while self.missing and time.monotonic() < limit:  # noqa: ASYNC110 - an event would be looked after at each delivery
            await asyncio.sleep(0.01)
        for client, _ in self._clients:
            if client.lost is not None:
                raise RuntimeError(client.lost)
            client.close()

    @property
    def missing(self) -> int:
        """Answers, and deliveries of what was acked, that have not come."""
        answers, deliveries = len(self.acked_ms) + self.refused, len(self.delivered_ms)
        return self.sent - answers + max(0, NODES * len(self.acked_ms) - deliveries)

    def figures(self) -> dict[str, Any]:
        """What was seen, sorted."""
        times = {"delivered": self.delivered_ms, "acked": self.acked_ms, "late": self.late_ms}
        counts = {"sent": self.sent, "refused": self.refused, "missing": self.missing}
        return {name: sorted(values) for name, values in times.items()} | counts | {"cpu_s": time.process_time()}

    async def _until_ok(self, client: LeanClient, verb: str, payload: dict[str, str]) -> None:
        """A node learns of a room a moment after another one made it."""
        limit = time.monotonic() + ARRIVAL_LIMIT_S
        while not (answer := await client.ask(verb, payload))["ok"]:
            if time.monotonic() > limit:
                raise RuntimeError(f"{verb}: {answer}")
            await asyncio.sleep(0.02)

    def _delivered(self, due: float, now: float) -> None:
        if due >= self._counted_from:
            self.delivered_ms.append((now - due) * 1000)

    def _acked(self, due: float, now: float, ok: bool) -> None:
        if due < self._counted_from:
            return
        if ok:
            self.acked_ms.append((now - due) * 1000)
        else:
            self.refused += 1


async def _child() -> None:
    """The clients' process: told by a line what to do, it answers with a line."""
    asked = json.loads(sys.stdin.readline())
    crowd = Crowd(asked["rate"])
    await crowd.connect(asked["places"])
    before = time.process_time()
    await crowd.speak()
    figures = crowd.figures()
    figures["cpu_s"] -= before
    print(json.dumps(figures), flush=True)


def _places(urls: list[str]) -> list[dict[str, str]]:
    """For each room a user on each node."""
    places = []
    expires = time.time() + 3_600
    for room in range(ROOMS):
        for number, url in enumerate(urls):
            token = jwt.encode({"sub": f"u{room}-{number}", "exp": expires, "iat": time.time()}, SECRET, algorithm="HS256")
            places.append({"url": url, "token": token, "room": f"room-{room}"})
    return places


def _measure(folder: Path, rate: int) -> dict[str, Any]:
    """Three new nodes on a new log, at one rate."""
    with ExitStack() as stack:
        nodes = [stack.enter_context(LocalNode(f"n{number}", folder)) for number in range(1, NODES + 1)]
        for node in nodes:
            node.wait_ready(READY_LIMIT_S)
        asked = json.dumps({"rate": rate, "places": _places([node.url() or "" for node in nodes])}) + "\n"
        before = [node.cpu_seconds() for node in nodes]
        limit_s = WARM_UP_S + SECONDS + ARRIVAL_LIMIT_S + 60
        command = [sys.executable, "-m", "bench.end_to_end"]
        answer = subprocess.run(command, input=asked, stdout=subprocess.PIPE, text=True, timeout=limit_s, cwd=ROOT, check=True)
        cpu = [node.cpu_seconds() - began for node, began in zip(nodes, before, strict=True)]
        memory = [node.memory_mb()["memory_peak_mb"] for node in nodes]
        for node in nodes:
            node.stop()
    return _row(rate, json.loads(answer.stdout), cpu, memory)


def _row(rate: int, seen: dict[str, Any], cpu: list[float], memory: list[float]) -> dict[str, Any]:
    row: dict[str, Any] = {"messages_per_second": rate}
    for name, title in (("delivered", "delivery"), ("acked", "ack"), ("late", "generator_late")):
        values = seen[name]
        row |= {
            f"{title}_p50_ms": round(percentile(values, 0.5), 2),
            f"{title}_p99_ms": round(percentile(values, 0.99), 2),
            f"{title}_max_ms": round(values[-1], 2),
        }
    row |= {"sent": seen["sent"], "deliveries": len(seen["delivered"]), "refused": seen["refused"], "missing": seen["missing"]}
    row |= {"nodes_cpu_s": [round(used, 1) for used in cpu], "clients_cpu_s": round(seen["cpu_s"], 1), "nodes_memory_mb": memory}
    return row


_COLUMNS = ("messages_per_second", "delivery_p50_ms", "delivery_p99_ms", "ack_p50_ms", "ack_p99_ms", "refused", "missing")


def main() -> None:
    """Measure at each rate, print a table, write the results."""
    before = machine()
    print(f"{NODES} nodes, {ROOMS} rooms of {NODES} members, {SECONDS:.0f} s at each rate")
    print(" ".join(f"{column:>19}" for column in _COLUMNS))
    rows = []
    for rate in RATES:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(row := _measure(Path(folder), rate))
        print(" ".join(f"{row[column]!s:>19}" for column in _COLUMNS), flush=True)
    facts = {"nodes": NODES, "rooms": ROOMS, "members_of_a_room": NODES, "seconds": SECONDS}
    print(f"written to {write_results('end_to_end', rows, measured_on=before, **facts)}")


if __name__ == "__main__":
    uvloop.run(_child())
