"""A port on loopback that the system has chosen and that nobody else is given meanwhile."""

import socket

HOST = "127.0.0.1"


class HeldPort:
    """Held by a socket that is bound and does not listen: whoever sets SO_REUSEADDR, as Erlang does, may listen on it beside, again and
    again, while the system gives it neither to others who ask for any port nor to outgoing connections.
    """

    def __init__(self) -> None:
        self._holder = _reusing()
        self._holder.bind((HOST, 0))
        self.number: int = self._holder.getsockname()[1]

    def __str__(self) -> str:
        return str(self.number)

    @property
    def free(self) -> bool:
        """Whether nobody listens on it."""
        with _reusing() as probe:
            try:
                probe.bind((HOST, self.number))
                probe.listen()
            except OSError:
                return False
            return True

    def release(self) -> None:
        """Give the port back. Idempotent."""
        self._holder.close()


def _reusing() -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return made
