"""Users on official JavaScript clients, spread over a cluster, all in one room and all talking: what the cluster tests share."""

import asyncio
from collections.abc import Sequence
from typing import Any

from loadtest.checker import Verdict, check
from tests.support.client import chat_client, ok
from tests.support.js import JsClients
from tests.support.nodes import Cluster, NodeProcess
from tests.support.tokens import token
from tests.support.told import Line
from tests.support.wait import wait_until

ALL_S = 60.0  # until everybody has everything, on a machine that is busy with other tests
WAYS = (["polling", "websocket"], ["websocket"])  # the users' transports, in turn
UNHURRIED = {"commands_per_second": "100000", "commands_burst": "100000"}  # settings: a user may say all he has to say at once


class Crowd:
    """`per_node` users begin on each node, or at each of the URLs that are given instead; each has one client, of the same name."""

    def __init__(
        self, js: JsClients, cluster: Cluster | Sequence[str], room: str, *, per_node: int, ways: Sequence[list[str]] = WAYS
    ) -> None:
        self.js, self.room, self._ways = js, room, ways
        self._urls = cluster.urls if isinstance(cluster, Cluster) else list(cluster)
        self.users = [f"user-{number}" for number in range(per_node * len(self._urls))]
        self.sent = 0

    def on(self, node: NodeProcess) -> list[str]:
        """The users that began on a node."""
        place = self._urls.index(node.url)
        return [user for number, user in enumerate(self.users) if number % len(self._urls) == place]

    async def gather(self) -> None:
        """Connect everybody, each in his way, and let them into the room."""
        urls = self._urls
        for number, user in enumerate(self.users):
            near_first = urls[number % len(urls) :] + urls[: number % len(urls)]
            transports = self._ways[number % len(self._ways)]
            await self.js.open(user, near_first, lambda user=user: token(user), transports=transports)  # type: ignore[misc]
        host, *guests = self.users
        ok(await self.js.ask(host, "room:create", {"room": self.room}))
        for answer in await asyncio.gather(*(self.js.ask(user, "room:join", {"room": self.room}) for user in guests)):
            ok(answer)

    async def upgraded(self) -> None:
        """Wait until who began by polling has his WebSocket: who polls may not be told why he loses it, as his POST is refused first."""
        wanted = [user for number, user in enumerate(self.users) if len(self._ways[number % len(self._ways)]) > 1]
        await wait_until(lambda: all(self.js.of(user, "upgrade") for user in wanted), ALL_S, "all have their WebSockets")

    def say(self, each: int) -> None:
        """Let everybody send `each` messages at once."""
        for user in self.users:
            self.js.send(user, self.room, f"{user}-{self.sent}", each)
        self.sent += each * len(self.users)

    async def acked(self, count: int | None = None) -> None:
        """Wait until so many messages are acked (all)."""
        wanted = self.sent if count is None else count
        await wait_until(lambda: self.js.count("acked") >= wanted, ALL_S, f"{wanted} messages are acked")

    async def seen(self) -> None:
        """Wait until everybody has seen the room's last event."""
        last = len(self.users) + self.sent  # one made the room, the others joined it
        for user in self.users:
            await wait_until(lambda user=user: self._last_seen(user) >= last, ALL_S, f"{user} sees event {last}")  # type: ignore[misc]

    def verdict(self) -> Verdict:
        """The checker's, over what everybody was acked and saw since the last one joined."""
        return check(self.js.histories({user: user for user in self.users}, self.room, after=len(self.users)))

    def orders(self) -> set[tuple[str, ...]]:
        """The orders in which the messages reached the users: one, if all is well."""
        return {tuple(line["payload"]["id"] for line in self.js.of(user, "seen", event="message")) for user in self.users}

    async def back(self, users: Sequence[str]) -> None:
        """Wait until each of these has been welcomed a second time; who had heard everything may take a moment longer than the rest."""
        await wait_until(lambda: all(len(self.welcomes(user)) > 1 for user in users), ALL_S, "they are back")

    def welcomes(self, user: str) -> list[Line]:
        """Every `welcome` that a user has had."""
        return [line["payload"] for line in self.js.of(user, "told", event="welcome")]

    def _last_seen(self, user: str) -> int:
        return max((line["payload"]["seq"] for line in self.js.of(user, "seen")), default=0)


async def history(node: NodeProcess, room: str) -> list[dict[str, Any]]:
    """A crowd's whole room as it reads on a node, page by page."""
    messages: list[dict[str, Any]] = []
    async with chat_client(node.url, token("user-0")) as reader:
        more, after = True, 0
        while more:
            page = ok(await reader.ask("history", {"room": room, "after": after, "limit": 100}))
            messages += page["messages"]
            more, after = page["more"], messages[-1]["seq"]
    return messages
