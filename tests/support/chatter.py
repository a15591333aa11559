"""An ordinary python-socketio application of a few lines, served on a free port: `python -m tests.support.chatter MANAGER URL [CHANNEL]`.

`MANAGER` is "stock" for python-socketio's own or "tidegate" for ours: the line that makes it is all that differs.
"""

import asyncio
import sys
import time
from typing import Any

import socketio
import uvicorn

from broker.manager import RabbitManager

Sid = str


def make_manager(kind: str, url: str, channel: str) -> Any:
    return socketio.AsyncAioPikaManager(url, channel) if kind == "stock" else RabbitManager(url, channel)


class Chatter(socketio.AsyncNamespace):  # type: ignore[misc]
    """Every event of a client is a call or two of the server's; what is asked for is acked with what it returned."""

    async def on_enter(self, sid: Sid, room: Any, other: Sid | None = None) -> Any:
        await self.enter_room(other or sid, room)
        return self.rooms(sid)

    async def on_leave(self, sid: Sid, room: Any, other: Sid | None = None) -> Any:
        await self.leave_room(other or sid, room)
        return self.rooms(sid)

    async def on_close(self, _: Sid, room: Any) -> None:
        await self.close_room(room)

    async def on_say(self, sid: Sid, room: Any, skip: Any, *data: Any) -> None:
        await self.emit("said", data if len(data) > 1 else data[0], room=room, skip_sid=sid if skip is True else skip)

    async def on_ask(self, _: Sid, other: Sid, data: Any) -> Any:
        return await self.call("question", data, to=other, timeout=10)

    async def on_part(self, sid: Sid, room: Any) -> None:
        await self.emit("said", "the last words", room=room)
        await self.leave_room(sid, room)

    async def on_kick(self, _: Sid, other: Sid) -> None:
        await self.emit("said", "the last words", to=other)
        await self.disconnect(other)

    async def on_disconnect(self, sid: Sid, _: str) -> None:
        await self.emit("gone", sid)

    # For tests of faults and measurements

    async def on_burst(self, _: Sid, room: Any, count: int, text: str) -> float:
        began = time.monotonic()
        for number in range(count):
            await self.emit("tick", {"number": number, "text": text}, room=room)
        if hasattr(self.server.manager, "flush"):  # where `await emit` does not wait for the broker
            await self.server.manager.flush()
        return time.monotonic() - began

    async def on_pace(self, _: Sid, room: Any, count: int, per_second: float, text: str) -> None:
        async def at_its_pace() -> None:
            begin = time.monotonic()
            for number in range(count):
                await asyncio.sleep(begin + number / per_second - time.monotonic())
                await self.emit("tick", {"number": number, "text": text, "at": time.monotonic()}, room=room)

        self.pacing = asyncio.create_task(at_its_pace())

    async def on_tick(self, _: Sid, room: Any, number: int) -> None:
        await self.emit("tick", {"number": number, "at": time.monotonic()}, room=room)

    async def on_counts(self, _: Sid) -> dict[str, int]:
        counts = self.server.manager.counts
        return {name: getattr(counts, name) for name in counts.__struct_fields__}


def make_application(manager: Any) -> socketio.ASGIApp:
    sio = socketio.AsyncServer(async_mode="asgi", client_manager=manager)
    for namespace in ("/", "/other"):
        sio.register_namespace(Chatter(namespace))
    return socketio.ASGIApp(sio)


def main(kind: str, url: str, channel: str = "socketio") -> None:
    """Serve it on a free port of the loopback and print where; SIGTERM ends it."""
    config = uvicorn.Config(make_application(make_manager(kind, url, channel)), port=0, log_level="warning", lifespan="off")
    listener = config.bind_socket()
    listener.listen()  # who reads the address may connect at once
    sys.stdout.write(f"http://127.0.0.1:{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main(*sys.argv[1:])
