"""The ticker on the event loop that a node runs on: uvloop, whose timers are not all alike."""

import asyncio
import time

import uvloop

from node.auth.deadlines import Kind, Schedule, Ticker
from node.auth.levelling import Levels


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def place_while_one_is_due() -> list[tuple[Kind, str]]:
    """A session is placed while the timer of another one, which is due at once, stands."""
    heard: list[tuple[Kind, str]] = []
    both = asyncio.Event()

    def due(kind: Kind, session: str) -> None:
        heard.append((kind, session))
        if len(heard) == 2:
            both.set()

    now = now_ms()
    ticker = Ticker(Schedule(Levels(60_000)), now_ms, due)
    ticker.set("due", refresh_at=now - 20, expires_at=now - 10)
    ticker.set("later", refresh_at=now + 3_600_000, expires_at=now + 3_600_000)
    ticker.set("also due", refresh_at=now - 20, expires_at=now - 5)
    await asyncio.wait_for(both.wait(), 5)
    ticker.close()
    return heard


def test_a_session_is_placed_while_another_is_due() -> None:
    """A timer of nothing is a plain handle on uvloop, which does not say when it calls: nobody who comes or renews then fails."""
    assert uvloop.run(place_while_one_is_due()) == [("expire", "due"), ("expire", "also due")]
