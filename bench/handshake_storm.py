"""10,000 handshakes at once against one node that serves a chat: what it admits, what it refuses, what it costs those who are in.

Everyone opens a WebSocket in the same moment. Who gets 503 comes again after its `Retry-After` and up to a second more; who is in stays.
Admission is left to the node's own measurement. Meanwhile members of a room talk, and each has to hear every message once, in order.
All clients are one process beside the node, on the same cores: what it costs is in the latencies too.
"""

import asyncio
import json
import random
import re
import tempfile
import time
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import jwt
import uvloop

from bench.lean_client import LeanClient
from bench.local_node import SECRET, LocalNode
from bench.report import machine, percentile, write_results

CROWD = 10_000
MEMBERS = 10
MESSAGES_PER_S = 50
LIMIT_S = 180.0
READY_LIMIT_S = 30.0
COUNTED = re.compile(r'tidegate_handshakes_total\{code="([^"]*)",.*outcome="([^"]*)".*\} ([\d.]+)')


class Knock(asyncio.Protocol):
    """One try to get in: ended by `welcome`, by a refusal, or by the connection's loss."""

    def __init__(self, netloc: str, token: str) -> None:
        self._netloc, self._token = netloc, token
        self._buffer = b""
        self._open = False
        self.transport: asyncio.Transport
        self.ended: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for a WebSocket."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(
            f"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {self._netloc}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {'a' * 22}==\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        """Pass CONNECT once it is open; find `welcome`, or when to come again. Pings are answered."""
        if self._open and self.ended.done():
            if data == b"\x81\x012":  # a ping, after `welcome`
                self.transport.write(_frame(b"3"))
            return
        self._buffer += data
        if not self._open and b"\r\n\r\n" in self._buffer:
            head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
            self._open = head.startswith(b"HTTP/1.1 101 ")
            if self._open:
                self.transport.write(_frame(b"40" + json.dumps({"token": self._token}).encode()))
            else:
                found = re.search(rb"retry-after: (\d+)", head, re.IGNORECASE)
                assert head.startswith(b"HTTP/1.1 503 "), head
                assert found is not None, head
                self._end(int(found[1]))
        if b'42["welcome"' in self._buffer:
            self._buffer = b""
            self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Neither in nor told when to come."""
        if not self.ended.done():
            self.ended.set_exception(ConnectionError(f"closed without an answer: {exc}"))

    def _end(self, retry_after_s: int | None) -> None:
        if not self.ended.done():
            self.ended.set_result(retry_after_s)


def _frame(payload: bytes) -> bytes:
    size = len(payload)
    head = bytes((0x81, 0x80 | size)) if size < 126 else bytes((0x81, 0xFE)) + size.to_bytes(2, "big")
    return head + b"\0\0\0\0" + payload


class Storm:
    """The crowd, and what became of each try."""

    def __init__(self, url: str, crowd: int) -> None:
        self._address, self._crowd = urlsplit(url), crowd
        self.admitted_s: list[float] = []
        self.refused_s: list[float] = []
        self.told_s: list[int] = []
        self.unanswered = 0
        self._inside: list[Knock] = []

    async def run(self) -> float:
        """Everyone at once, until all are in; the seconds that it took."""
        began = time.monotonic()
        async with asyncio.timeout(LIMIT_S):
            await asyncio.gather(*(self._come_in(_token(f"user-{number}")) for number in range(self._crowd)))
        return time.monotonic() - began

    async def _come_in(self, token: str) -> None:
        host, port = self._address.hostname or "", self._address.port or 0
        while True:
            began = time.monotonic()
            try:
                _, knock = await asyncio.get_running_loop().create_connection(
                    lambda: Knock(self._address.netloc, token), host, port
                )
                wait_s = await knock.ended
            except OSError:
                self.unanswered += 1
                await asyncio.sleep(1 + random.random())
                continue
            took = time.monotonic() - began
            if wait_s is None:
                self.admitted_s.append(took)
                self._inside.append(knock)
                return
            self.refused_s.append(took)
            self.told_s.append(wait_s)
            knock.transport.close()
            await asyncio.sleep(wait_s + random.random())

    def close(self) -> None:
        """Leave, all of them."""
        for knock in self._inside:
            knock.transport.abort()


