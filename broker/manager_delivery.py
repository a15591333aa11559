"""From an emit to the sockets of this node: a packet is made once, and goes the shortest way that python-engineio has."""

import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

import socketio
from engineio import packet as engine_packet
from engineio.async_socket import AsyncSocket

from broker.manager_wire import Emit

_STOCK_SEND = AsyncSocket.send
_STOCK_WAY = socketio.AsyncServer._send_eio_packet
_INFO = 20


class Delivery:
    """`aside` takes what may run a handler of the application: it must not hold up what comes after it."""

    def __init__(self, server: Any, aside: Callable[[Coroutine[Any, Any, None]], Awaitable[None]]) -> None:
        self._server, self._aside = server, aside

    @property
    def takes_packets(self) -> bool:
        """Whether the server speaks Socket.IO as everyone does: another serializer has to make its own packets."""
        return self._server.packet_class is socketio.packet.Packet

    async def deliver(self, emit: Emit, sockets: Iterable[tuple[str, str]], new_id: Callable[[str], int] | None) -> None:
        """Send an emit to the sockets, given by their sids in Socket.IO and in Engine.IO; with an id for each where acks are wanted."""
        packets = [] if new_id else _packets(emit, None)
        direct, now = self._is_direct(), time.time()
        for sid, engine_sid in sockets:
            if new_id:
                packets = _packets(emit, new_id(sid))
            if not direct or not self._put(engine_sid, packets, now):
                for packet in packets:
                    await self._server._send_eio_packet(engine_sid, packet)

    def _is_direct(self) -> bool:
        """Whether nobody has put anything between a server and its sockets, nor wants every packet in his log."""
        engine = self._server.eio
        return getattr(self._server._send_eio_packet, "__func__", None) is _STOCK_WAY and not engine.logger.isEnabledFor(_INFO)

    def _put(self, engine_sid: str, packets: list[Any], now: float) -> bool:
        """What `AsyncSocket.send` would do for each packet, without its awaits. Whether this is such a socket."""
        engine = self._server.eio
        socket = engine.sockets.get(engine_sid)
        if socket is None or type(socket).send is not _STOCK_SEND:
            return False
        if socket.closed:
            return True
        if socket.last_ping and now - socket.last_ping > engine.ping_timeout:
            self._aside(socket.check_ping_timeout())  # it is gone: closed, which runs the application's handler
            return True
        for packet in packets:
            socket.queue.put_nowait(packet)
        return True


def _packets(emit: Emit, id: int | None) -> list[Any]:
    return [engine_packet.Packet(engine_packet.MESSAGE, part) for part in (emit.packet(id), *emit.attachments)]
