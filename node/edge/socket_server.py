"""python-socketio's server and its client manager as a node runs them: the only import of `socketio` in a node."""

from typing import Any

import socketio

from node.edge.engine import EngineServer


class Registry(socketio.AsyncManager):  # type: ignore[misc]
    """python-socketio's client manager without rooms (`Fanout` has those): leaving costs the same however many are connected."""

    def basic_disconnect(self, sid: str, namespace: str, **_: Any) -> None:
        for room in (None, sid):
            self.basic_leave_room(sid, namespace, room)
        self.callbacks.pop(sid, None)


class SocketServer(socketio.AsyncServer):  # type: ignore[misc]
    """python-socketio's server on our Engine.IO; its packets are decoded by `wire`, strictly."""

    def __init__(self, **options: Any) -> None:
        super().__init__(client_manager=Registry(), async_handlers=False, **options)

    def _engineio_server_class(self) -> type[EngineServer]:
        return EngineServer

    def asgi(self, other: Any) -> Any:
        """The ASGI application that takes Engine.IO's path itself and hands every other one to `other`."""
        return socketio.ASGIApp(self, other_asgi_app=other)
