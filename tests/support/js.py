"""Clients on the official socket.io-client, in a Node.js process of their own, and what they were acked and saw."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from loadtest.checker import Ack, History, Sight, Watch, posted
from tests.support.wait import wait_until

Line = dict[str, Any]
_SCRIPT = Path(__file__).parent / "js" / "clients.cjs"
_LONGEST_LINE = 4_194_304  # bytes: an answer with a page of history in it
PATIENCE_S = 10.0
QUICK = {"reconnectionDelay": 100, "reconnectionDelayMax": 400}  # socket.io-client's own defaults are 1,000 and 5,000


class JsClients:
    """The clients of one Node.js process; `lines` has all they told, in order."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._tokens: dict[str, Callable[[], str]] = {}
        self._asked = 0
        self.lines: list[Line] = []
        self._of: dict[str, list[Line]] = {}
        self._answers: dict[int, Line] = {}

    async def open(
        self, client: str, urls: list[str], token: Callable[[], str], *, wait: bool = True, **options: Any
    ) -> Line | None:
        """Connect a client to the first of `urls`, to the next at each reconnect; `token` is called at every connect.

        `options` are socket.io-client's. Returns its first `welcome`, where it is waited for.
        """
        self._tokens[client], self._of[client] = token, []
        self._command("open", client=client, urls=urls, options=QUICK | options)
        return await self.told(client, "welcome") if wait else None

    def send(self, client: str, room: str, prefix: str, count: int) -> None:
        """Send `count` messages at once, with the ids `prefix-0`, …; each is repeated until it is acked."""
        self._command("send", client=client, room=room, prefix=prefix, count=count)

    async def ask(self, client: str, event: str, payload: Any) -> Line:
        """Emit an event and return its ack."""
        self._asked += 1
        asked = self._asked
        self._command("ask", client=client, ref=asked, event=event, payload=payload)
        await wait_until(lambda: asked in self._answers, PATIENCE_S, f"an ack to {event} of {client}")
        answer: Line = self._answers.pop(asked)["answer"]
        return answer

    def close(self, client: str) -> None:
        """Disconnect a client for good."""
        self._command("close", client=client)

    def of(self, client: str, kind: str, **fields: Any) -> list[Line]:
        """What a client told of one kind: connect, upgrade, disconnect, connect_error, told, seen, acked, refused."""
        lines = self._of[client]
        return [line for line in lines if line["kind"] == kind and all(line.get(name) == value for name, value in fields.items())]

    def count(self, kind: str) -> int:
        """How many lines of one kind all clients have told."""
        return sum(line["kind"] == kind for line in self.lines)

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

    def _command(self, do: str, **fields: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **fields}).encode() + b"\n")

    async def read(self) -> None:
        """Take in what the clients tell, until their process ends."""
        assert self._process.stdout is not None
        async for raw in self._process.stdout:
            line: Line = json.loads(raw)
            match line["kind"]:
                case "token":
                    self._command("token", ask=line["ask"], token=self._tokens[line["client"]]())
                case "answer" if line["ref"] is not None:
                    self._answers[line["ref"]] = line
                case _:
                    self.lines.append(line)
                    self._of[line["client"]].append(line)


def _sight(line: Line) -> Sight:
    event, payload = line["event"], line["payload"]
    name = posted(payload["from"], payload["id"]) if event == "message" else json.dumps([event, payload], sort_keys=True)
    return Sight(room=payload["room"], seq=payload["seq"], event=name, at=line["at"], expires_at=line["expires_at"])


@asynccontextmanager
async def js_clients() -> AsyncIterator[JsClients]:
    """A Node.js process for clients; it ends, and they with it, at the end of the block."""
    node = shutil.which("node")
    assert node is not None, "these tests need Node.js for the official client"
    process = await asyncio.create_subprocess_exec(
        node,
        str(_SCRIPT),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LONGEST_LINE,
    )
    clients = JsClients(process)
    reader = asyncio.create_task(clients.read())
    try:
        yield clients
        assert not reader.done(), "the clients' process ended by itself"
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()
        await reader
