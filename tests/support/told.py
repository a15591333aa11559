"""What the stock clients of a test have told of themselves, in whatever language they are written."""

import json
from collections import Counter
from typing import Any

from loadtest.checker import Ack, History, Sight, Watch, posted
from tests.support.wait import wait_until

Line = dict[str, Any]
PATIENCE_S = 10.0


class Told:
    """Lines of named clients: `kind` (connect, disconnect, connect_error, told, seen, …), `client`, `at` (ms) and what belongs to it."""

    def __init__(self) -> None:
        self.lines: list[Line] = []  # of all of them, in order
        self._of: dict[str, dict[str, list[Line]]] = {}  # client -> kind -> lines
        self._count: Counter[str] = Counter()  # kind -> lines

    def begin(self, client: str) -> None:
        """From here on there is a client of this name."""
        self._of[client] = {}

    def add(self, line: Line) -> None:
        """A client has told this."""
        self.lines.append(line)
        self._of[line["client"]].setdefault(line["kind"], []).append(line)
        self._count[line["kind"]] += 1

    def of(self, client: str, kind: str, **fields: Any) -> list[Line]:
        """What a client told of one kind: connect, upgrade, disconnect, connect_error, told, seen, acked, refused."""
        lines = self._of[client].get(kind, [])
        return (
            [line for line in lines if all(line.get(name) == value for name, value in fields.items())] if fields else list(lines)
        )

    def count(self, kind: str) -> int:
        """How many lines of one kind all clients have told."""
        return self._count[kind]

    async def told(self, client: str, event: str, *, times: int = 1, deadline_s: float = PATIENCE_S) -> Line:
        """Wait for the `times`-th unsequenced event of this name; returns its payload."""
        what = f"{client} is told {event}, {times} times"
        await wait_until(lambda: len(self.of(client, "told", event=event)) >= times, deadline_s, what)
        payload: Line = self.of(client, "told", event=event)[times - 1]["payload"]
        return payload

    def histories(self, users: dict[str, str], room: str, *, after: int) -> list[History]:
        """What the checker wants to know, of clients that were to see `room` from `after` on: `users` is client -> user."""
        return [
            History(
                client=client,
                acks=[
                    Ack(room=line["room"], seq=line["seq"], event=posted(user, line["id"])) for line in self.of(client, "acked")
                ],
                sights=[_sight(line) for line in self.of(client, "seen") if line["payload"]["room"] == room],
                watches=[Watch(room=room, after=after)],
            )
            for client, user in users.items()
        ]


def _sight(line: Line) -> Sight:
    event, payload = line["event"], line["payload"]
    name = posted(payload["from"], payload["id"]) if event == "message" else json.dumps([event, payload], sort_keys=True)
    return Sight(room=payload["room"], seq=payload["seq"], event=name, at=line["at"], expires_at=line["expires_at"])
