"""Users on official JavaScript clients who talk at a steady rate for as long as a test lets them: what the fault tests share."""

import asyncio
from collections.abc import Sequence

from loadtest.checker import Verdict, check
from tests.support.client import ok
from tests.support.js import JsClients
from tests.support.nodes import Cluster, NodeProcess
from tests.support.tokens import token
from tests.support.wait import wait_until

ALL_S = 60.0  # until everybody has everything, on a machine that is busy with other tests
MOST_UNACKED = 6  # messages of one user: who is not heard does not go on talking, and one is carried out after the other
UNAVAILABLE_MS = 3_000  # PROTOCOL section 6: a send that is not accepted is refused within it
TOLERANCE_MS = 1_000  # on its way back to a client on a machine with everything else on it


class Talk:
    """`per_room` users in each of some rooms, spread over the nodes; all together say `rate` messages a second."""

    def __init__(self, js: JsClients, cluster: Cluster, name: str, *, rooms: int = 3, per_room: int = 3, rate: float) -> None:
        self.js, self._cluster = js, cluster
        self.rooms = [f"{name}-{number}" for number in range(rooms)]
        self._members = {room: [f"{room}-u{number}" for number in range(per_room)] for room in self.rooms}
        self._every_ms = 1000 * rooms * per_room / rate
        self._spoken: dict[str, int] = dict.fromkeys(self.rooms, 0)

    @property
    def users(self) -> list[str]:
        return [user for members in self._members.values() for user in members]

    def near(self, user: str) -> NodeProcess:
        """The node that a user begins on."""
        return self._cluster[self.users.index(user) % len(self._cluster.nodes)]

    async def begin(self) -> None:
        """Connect everybody, half by WebSocket and half by polling and upgrade, and let them talk."""
        urls = self._cluster.urls
        for number, user in enumerate(self.users):
            near_first = urls[number % len(urls) :] + urls[: number % len(urls)]
            transports = ["websocket"] if number % 2 else ["polling", "websocket"]
            await self.js.open(user, near_first, lambda user=user: token(user), transports=transports)  # type: ignore[misc]
        for room, (host, *guests) in self._members.items():
            ok(await self.js.ask(host, "room:create", {"room": room}))
            await asyncio.gather(*(self._join(user, room) for user in guests))
        for room, members in self._members.items():
            for user in members:
                self.js.talk(user, room, user, every_ms=self._every_ms, most=MOST_UNACKED)

    async def _join(self, user: str, room: str) -> None:
        """Join it, once it is known on the user's node too."""

        async def joined() -> bool:
            answer = await self.js.ask(user, "room:join", {"room": room})
            return bool(answer["ok"])

        await wait_until(joined, ALL_S, f"{user} joins {room}")

    async def acked(self, more: int, *, by: Sequence[str] | None = None, within_s: float = ALL_S) -> None:
        """Wait until each of these users (all) has been acked so many messages more than now."""
        users = by or self.users
        wanted = {user: len(self.js.of(user, "acked")) + more for user in users}
        late = f"{more} more messages of each of {len(users)} users are acked"
        await wait_until(lambda: all(len(self.js.of(user, "acked")) >= wanted[user] for user in users), within_s, late)

    async def end(self) -> None:
        """Let nobody say anything new, and wait until everything that was said is acked and seen by everybody in its room."""
        for room, members in self._members.items():
            self._spoken[room] = sum([await self.js.hush(user) for user in members])
        said = sum(self._spoken.values())
        await wait_until(lambda: self.js.count("acked") >= said, ALL_S, f"{said} messages are acked")
        for room, members in self._members.items():
            last = len(members) + self._spoken[room]  # one made the room, the others joined it
            for user in members:
                await wait_until(lambda u=user, n=last: self._last_seen(u) >= n, ALL_S, f"{user} sees event {last}")  # type: ignore[misc]

    def verdicts(self) -> list[Verdict]:
        """The checker's, room by room, over what everybody was acked and saw since the last one joined."""
        return [
            check(self.js.histories({user: user for user in members}, room, after=len(members)))
            for room, members in self._members.items()
        ]

    def slowest_refusal_ms(self) -> int:
        """How long the slowest answer took that was not an ack of success."""
        return max((line["after_ms"] for user in self.users for line in self.js.of(user, "delayed")), default=0)

    def refusals(self) -> set[str]:
        """The codes of all those answers."""
        return {line["code"] for user in self.users for line in self.js.of(user, "delayed")}

    def slowest_ack_ms(self) -> int:
        """How long it took from when a message was said to its ack, all refusals and repetitions between them, at most."""
        return max(line["after_ms"] for user in self.users for line in self.js.of(user, "acked"))

    def per_second(self, since_ms: int, until_ms: int) -> float:
        """How many messages a second were acked between two moments, of everybody together."""
        acked = sum(since_ms <= line["at"] < until_ms for user in self.users for line in self.js.of(user, "acked"))
        return acked / (until_ms - since_ms) * 1000

    def check(self, *, in_time: bool = True) -> None:
        """Nothing lost, nothing twice, nothing out of order, in every room; everybody was acked; refusals of one kind, and `in_time`."""
        for verdict, room in zip(self.verdicts(), self.rooms, strict=True):
            assert verdict.faults == (), f"{room}: {verdict}: {verdict.faults[:5]}"
            assert verdict.acked == self._spoken[room], f"{room}: {verdict}"
        assert self.refusals() <= {"unavailable"}, self.refusals()
        slowest = self.slowest_refusal_ms()
        assert not in_time or slowest <= UNAVAILABLE_MS + TOLERANCE_MS, f"a refusal took {slowest} ms"

    def _last_seen(self, user: str) -> int:
        lines = self.js.of(user, "seen")
        return lines[-1]["payload"]["seq"] if lines else 0


def same_on_every_node(cluster: Cluster) -> None:
    """`replay --verify` finds nothing on any node."""
    for node in cluster:
        done = node.tidegate("replay", "--verify")
        assert done.returncode == 0, f"{node.id}: {done.stdout}{done.stderr}"
