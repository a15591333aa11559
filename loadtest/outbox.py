"""Messages of one client that are not known to be in the log: kept until they are, over any number of connections."""

from collections.abc import Iterator

import msgspec

AGAIN = frozenset({"unavailable", "rate_limited", "server_busy", "keys_unavailable"})  # not carried out: safe to ask again


class Outgoing(msgspec.Struct):
    """A message that is not known to be in the log."""

    room: str
    id: str
    text: str
    due: float  # by the monotonic clock
    sent: bool = False  # over the open connection, and not refused


class Outbox:
    """In the order in which they were said. With `stock` a message is sent once: what was under way when the connection ended is forgotten,
    as socket.io-client does it by default; what was said without one waits for the next.
    """

    __slots__ = ("_messages", "_stock", "forgotten")

    def __init__(self, *, stock: bool) -> None:
        self._messages: dict[str, Outgoing] = {}
        self._stock = stock
        self.forgotten = 0

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, outgoing: Outgoing) -> None:
        """One more."""
        self._messages[outgoing.id] = outgoing

    def to_send(self) -> Iterator[Outgoing]:
        """Those that are not under way."""
        return (outgoing for outgoing in list(self._messages.values()) if not outgoing.sent)

    def refused(self, outgoing: Outgoing, code: str) -> bool:
        """The cluster would not take it; whether it is to be sent again."""
        outgoing.sent = False
        if not self._stock and (code in AGAIN or code == "token_expired"):
            return True
        self.done(outgoing)
        return False

    def done(self, outgoing: Outgoing) -> None:
        """It has had its last answer."""
        self._messages.pop(outgoing.id, None)

    def connection_lost(self) -> None:
        """Nothing is under way any more."""
        for outgoing in list(self._messages.values()):
            if outgoing.sent and self._stock:
                self.forgotten += 1
                self.done(outgoing)
            outgoing.sent = False
