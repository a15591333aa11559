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

NAMESPACES = ["/", "/other"]
Sid = str


def make_manager(kind: str, url: str, channel: str) -> Any:
    return socketio.AsyncAioPikaManager(url, channel) if kind == "stock" else RabbitManager(url, channel)


def make_application(manager: Any) -> socketio.ASGIApp:
    """Every event of a client is one call of the server; what is asked for is acked with what it returned."""
    sio = socketio.AsyncServer(async_mode="asgi", client_manager=manager, namespaces=NAMESPACES)
    pacing: set[asyncio.Task[None]] = set()

    for namespace in NAMESPACES:

        async def enter(sid: Sid, room: Any, other: Sid | None = None, namespace: str = namespace) -> list[Any]:
            await sio.enter_room(other or sid, room, namespace=namespace)
            return sio.rooms(sid, namespace=namespace)

        async def leave(sid: Sid, room: Any, other: Sid | None = None, namespace: str = namespace) -> list[Any]:
            await sio.leave_room(other or sid, room, namespace=namespace)
            return sio.rooms(sid, namespace=namespace)

        async def close(_: Sid, room: Any, namespace: str = namespace) -> None:
            await sio.close_room(room, namespace=namespace)

        async def say(sid: Sid, room: Any, skip: Any, *data: Any, namespace: str = namespace) -> None:
            skip_sid = sid if skip is True else skip
            await sio.emit("said", data if len(data) > 1 else data[0], room=room, skip_sid=skip_sid, namespace=namespace)

        async def ask(_: Sid, other: Sid, data: Any, namespace: str = namespace) -> Any:
            return await sio.call("question", data, to=other, timeout=10, namespace=namespace)

        async def part(sid: Sid, room: Any, namespace: str = namespace) -> None:
            await sio.emit("said", "the last words", room=room, namespace=namespace)
            await sio.leave_room(sid, room, namespace=namespace)

        async def kick(_: Sid, other: Sid, namespace: str = namespace) -> None:
            await sio.emit("said", "the last words", to=other, namespace=namespace)
            await sio.disconnect(other, namespace=namespace)

        async def gone(sid: Sid, _: str, namespace: str = namespace) -> None:
            await sio.emit("gone", sid, namespace=namespace)

        async def burst(_: Sid, room: Any, count: int, text: str, namespace: str = namespace) -> float:
            began = time.monotonic()
            for number in range(count):
                await sio.emit("tick", {"number": number, "text": text}, room=room, namespace=namespace)
            if hasattr(manager, "flush"):  # where `await emit` does not wait for the broker
                await manager.flush()
            return time.monotonic() - began

        async def pace(_: Sid, room: Any, count: int, per_second: float, text: str, namespace: str = namespace) -> None:
            async def at_its_pace() -> None:
                begin = time.monotonic()
                for number in range(count):
                    await asyncio.sleep(begin + number / per_second - time.monotonic())
                    await sio.emit("tick", {"number": number, "text": text}, room=room, namespace=namespace)

            task = asyncio.create_task(at_its_pace())
            pacing.add(task)
            task.add_done_callback(pacing.discard)

        async def counts(_: Sid) -> dict[str, int]:
            return {name: getattr(manager.counts, name) for name in manager.counts.__struct_fields__}

        for handler in (enter, leave, close, say, ask, part, kick, burst, pace, counts):
            sio.on(handler.__name__, handler, namespace=namespace)
        sio.on("disconnect", gone, namespace=namespace)

    return socketio.ASGIApp(sio)


def main(kind: str, url: str, channel: str = "socketio") -> None:
    """Serve it on a free port of the loopback and print where; SIGTERM ends it."""
    config = uvicorn.Config(make_application(make_manager(kind, url, channel)), port=0, log_level="warning", lifespan="off")
    listener = config.bind_socket()
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main(*sys.argv[1:])
