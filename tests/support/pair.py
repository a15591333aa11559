"""Two people in one room, each on a node of his own."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.support.client import Client, chat_client, ok
from tests.support.nodes import Cluster
from tests.support.tokens import token


@asynccontextmanager
async def pair(cluster: Cluster, room: str, **fields: Any) -> AsyncIterator[tuple[Client, Client]]:
    """`ann-ROOM` on the first node owns the room, `bob-ROOM` on the second has joined it; both have heard of that."""
    async with chat_client(cluster[0].url, token(f"ann-{room}")) as ann, chat_client(cluster[1].url, token(f"bob-{room}")) as bob:
        ok(await ann.ask("room:create", {"room": room, **fields}))
        ok(await bob.ask("room:join", {"room": room}))
        for client in (ann, bob):
            await client.expect("joined", user=f"bob-{room}")
        yield ann, bob


async def both_hear(clients: tuple[Client, Client], name: str, payload: dict[str, Any], **fields: Any) -> None:
    """Both are sent this event, exactly so."""
    for client in clients:
        assert await client.expect(name, **fields) == payload


def recent(at: Any) -> bool:
    """Whether a moment (ms) is about now."""
    return isinstance(at, int) and abs(time.time() * 1000 - at) < 10_000