class Talk:
    """The members of a room, who talk all the while; a message's text is the moment when it was due."""

    def __init__(self) -> None:
        self.delivered_ms: list[float] = []
        self.sent = self.acked = 0
        self.heard: list[list[float]] = [[] for _ in range(MEMBERS)]  # of each member: what it heard, by the moment it was due
        self._members: list[LeanClient] = []
        self._over, self._arrived = asyncio.Event(), asyncio.Event()

    async def begin(self, url: str) -> None:
        """Everyone of the room is in it."""
        for number in range(MEMBERS):
            delivered = partial(self._delivered, number)
            member = await LeanClient.connect(url, _token(f"member-{number}"), delivered=delivered, acked=self._acked)
            await member.ask("room:join" if number else "room:create", {"room": "talk"})
            self._members.append(member)

    async def run(self) -> None:
        """Talk until `stop`, then wait for what is under way."""
        began = time.monotonic()
        while not self._over.is_set():
            due = began + self.sent / MESSAGES_PER_S
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            self._members[self.sent % MEMBERS].say(b"talk", due)
            self.sent += 1
        self._arrived.clear()
        self._look()
        async with asyncio.timeout(30):
            await self._arrived.wait()

    def stop(self) -> None:
        """Say no more."""
        self._over.set()

    def lost(self) -> list[str]:
        """Members who were disconnected, and why."""
        return [member.lost for member in self._members if member.lost]

    def faults(self) -> int:
        """Members who did not hear just what was acked, each once, in the order in which the first of them did."""
        first = self.heard[0]
        once = len(set(first)) == len(first) == self.acked
        return sum(heard != first for heard in self.heard) if once else MEMBERS

    def _delivered(self, member: int, due: float, now: float) -> None:
        self.heard[member].append(due)
        self.delivered_ms.append((now - due) * 1000)
        self._look()

    def _acked(self, due: float, now: float, ok: bool) -> None:
        assert ok, "a message was refused"
        self.acked += 1
        self._look()

    def _look(self) -> None:
        if self._over.is_set() and self.acked == self.sent and len(self.delivered_ms) == self.acked * MEMBERS:
            self._arrived.set()


def _token(user: str) -> str:
    return jwt.encode({"sub": user, "iat": time.time(), "exp": time.time() + 3_600}, SECRET, algorithm="HS256")


def _counted(url: str) -> dict[str, int]:
    """The node's own count of handshakes, by outcome and code."""
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        text = answer.read().decode()
    counts: dict[str, int] = {}
    for code, outcome, value in COUNTED.findall(text):
        name = f"{outcome} {code}".strip()
        counts[name] = counts.get(name, 0) + int(float(value))
    return counts


async def storm(node: LocalNode, crowd: int) -> dict[str, Any]:
    """The storm on a node that runs, and what was seen of it."""
    url = node.url()
    assert url is not None
    talk, everyone = Talk(), Storm(url, crowd)
    await talk.begin(url)
    before = node.memory_mb()["memory_mb"]
    talking = asyncio.create_task(talk.run())
    all_in_s = await everyone.run()
    talk.stop()
    await talking
    counted = await asyncio.to_thread(_counted, url)
    memory = node.memory_mb()
    everyone.close()
    return {
        "handshakes": crowd,
        "all_in_s": round(all_in_s, 1),
        **_spread("admitted", [1000 * s for s in everyone.admitted_s]),
        **_spread("refused", [1000 * s for s in everyone.refused_s]),
        "refusals": len(everyone.refused_s),
        "unanswered": everyone.unanswered,
        "retry_after_s": {"least": min(everyone.told_s, default=0), "most": max(everyone.told_s, default=0)},
        "counted_by_the_node": counted,
        "memory_before_mb": before,
        "memory_all_in_mb": memory["memory_mb"],
        "memory_peak_mb": memory["memory_peak_mb"],
        "messages": talk.sent,
        "members_with_faults": talk.faults(),
        "members_lost": talk.lost(),
        **_spread("delivery", talk.delivered_ms),
        "node_cpu_s": node.cpu_seconds(),
    }


def _spread(name: str, values_ms: list[float]) -> dict[str, float]:
    ordered = sorted(values_ms)
    if not ordered:
        return {}
    figures = {"p50": percentile(ordered, 0.5), "p99": percentile(ordered, 0.99), "max": ordered[-1]}
    return {f"{name}_{key}_ms": round(value, 1) for key, value in figures.items()}


def main() -> None:
    """Run the storm and write the results."""
    measured_on = machine()
    with tempfile.TemporaryDirectory() as folder, LocalNode("n1", Path(folder)) as node:
        node.wait_ready(READY_LIMIT_S)
        row = uvloop.run(storm(node, CROWD))
        node.stop()
    for name, value in row.items():
        print(f"{name:>24}  {value}")
    path = write_results("handshake_storm", [row], measured_on=measured_on, members=MEMBERS, messages_per_second=MESSAGES_PER_S)
    print(f"written to {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")
