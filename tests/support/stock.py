"""The stock clients of both libraries side by side: every way of connecting in each, with a function for `auth` and nothing else."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from loadtest.checker import History
from tests.support.js import JsClients, js_clients
from tests.support.py_clients import PyClients, py_clients
from tests.support.tokens import token
from tests.support.told import Line

WAYS = {"websocket": ["websocket"], "polling": ["polling"], "both": ["polling", "websocket"]}
GUESTS = [f"{library}-{way}" for library in ("js", "py") for way in WAYS]
BACK_S = 20.0  # until everybody is back, on a machine that is busy with other tests
Tokens = Callable[[], str]


class Stock:
    """Clients with names like those in `GUESTS`: the library, the way, and more if there are several."""

    def __init__(self, js: JsClients, py: PyClients) -> None:
        self._all: dict[str, JsClients | PyClients] = {"js": js, "py": py}

    async def open(self, client: str, url: str, tokens: Tokens, *, wait: bool = True) -> None:
        """Connect one; `tokens` is called at every connect."""
        transports = WAYS[client.split("-")[1]]
        of = self._of(client)
        if isinstance(of, JsClients):
            await of.open(client, [url], tokens, wait=wait, transports=transports)
        else:
            await of.open(client, url, tokens, wait=wait, transports=transports)

    async def ask(self, client: str, event: str, payload: Any) -> Line:
        """Emit an event and return its ack."""
        return await self._of(client).ask(client, event, payload)

    def of(self, client: str, kind: str, **fields: Any) -> list[Line]:
        """See `Told`."""
        return self._of(client).of(client, kind, **fields)

    def welcomes(self, client: str) -> list[Line]:
        """Every `welcome` that it has had."""
        return [line["payload"] for line in self.of(client, "told", event="welcome")]

    async def welcomed(self, clients: list[str], times: int) -> None:
        """Wait until each of them has had so many welcomes."""
        for client in clients:
            await self._of(client).told(client, "welcome", times=times, deadline_s=BACK_S)

    def histories(self, clients: list[str], room: str, *, after: int) -> list[History]:
        """See `Told`; each client's user has its name."""
        return [one for client in clients for one in self._of(client).histories({client: client}, room, after=after)]

    def _of(self, client: str) -> JsClients | PyClients:
        return self._all[client[:2]]


@asynccontextmanager
async def stock_clients() -> AsyncIterator[Stock]:
    """Room for clients, which end with the block."""
    async with js_clients() as js, py_clients() as py:
        yield Stock(js, py)


def lives(user: str, *ttls: float) -> Tokens:
    """A fresh token at each call, of these lifetimes in turn, and the last one from then on."""
    left = list(ttls)
    return lambda: token(user, ttl=left.pop(0) if len(left) > 1 else left[0])
