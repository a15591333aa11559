"""A lean client for the end of its token: it renews when it is told to, or by itself, or never, and notes when it is closed."""

import json
import time
from typing import Self

from bench.lean_client import LeanClient

CLOSE_4001 = b"\x88\x82\0\0\0\0\x0f\xa1"  # a close frame, masked with nought: what a client answers the node's with


class ExpiringClient(LeanClient):
    """One socket; its moments are seconds of the wall clock, by which tokens end. None: that has not happened."""

    @classmethod
    async def join(cls, url: str, token: str, *, renewal: str | None, when_told: bool) -> Self:
        """One that has been welcomed, with the token that it will renew with."""
        client = await cls.connect(url, token, delivered=_nothing_is_said, acked=_nothing_is_said)
        assert isinstance(client, cls)
        client._renewal, client._when_told = renewal, when_told
        return client

    _renewal: str | None = None
    _when_told = False
    renewal_asked: float | None = None  # sent to the node
    renewal_done: float | None = None  # the node said yes
    told: float | None = None  # `auth:expired`
    closed: float | None = None  # the node's close frame
    gone: float | None = None  # the TCP connection

    def renew(self) -> None:
        """Send the next token; `renewal_done` says whether it was taken."""
        assert self._renewal is not None
        self.renewal_asked = time.time()
        self.send(b'420["auth:refresh",' + json.dumps({"token": self._renewal}).encode() + b"]")

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`; a close frame is answered, as every WebSocket client does."""
        super().data_received(data)
        if self.lost is not None and self.closed is None:
            self.closed = time.time()
            assert self._transport is not None
            self._transport.write(CLOSE_4001)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self.gone = time.time()
        super().connection_lost(exc)

    def _take(self, packet: bytes) -> None:
        if packet.startswith(b'42["auth:expiring"'):
            if self._when_told:
                self.renew()
        elif packet.startswith(b'42["auth:expired"'):
            self.told = time.time()
        elif packet.startswith(b"430["):
            assert packet.startswith(b'430[{"ok":true'), packet
            self.renewal_done = time.time()
        else:
            super()._take(packet)


def _nothing_is_said(*_: object) -> None:
    raise AssertionError("nobody sends messages here")
