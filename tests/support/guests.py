"""Users who only stay, on plain clients in a thread of their own: for tests that have no event loop, since they drive a browser."""

import asyncio
import threading
from collections import Counter
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self, TypeVar

from websockets.exceptions import InvalidStatus

from tests.support.client import Client, ConnectRefused, ok, raw_client
from tests.support.wait import block_until, wait_until

_T = TypeVar("_T")
AT_ONCE = 20  # who connect at the same time
ALL_S = 30.0


class Guests:
    """As a context manager it ends with all of its clients gone."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="guests", daemon=True)
        self._stack = AsyncExitStack()
        self._clients: list[Client] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._run(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(ALL_S)

    def come(self, urls: Sequence[str], tokens: Sequence[str]) -> "list[Client]":
        """One client for each token, welcomed in `/`, spread over the nodes in turn; they stay until they are sent away."""
        came = self._run(self._at_once([self._come(urls[place % len(urls)], token) for place, token in enumerate(tokens)]))
        self._clients += came
        return came

    def renew(self, clients: Sequence[Client], tokens: Sequence[str]) -> None:
        """Each hands in another token, all at once."""
        asked = [client.ask("auth:refresh", {"token": token}) for client, token in zip(clients, tokens, strict=True)]
        for answer in self._run(_all(asked)):
            ok(answer)

    def knock(self, urls: Sequence[str], tokens: Sequence[str]) -> Counter[str]:
        """How often a try with each of these tokens ended how: `welcome`, the code of a refusal, or the HTTP status of one."""
        return Counter(self._run(self._at_once([_knock(urls[place % len(urls)], token) for place, token in enumerate(tokens)])))

    @property
    def staying(self) -> int:
        """How many are still connected."""
        return sum(not client.closed for client in self._clients)

    def gone(self, clients: Sequence[Client]) -> None:
        """Block until all of these have been closed by their node."""
        block_until(lambda: all(client.closed for client in clients), ALL_S, "these are closed")

    async def _come(self, url: str, token: str) -> Client:
        """However often the node has no room for one more handshake just now."""
        came: list[Client] = []

        async def in_() -> bool:
            try:
                came.append(await self._stack.enter_async_context(raw_client(url)))
            except InvalidStatus as refused:
                if refused.response.status_code != 503:
                    raise
            return bool(came)

        await wait_until(in_, ALL_S, "the node lets one more in")
        await came[0].join_namespace({"token": token})
        return came[0]

    async def _at_once(self, works: Sequence[Coroutine[Any, Any, _T]]) -> list[_T]:
        places = asyncio.Semaphore(AT_ONCE)

        async def one(work: Coroutine[Any, Any, _T]) -> _T:
            async with places:
                return await work

        return list(await asyncio.gather(*map(one, works)))

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(ALL_S)


async def _all(works: Sequence[Coroutine[Any, Any, _T]]) -> list[_T]:
    return list(await asyncio.gather(*works))


async def _knock(url: str, token: str) -> str:
    try:
        async with raw_client(url) as client:
            await client.join_namespace({"token": token})
            return "welcome"
    except ConnectRefused as refused:
        return refused.code
    except InvalidStatus as refused:
        return str(refused.response.status_code)
