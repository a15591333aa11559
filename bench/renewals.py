"""2,000 sockets whose tokens share one `exp`, on one node: when they are closed, and how their renewals are spread.

First nobody renews: how long after `exp` does each one hear `auth:expired` and the WebSocket's close frame, which the limit is on,
and, once it has answered that one, the end of its TCP connection? Then all renew, three times: when the node tells them to
(levelling), at a moment that each draws from the same window, and a fixed time before the end, as a timer does. The last two are
renewals without levelling on the very same node: `auth:refresh` may be sent at any time, so a client with a timer of its own has
none. A rate is that of the requests as clients send them. All clients are one process beside the node.
"""

import asyncio
import os
import random
import tempfile
import time
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import jwt
import msgspec
import uvloop

from bench.chart import Line, Panel, write_chart
from bench.expiring_client import ExpiringClient
from bench.local_node import ROOT, SECRET, LocalNode
from bench.report import machine, percentile, write_results

SOCKETS = 2_000
WINDOW_S = 20.0  # of the renewals
JOIN_S = 15.0  # for all to connect in, before the window opens
LIFE_S = 60.0  # of a token: it is minted before the sockets come, so that the window is not half of what is left of it
MARGIN_S = WINDOW_S / 2  # of the timers
TAIL = 1 / 16  # of the window, at its end: the node tells nobody so late, and nobody draws it
AT_ONCE = 32  # sockets that connect at a time
LEVEL_LIMIT = 1.5  # times the level line: what the renewals of a second may be
CLOSE_LIMIT_MS = 250.0
AFTER_S = 1.0  # how long after `exp` it is looked who is still there
READY_LIMIT_S = 30.0
PLOT = ROOT / "docs" / "renewals.svg"
PLOT_STEP_S = 0.1

Habit = Literal["never", "told", "drawn", "margin"]
NAMES: dict[Habit, str] = {"told": "told", "drawn": "drawn", "margin": "by timers"}  # in the plot


# Pure


class Moment(msgspec.Struct, frozen=True):
    """The second that had the most: when it ended, and how many there were."""

    at: float
    count: int


def in_last_second(ordered: Sequence[float], at: float) -> int:
    """How many of the sorted times lie in `(at - 1, at]`."""
    return bisect_right(ordered, at) - bisect_right(ordered, at - 1)


def peak_second(ordered: Sequence[float]) -> Moment:
    """The fullest second there is, wherever it begins; raises `ValueError` for no times."""
    return max((Moment(at, in_last_second(ordered, at)) for at in ordered), key=lambda moment: moment.count)


def level_line(sockets: int, window_s: float) -> float:
    """Renewals a second if they were spread over the whole window without a ripple."""
    return sockets / window_s


def lateness(moments: Sequence[float], expires_at: float) -> dict[str, float]:
    """How long after `expires_at` (s) the moments lie, in ms."""
    ordered = sorted(1000 * (moment - expires_at) for moment in moments)
    figures = {"min": ordered[0], "p50": percentile(ordered, 0.5), "p99": percentile(ordered, 0.99), "max": ordered[-1]}
    return {name: round(value, 1) for name, value in figures.items()}


# Measured


class Others:
    """What the rest of the machine uses of its cores meanwhile: the figures are of a quiet one only where that is next to nothing."""

    def __init__(self, node: LocalNode) -> None:
        self._node, self._began, self._before = node, time.monotonic(), self._used_s(node)

    def cores(self) -> float:
        """Since the beginning, on average, without the node and this process."""
        return round(max(0.0, self._used_s(self._node) - self._before) / (time.monotonic() - self._began), 2)

    @staticmethod
    def _used_s(node: LocalNode) -> float:
        fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        busy = sum(fields) - fields[3] - fields[4]  # without idle and iowait
        return busy / os.sysconf("SC_CLK_TCK") - node.cpu_seconds() - time.process_time()


