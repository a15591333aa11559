"""Whether a broker takes clients: the beginning of an AMQP connection up to an open vhost, without an event loop."""

import socket

from pamqp.base import Frame
from pamqp.commands import Connection
from pamqp.frame import marshal, unmarshal
from pamqp.header import ProtocolHeader

from tests.support.held_port import HOST

_ANSWER_S = 2.0
_HEAD = 7  # bytes of a frame before its payload: type, channel, size


def takes_clients(port: int) -> bool:
    """Whether guest gets into the vhost `/` at once."""
    try:
        with socket.create_connection((HOST, port), _ANSWER_S) as connection:
            start = _exchange(connection, ProtocolHeader())
            tune = _exchange(connection, Connection.StartOk({}, "PLAIN", "\0guest\0guest"))
            if not isinstance(start, Connection.Start) or not isinstance(tune, Connection.Tune):
                return False
            connection.sendall(marshal(Connection.TuneOk(tune.channel_max, tune.frame_max, 0), 0))
            opened = _exchange(connection, Connection.Open("/"))
            _exchange(connection, Connection.Close(200, "", 0, 0))  # who just goes is a warning in the broker's log
            return isinstance(opened, Connection.OpenOk)
    except OSError:
        return False


def _exchange(connection: socket.socket, sent: Frame | ProtocolHeader) -> object:
    """Send a frame; returns the broker's next one. Raises `OSError` where it closes or says nothing in time."""
    connection.sendall(sent.marshal() if isinstance(sent, ProtocolHeader) else marshal(sent, 0))
    head = _read(connection, _HEAD)
    return unmarshal(head + _read(connection, int.from_bytes(head[3:]) + 1))[2]


def _read(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise ConnectionResetError("the broker has closed")
        data += part
    return bytes(data)
