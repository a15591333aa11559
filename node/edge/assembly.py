"""Socket.IO packets put together from Engine.IO messages: a packet with attachments comes as several."""

from node.edge import wire
from node.edge.connection import Connection


class Assembly:
    """The unfinished packet of each connection. Attachments are counted and dropped: no command takes binary."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._unfinished: dict[Connection, tuple[wire.Packet, int, int]] = {}  # packet, frames to come, bytes so far

    def take(self, connection: Connection, message: str | bytes) -> wire.Packet | None:
        """The packet, once all of it is there. Raises `wire.Malformed`."""
        pending = self._unfinished.pop(connection, None)
        if isinstance(message, str):
            if pending is not None:
                raise wire.Malformed("text where a binary frame was due")
            packet = wire.decode_packet(message)
            if not packet.attachments:
                return packet
            self._unfinished[connection] = (packet, packet.attachments, 0)
            return None
        if pending is None:
            raise wire.Malformed("a binary frame that nothing announced")
        packet, left, size = pending
        if size + len(message) > self._most:
            raise wire.Malformed("binary frames over the payload limit")
        if left == 1:
            return packet
        self._unfinished[connection] = (packet, left - 1, size + len(message))
        return None

    def drop(self, connection: Connection) -> None:
        """Forget a connection; idempotent."""
        self._unfinished.pop(connection, None)
