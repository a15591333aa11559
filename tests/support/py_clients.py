"""Clients on the stock python-socketio `AsyncClient`: all that is added is the function `auth`, and that they tell what they see."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import socketio

from tests.support.told import Line, Told

QUICK = {"reconnection_delay": 0.1, "reconnection_delay_max": 0.4, "randomization_factor": 0.05}  # its own are 1, 5 and 0.5


class PyClients(Told):
    """Some clients in this process."""

    def __init__(self) -> None:
        super().__init__()
        self._clients: dict[str, _Client] = {}

    async def open(
        self, client: str, url: str, token: Callable[[], str], *, transports: list[str], wait: bool = True
    ) -> Line | None:
        """Connect a client; `token` is called at every connect. Returns its first `welcome`, where it is waited for."""
        self.begin(client)
        self._clients[client] = _Client(self, client, url, token, transports)
        return await self.told(client, "welcome") if wait else None

    async def ask(self, client: str, event: str, payload: Any) -> Line:
        """Emit an event and return its ack."""
        return await self._clients[client].ask(event, payload)

    async def aclose(self) -> None:
        """Disconnect all."""
        for client in self._clients.values():
            await client.aclose()


class _Client:
    """One user at one client. It keeps what PROTOCOL section 5 wants of a client that comes back: its session, and its cursors."""

    def __init__(self, told: Told, name: str, url: str, token: Callable[[], str], transports: list[str]) -> None:
        self._told, self._name, self._token = told, name, token
        self._session = ""
        self._cursors: dict[str, int] = {}
        self._expires_at = 0
        self._socket = socketio.AsyncClient(handle_sigint=False, **QUICK)
        self._socket.on("connect", lambda: self._tell("connect", transport=self._socket.transport()))
        self._socket.on("disconnect", lambda reason: self._tell("disconnect", reason=reason))
        self._socket.on("connect_error", lambda data=None: self._tell("connect_error", data=data))
        self._socket.on("*", self._hear)
        self._connecting = asyncio.create_task(self._socket.connect(url, auth=self._auth, transports=transports, retry=True))

    def _auth(self) -> dict[str, Any]:
        auth: dict[str, Any] = {"token": self._token()}
        return auth | {"resume": {"session": self._session, "cursors": self._cursors}} if self._session else auth

    def _hear(self, event: str, payload: Line) -> None:
        if event == "welcome":
            self._session, self._expires_at = payload["session"], payload["expires_at"]
            self._cursors = {room["room"]: room["seq"] for room in payload["rooms"]} | self._cursors
        if event == "replay":
            self._tell("told", event=event, payload=payload | {"events": len(payload["events"])})
            for one in payload["events"]:
                self._see(one["event"], {name: value for name, value in one.items() if name != "event"}, "replay")
        elif "seq" in payload and event != "read":
            self._see(event, payload, "live")
        else:
            self._tell("told", event=event, payload=payload)

    def _see(self, event: str, payload: Line, way: str) -> None:
        self._tell("seen", event=event, payload=payload, way=way, expires_at=self._expires_at)
        self._cursors[payload["room"]] = payload["seq"]

    def _tell(self, kind: str, **more: Any) -> None:
        self._told.add({"kind": kind, "client": self._name, "at": time.time_ns() // 1_000_000} | more)

    async def ask(self, event: str, payload: Any) -> Line:
        answer: Line = await self._socket.call(event, payload)
        return answer

    async def aclose(self) -> None:
        self._connecting.cancel()
        await asyncio.gather(self._connecting, return_exceptions=True)
        await self._socket.shutdown()


@asynccontextmanager
async def py_clients() -> AsyncIterator[PyClients]:
    """Room for clients, which end with the block."""
    clients = PyClients()
    try:
        yield clients
    finally:
        await clients.aclose()
