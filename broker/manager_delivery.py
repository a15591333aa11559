"""From an emit to the sockets of this node: a packet is made once, and goes the shortest way that python-engineio has."""

import time
from collections.abc import Callable, Coroutine, Iterable
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

    def __init__(self, server: Any, aside: Callable[[Coroutine[Any, Any, None]], Coroutine[Any, Any, None]]) -> None:
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
            socket = self._server.eio.sockets.get(engine_sid) if direct else None
            if socket is None or type(socket).send is not _STOCK_SEND:
                for packet in packets:
                    await self._server._send_eio_packet(engine_sid, packet)
            elif self._is_gone(socket, now):
                if not socket.closing:
                    await self._aside(socket.check_ping_timeout())  # closes it, which runs the application's handler
            elif not socket.closed:  # what `AsyncSocket.send` would do, without its awaits
                for packet in packets:
                    socket.queue.put_nowait(packet)

    def _is_direct(self) -> bool:
        """Whether nobody has put anything between a server and its sockets, nor wants every packet in his log."""
        engine = self._server.eio
        return getattr(self._server._send_eio_packet, "__func__", None) is _STOCK_WAY and not engine.logger.isEnabledFor(_INFO)

    def _is_gone(self, socket: Any, now: float) -> bool:
        """Whether a socket that is not closed has not answered in time."""
        return bool(not socket.closed and socket.last_ping and now - socket.last_ping > self._server.eio.ping_timeout)


def _packets(emit: Emit, id: int | None) -> list[Any]:
    return [engine_packet.Packet(engine_packet.MESSAGE, part) for part in (emit.packet(id), *emit.attachments)]