class Crowd:
    """Sockets that share one `exp` and one habit."""

    def __init__(self, habit: Habit) -> None:
        self._habit = habit
        self.others_cores = 0.0
        self.expires_at = float(int(time.time() + JOIN_S + WINDOW_S) + 1)
        self.clients: list[ExpiringClient] = []

    async def run(self, node: LocalNode) -> None:
        """Connect, and wait until a little after the end. Raises `RuntimeError` where they were not all in before the window."""
        url = node.url()
        assert url is not None
        await self._join(url)
        opens = self.expires_at - WINDOW_S
        if time.time() >= opens:
            raise RuntimeError(f"{SOCKETS} sockets were not connected within {JOIN_S} s")
        loop, draw = asyncio.get_running_loop(), random.Random(1)
        for client in self.clients if self._habit in ("drawn", "margin") else []:
            margin = WINDOW_S * (TAIL + (1 - TAIL) * draw.random()) if self._habit == "drawn" else MARGIN_S
            loop.call_later(self.expires_at - margin - time.time(), client.renew)
        measured_from = self.expires_at - AFTER_S if self._habit == "never" else opens
        await asyncio.sleep(measured_from - time.time())
        others = Others(node)
        await asyncio.sleep(self.expires_at + AFTER_S - time.time())
        self.others_cores = others.cores()

    async def leave(self) -> None:
        """Close what is open."""
        for client in self.clients:
            client.close()
        await asyncio.sleep(0.5)  # the node's work on it is not the next run's

    async def _join(self, url: str) -> None:
        names = iter(range(SOCKETS))

        async def some() -> None:
            for number in names:
                claims = {"sub": f"u{number}", "iat": self.expires_at - LIFE_S, "exp": self.expires_at}
                token = jwt.encode(claims, SECRET, algorithm="HS256")
                renewal = jwt.encode(claims | {"exp": self.expires_at + 3_600}, SECRET, algorithm="HS256")
                when_told = self._habit == "told"
                self.clients.append(await ExpiringClient.join(url, token, renewal=renewal, when_told=when_told))

        await asyncio.gather(*(some() for _ in range(AT_ONCE)))


async def closes(node: LocalNode) -> dict[str, Any]:
    """Nobody renews: the lateness of each step of the end."""
    crowd = Crowd("never")
    await crowd.run(node)
    row: dict[str, Any] = {"habit": "never", "sockets": SOCKETS}
    moments = {
        "told": [client.told for client in crowd.clients],
        "closed": [client.closed for client in crowd.clients],
        "gone": [client.gone for client in crowd.clients],
    }
    for step, seen in moments.items():
        known = [moment for moment in seen if moment is not None]
        row[f"not_{step}"] = len(seen) - len(known)
        row |= {f"{step}_{name}_ms": value for name, value in lateness(known, crowd.expires_at).items()}
    missing = row["not_told"] + row["not_closed"] + row["not_gone"]
    row["others_cores"] = crowd.others_cores
    row["kept"] = not missing and row["told_min_ms"] >= 0 and row["closed_max_ms"] <= CLOSE_LIMIT_MS
    await crowd.leave()
    return row


