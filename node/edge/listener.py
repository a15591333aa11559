"""The port of a node."""

import socket

BACKLOG = 4_096  # a crowd that comes back together: connections wait here rather than be refused


class PortUnavailable(OSError):
    """`port` on `host` cannot be had; `strerror` says why."""

    def __init__(self, host: str, port: int, error: OSError) -> None:
        super().__init__(error.errno, error.strerror)
        self.host, self.port = host, port


def bind(host: str, port: int) -> socket.socket:
    """A listening TCP socket; port 0 picks one. Raises `PortUnavailable`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # named, or asyncio does not set TCP_NODELAY
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(BACKLOG)  # now: until someone listens, two nodes could bind the same port
    except OSError as error:
        bound.close()
        raise PortUnavailable(host, port, error) from None
    return bound
