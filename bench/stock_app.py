"""The chat that one writes with python-socketio and nothing else: `python -m bench.stock_app AMQP_URL`, several of them for several nodes.

Rooms, messages with an ack, its own `AsyncAioPikaManager` between the nodes, tokens judged at the connect and sockets closed when they end.
The events have the names of Tidegate's protocol, so that the same people can talk here; it keeps nothing and numbers nothing (`seq` 0).
The key is in TIDEGATE_JWT_SECRET.
"""

import asyncio
import os
import sys
import time
from typing import Any

import jwt
import socketio
import uvicorn


def application(url: str, secret: str) -> socketio.AsyncServer:
    """All of it."""
    sio = socketio.AsyncServer(async_mode="asgi", client_manager=socketio.AsyncAioPikaManager(url))

    @sio.event
    async def connect(sid: str, _: Any, auth: dict[str, Any]) -> None:
        try:
            claims = jwt.decode(auth["token"], secret, algorithms=["HS256"])
        except jwt.InvalidTokenError as error:
            raise socketio.exceptions.ConnectionRefusedError("not now", {"code": "token_expired"}) from error
        await sio.save_session(sid, {"user": claims["sub"]})
        sio.start_background_task(live, sid, claims["sub"], claims["exp"])

    async def live(sid: str, user: str, exp: float) -> None:
        """Say hello, and close the transport when the token ends, so that the client comes back by itself."""
        hello = {
            "session": sid,
            "node": "",
            "user": user,
            "expires_at": int(exp * 1000),
            "resumed": False,
            "ticket": "",
            "rooms": [],
        }
        await sio.emit("welcome", hello, to=sid)
        await asyncio.sleep(exp - time.time())
        if sio.manager.is_connected(sid, "/"):
            await sio.emit("auth:expired", {"code": "token_expired"}, to=sid)
            await sio.eio.disconnect(sio.manager.eio_sid_from_sid(sid, "/"))

    @sio.on("room:join")
    async def join(sid: str, asked: dict[str, Any]) -> dict[str, Any]:
        await sio.enter_room(sid, asked["room"])
        return {"ok": True, "room": asked["room"], "seq": 0}

    @sio.on("message:send")
    async def send(sid: str, asked: dict[str, Any]) -> dict[str, Any]:
        user = (await sio.get_session(sid))["user"]
        at = int(time.time() * 1000)
        message = {"room": asked["room"], "seq": 0, "id": asked["id"], "from": user, "text": asked["text"], "at": at}
        await sio.emit("message", message, room=asked["room"])
        return {"ok": True, "id": asked["id"], "seq": 0, "at": at}

    return sio


def serve(url: str) -> None:
    """Serve it on a free port of loopback, and print where."""
    sio = application(url, os.environ["TIDEGATE_JWT_SECRET"])

    async def warm_up() -> None:
        """Its manager opens a connection for each of those who send before the first one has opened: so somebody sends alone."""
        await sio.emit("nothing", room="nobody")

    config = uvicorn.Config(socketio.ASGIApp(sio, on_startup=warm_up), port=0, log_level="warning", lifespan="on")
    listener = config.bind_socket()
    listener.listen()  # who reads the address may connect at once
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    serve(sys.argv[1])