async def renewals(node: LocalNode, habit: Habit) -> tuple[dict[str, Any], list[float]]:
    """All renew: the row, and when each one did, in seconds before the end (negative). Raises `RuntimeError` where one was lost."""
    crowd = Crowd(habit)
    await crowd.run(node)
    if lost := [client.lost for client in crowd.clients if client.lost]:
        raise RuntimeError(f"{len(lost)} of those who renewed were lost: {lost[0]}")
    asked = [client.renewal_asked for client in crowd.clients if client.renewal_asked is not None]
    pairs = [(client.renewal_asked, client.renewal_done) for client in crowd.clients]
    answered_ms = sorted(1000 * (done - begun) for begun, done in pairs if begun is not None and done is not None)
    if len(answered_ms) != SOCKETS:
        raise RuntimeError(f"only {len(answered_ms)} of {SOCKETS} have renewed")
    times = sorted(moment - crowd.expires_at for moment in asked)
    peak, level = peak_second(times), level_line(SOCKETS, WINDOW_S)
    row = {
        "habit": habit,
        "sockets": SOCKETS,
        "first_s": round(times[0], 2),
        "last_s": round(times[-1], 2),
        "level_per_second": level,
        "peak_per_second": peak.count,
        "peak_at_s": round(peak.at, 2),
        "peak_over_level": round(peak.count / level, 3),
        "answered_p50_ms": round(percentile(answered_ms, 0.5), 1),
        "answered_p99_ms": round(percentile(answered_ms, 0.99), 1),
        "answered_max_ms": round(answered_ms[-1], 1),
        "others_cores": crowd.others_cores,
        "kept": peak.count <= LEVEL_LIMIT * level,
    }
    await crowd.leave()
    return row, times


async def measure(node: LocalNode) -> tuple[list[dict[str, Any]], dict[Habit, list[float]]]:
    """All of it on one node: a row for each habit, and when the renewals were."""
    rows = [await closes(node)]
    times: dict[Habit, list[float]] = {}
    _show(rows[0])
    habits: tuple[Habit, ...] = ("told", "drawn", "margin")
    for habit in habits:
        row, times[habit] = await renewals(node, habit)
        rows.append(row)
        _show(row)
    return rows, times


def _show(row: dict[str, Any]) -> None:
    print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)


def plot(times: dict[Habit, list[float]]) -> list[Panel]:
    """The renewals of the last second over the window: the spread ones on a scale of their own, then beside the timers."""
    level = level_line(SOCKETS, WINDOW_S)
    ends = (-WINDOW_S, 1.0)

    def flat(height: float, name: str) -> Line:
        return Line(name=name, colour="grey", points=[(x, height) for x in ends], dashed=True)

    def rates(habit: Habit, colour: str) -> Line:
        marks = [ends[0] + step * PLOT_STEP_S for step in range(round((ends[1] - ends[0]) / PLOT_STEP_S) + 1)]
        points = [(x, float(in_last_second(times[habit], x))) for x in marks]
        return Line(name=f"{NAMES[habit]}: at most {peak_second(times[habit]).count:,}", colour=colour, points=points)

    told, drawn, timers = rates("told", "blue"), rates("drawn", "orange"), rates("margin", "purple")
    levels = [
        flat(level, f"level: {level:,.0f}"),
        flat(LEVEL_LIMIT * level, f"{LEVEL_LIMIT:g} times level: {LEVEL_LIMIT * level:,.0f}"),
    ]
    return [
        Panel(title="Renewals in one second: told when by the node, or drawn by each client", lines=[told, drawn, *levels]),
        Panel(title=f"The same, beside timers that all ring {MARGIN_S:.0f} s before the end", lines=[timers, told, levels[0]]),
    ]


def main() -> None:
    """Measure, write the results and draw the plot."""
    measured_on = machine()
    settings = {"refresh_window_seconds": f"{WINDOW_S:g}", "handshake_rate": "100000", "handshake_burst": "100000"}
    with tempfile.TemporaryDirectory() as folder, LocalNode("n1", Path(folder), **settings) as node:
        node.wait_ready(READY_LIMIT_S)
        rows, times = uvloop.run(measure(node))
        node.stop()
    facts = {"window_s": WINDOW_S, "close_limit_ms": CLOSE_LIMIT_MS, "level_limit": LEVEL_LIMIT}
    path = write_results("renewals", rows, measured_on=measured_on, **facts)
    title = f"{SOCKETS:,} sockets whose tokens share one end renew: their rate, told by the node, drawn, and by timers"
    write_chart(PLOT, plot(times), title=title, x_label="seconds before their tokens' common end")
    for written in (path, PLOT):
        print(f"written to {written.relative_to(Path.cwd()) if written.is_relative_to(Path.cwd()) else written}")
