"""A scrape of a node with 10,000 sessions: what it costs the node, and how long it holds it up.

The sessions are WebSockets that do nothing but answer pings; what the node spends on them is measured beside, and taken off. Before that
one user tries every command, and handshakes are refused by several codes, so that the metrics have the series of a node that serves.
"""

import asyncio
import contextlib
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import jwt
import uvloop

from bench.handshake_storm import Storm
from bench.lean_client import LeanClient
from bench.local_node import SECRET, LocalNode
from bench.report import machine, percentile, write_results

SESSIONS = 10_000
SCRAPES = 100  # of each form, one after the other
IDLE_S = 5.0  # over which the cost of the sessions alone is measured, before and after
READY_LIMIT_S = 30.0
FORMS = {"text": "text/plain", "openmetrics": "application/openmetrics-text"}
COMMANDS = (
    *(
        "room:create",
        "room:join",
        "message:send",
        "message:react",
        "message:edit",
        "history",
        "replay",
        "search",
        "read",
        "typing",
    ),
    *(
        "presence",
        "room:list",
        "room:members",
        "room:invite",
        "room:kick",
        "room:role",
        "message:delete",
        "room:leave",
        "no:such",
    ),
)


def _token(user: str, **claims: Any) -> str:
    return jwt.encode({"sub": user, "iat": time.time(), "exp": time.time() + 3_600} | claims, SECRET, algorithm="HS256")


async def _variety(url: str) -> None:
    """Something of everything that has labels."""
    client = await LeanClient.connect(url, _token("ann"), delivered=lambda *_: None, acked=lambda *_: None)
    await client.ask("auth:refresh", {"token": _token("ann")})
    for _ in range(2):
        for command in COMMANDS:
            await client.ask(
                command, {"room": "r", "text": "1", "id": "m", "emoji": "x", "on": True, "query": "t", "after": 0, "seq": 1}
            )
    client.close()
    for token in ("", "a.b", _token("x", exp=1.0), _token("x", nbf=2e9), _token("x", scope="nothing")):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(LeanClient.connect(url, token, delivered=lambda *_: None, acked=lambda *_: None), 0.3)


def _scrape(url: str, accept: str) -> tuple[float, bytes]:
    began = time.monotonic()
    with urllib.request.urlopen(urllib.request.Request(f"{url}/metrics", headers={"Accept": accept})) as answer:
        body: bytes = answer.read()
    return time.monotonic() - began, body


async def _idle(node: LocalNode) -> float:
    """The share of a core that the sessions alone take."""
    began, used = time.monotonic(), node.cpu_seconds()
    await asyncio.sleep(IDLE_S)
    return (node.cpu_seconds() - used) / (time.monotonic() - began)


async def _measure(node: LocalNode) -> list[dict[str, Any]]:
    url = node.url() or ""
    crowd = Storm(url, SESSIONS)
    await crowd.run()
    await _variety(url)
    await asyncio.sleep(IDLE_S)  # what is left of the handshakes is written
    rows = []
    for form, accept in FORMS.items():
        idle, before, began = await _idle(node), node.cpu_seconds(), time.monotonic()
        scrapes = [await asyncio.to_thread(_scrape, url, accept) for _ in range(SCRAPES)]
        took, used = time.monotonic() - began, node.cpu_seconds() - before
        idle = (idle + await _idle(node)) / 2
        times = sorted(1000 * seconds for seconds, _ in scrapes)
        lines = [line for line in scrapes[-1][1].decode().splitlines() if not line.startswith("#")]
        rows.append(
            {
                "form": form,
                "cpu_of_a_scrape_ms": round(1000 * (used - idle * took) / SCRAPES, 2),
                "answer_p50_ms": round(percentile(times, 0.5), 1),
                "answer_p99_ms": round(percentile(times, 0.99), 1),
                "series": len(lines),
                "kib": round(len(scrapes[-1][1]) / 1024, 1),
                "cpu_of_the_sessions_share": round(idle, 3),
            }
        )
    crowd.close()
    return rows


def main() -> None:
    """Measure, print the figures, write the results."""
    before = machine()
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalNode("n1", Path(folder), handshake_rate="1000", handshake_burst="1000") as node,
    ):
        node.wait_ready(READY_LIMIT_S)
        rows = uvloop.run(_measure(node))
        node.stop()
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()))
    path = write_results("scrape", rows, measured_on=before, sessions=SESSIONS, scrapes=SCRAPES)
    print(f"written to {path}")
