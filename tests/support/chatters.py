"""Processes of the application `chatter`, and stock python-socketio clients of theirs."""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import socketio

from tests.support.wait import wait_until

PATIENCE_S = 20.0
FAULTS = ("a fault in the manager", "could not be carried out", "a callback failed", "never retrieved", "never awaited")


class Guest:
    """A client on one process; `heard` has what it was sent: (event, arguments), namespace by namespace."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.socket = socketio.AsyncClient(handle_sigint=False, reconnection=False)
        self.heard: dict[str, list[tuple[str, Any]]] = {}
        self.answer: Any = None  # to `question`

    async def connect(self, namespaces: list[str], transports: list[str]) -> None:
        for namespace in namespaces:
            self._listen(namespace)
        await self.socket.connect(self.url, namespaces=namespaces, transports=transports, wait_timeout=PATIENCE_S)

    def _listen(self, namespace: str) -> None:
        heard = self.heard[namespace] = []

        async def hear(event: str, *arguments: Any) -> Any:
            heard.append((event, arguments[0] if len(arguments) == 1 else arguments))
            return self.answer if event == "question" else None

        async def disconnect(_: str) -> None:
            heard.append(("disconnect", ()))

        self.socket.on("*", hear, namespace=namespace)
        self.socket.on("disconnect", disconnect, namespace=namespace)

    def sid(self, namespace: str = "/") -> str:
        sid = self.socket.get_sid(namespace)
        assert isinstance(sid, str)
        return sid

    async def ask(self, event: str, *arguments: Any, namespace: str = "/") -> Any:
        """Emit an event and return its ack."""
        return await self.socket.call(event, arguments, namespace=namespace, timeout=PATIENCE_S)

    def said(self, namespace: str = "/") -> list[Any]:
        """What `said` brought, in order."""
        return [arguments for event, arguments in self.heard[namespace] if event == "said"]

    def gone(self, sids: list[str]) -> list[str]:
        """Of these clients, whose ends `gone` brought, in order."""
        return [arguments for event, arguments in self.heard["/"] if event == "gone" and arguments in sids]

    def ticks(self) -> list[tuple[str, int]]:
        """The texts and numbers that `tick` brought, in order."""
        return [(arguments["text"], arguments["number"]) for event, arguments in self.heard["/"] if event == "tick"]

    async def hears(self, count: int, namespace: str = "/") -> list[Any]:
        """Wait until `said` has brought so much."""
        await wait_until(lambda: len(self.said(namespace)) >= count, PATIENCE_S, f"{count} times said")
        return self.said(namespace)


@asynccontextmanager
async def guest(url: str, *namespaces: str, transports: tuple[str, ...] = ("websocket",)) -> AsyncIterator[Guest]:
    """A client that is connected to these namespaces, or to `/`."""
    one = Guest(url)
    await one.connect(list(namespaces) or ["/"], list(transports))
    try:
        yield one
    finally:
        await one.socket.shutdown()


class Chatter:
    """One process of the application."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.url = ""
        self.complaints: list[str] = []

    async def read(self) -> None:
        """Keep what it complains of."""
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.complaints.append(line.decode(errors="replace").rstrip())

    def complained(self, words: str) -> bool:
        """Whether it has logged something with these words."""
        return any(words in line for line in self.complaints)


@asynccontextmanager
async def chatters(kind: str, url: str, count: int, *options: str) -> AsyncIterator[list[Chatter]]:
    """So many processes, all on the broker at `url`; they end with the block, and fail it where one has a fault of its own."""
    command = [sys.executable, "-m", "tests.support.chatter", kind, url, *options]
    found: list[Chatter] = []
    readers: list[asyncio.Task[None]] = []
    try:
        for _ in range(count):
            found.append(Chatter(await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)))
            readers.append(asyncio.create_task(found[-1].read()))
        for chatter in found:
            assert chatter.process.stdout is not None
            chatter.url = (await asyncio.wait_for(chatter.process.stdout.readline(), PATIENCE_S)).decode().strip()
            assert chatter.url, "the application did not start"
        yield found
    finally:
        for chatter in found:
            if chatter.process.returncode is None:
                chatter.process.terminate()
        for chatter in found:
            await asyncio.wait_for(chatter.process.wait(), PATIENCE_S)
        await asyncio.gather(*readers)
    for chatter in found:
        assert not any(map(chatter.complained, FAULTS)), "\n".join(chatter.complaints)


async def all_hear(guests: list[Guest]) -> None:
    """Return once what one says reaches all: a process listens from its first client on, and a moment later."""
    for one in guests:
        await one.ask("enter", "probe")
    probes = 0
    while not all(one.said() for one in guests):
        probes += 1
        assert probes < PATIENCE_S / 0.1, "not everybody hears"
        await guests[0].ask("say", "probe", None, "are you there?")
        await asyncio.sleep(0.1)
    await guests[0].ask("say", "probe", None, "all are there")
    for one in guests:
        await wait_until(lambda one=one: one.said()[-1] == "all are there", PATIENCE_S, "the last probe")  # type: ignore[misc]
        await one.ask("leave", "probe")
        one.heard["/"].clear()
