"""Clients on the official socket.io-client, in a Node.js process of their own, and what they were acked and saw."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from tests.support.told import PATIENCE_S, Line, Told
from tests.support.wait import wait_until

_SCRIPT = Path(__file__).parent / "js" / "clients.cjs"
_AT_ONCE = 262_144  # bytes
_LINES = msgspec.json.Decoder()
QUICK = {"reconnectionDelay": 100, "reconnectionDelayMax": 400}  # socket.io-client's own defaults are 1,000 and 5,000


class JsClients(Told):
    """The clients of one Node.js process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        super().__init__()
        self._process = process
        self._tokens: dict[str, Callable[[], str]] = {}
        self._asked = 0
        self._answers: dict[int, Line] = {}

    async def open(
        self, client: str, urls: list[str], token: Callable[[], str], *, wait: bool = True, **options: Any
    ) -> Line | None:
        """Connect a client to the first of `urls`, to the next at each reconnect; `token` is called at every connect.

        `options` are socket.io-client's. Returns its first `welcome`, where it is waited for.
        """
        self._tokens[client] = token
        self.begin(client)
        self._command("open", client=client, urls=urls, options=QUICK | options)
        return await self.told(client, "welcome") if wait else None

    def send(self, client: str, room: str, prefix: str, count: int) -> None:
        """Send `count` messages at once, with the ids `prefix-0`, …; each is repeated until it is acked."""
        self._command("send", client=client, room=room, prefix=prefix, count=count)

    def talk(self, client: str, room: str, prefix: str, *, every_ms: float, most: int) -> None:
        """From now on send a message every so often, while fewer than `most` are unacked; each is repeated until it is acked."""
        self._command("talk", client=client, room=room, prefix=prefix, every=every_ms, most=most)

    async def hush(self, client: str) -> int:
        """Say nothing new; returns how many messages it has talked."""
        self._command("hush", client=client)
        await wait_until(lambda: self.of(client, "hushed"), PATIENCE_S, f"{client} is hushed")
        spoken: int = self.of(client, "hushed")[-1]["spoken"]
        return spoken

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

    def _command(self, do: str, **fields: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **fields}).encode() + b"\n")

    async def read(self) -> None:
        """Take in what the clients tell, until their process ends."""
        assert self._process.stdout is not None
        begun = b""  # of a line
        while some := await self._process.stdout.read(_AT_ONCE):
            whole, newline, begun = (begun + some).rpartition(b"\n")
            for line in _LINES.decode_lines(whole + newline):
                self._take(line)

    def _take(self, line: Line) -> None:
        match line["kind"]:
            case "token":
                self._command("token", ask=line["ask"], token=self._tokens[line["client"]]())
            case "answer" if line["ref"] is not None:
                self._answers[line["ref"]] = line
            case _:
                self.add(line)


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
