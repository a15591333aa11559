"""What a person of the load test stands on, one thing on the other: gevent, the WebSocket library, the decoder, the journal, the client.

Each step is a process of its own that takes the same events from a node that only plays (`scripted_node.py`): what it takes more than the
step before is what it adds. A storm has Locust's users and its table besides, what people do and say, and connections that are opened.
"""

import gc
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, cast

import gevent
from gevent import socket
from gevent.event import Event
from websockets.client import ClientProtocol
from websockets.protocol import State
from websockets.uri import WebSocketURI

from loadtest import wire
from loadtest.alarms import NEVER
from loadtest.checker import posted
from loadtest.client import Client
from loadtest.clock import wall_ms
from loadtest.journal import Journal, Names
from loadtest.link import Gone, open_link
from loadtest.observer import Observer
from loadtest.processes import resident_kib
from loadtest.route import Route
from loadtest.storm import Pulse
from loadtest.tokens import Token

EVENTS_PER_S, SECONDS = 1_000.0, 10.0
LIMIT_S = 120.0
_APART_S = 0.01  # from one that comes to the next
_READ_BYTES = 65_536
_UPGRADE = (
    b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: n\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_CONNECT = b"\x81\x82\0\0\0\0" + b"40"  # a client's frame, under a mask of nought


class Crowd:
    """All connections of one process: as an observer it hears who is let in and who goes, and passes nothing on."""

    def __init__(self, port: int) -> None:
        self.port, self.url = port, f"http://127.0.0.1:{port}"
        self.here, self.over, self.names, self.pulse = 0, Event(), Names(), Pulse()

    def welcomed(self) -> None:
        """One more is here."""
        self.here += 1

    def lost(self, code: str) -> None:
        """The first that goes ends it for all."""
        self.over.set()

    def delivered(self, took_s: float, *, replayed: bool) -> None:
        """See `Observer`."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        """Whatever else an observer hears: nothing comes of it."""
        return lambda *arguments, **named: None


def bare(crowd: Crowd, take: Callable[[bytes], object]) -> None:
    """A greenlet and a socket of gevent's, and what is done to each piece that comes."""
    with socket.create_connection(("127.0.0.1", crowd.port)) as connection:
        connection.sendall(_UPGRADE)
        connection.recv(_READ_BYTES)
        connection.sendall(_CONNECT)
        connection.recv(_READ_BYTES)
        crowd.welcomed()
        while data := connection.recv(_READ_BYTES):
            take(data)
        crowd.lost("closed")


def by_library() -> Callable[[bytes], object]:
    """Cuts frames with the parser of the library."""
    protocol = ClientProtocol(WebSocketURI(False, "n", 80, "/", "", None), state=State.OPEN)

    def take(data: bytes) -> object:
        protocol.receive_data(data)
        return protocol.events_received()

    return take


def linked(crowd: Crowd, take: Callable[[bytes], object]) -> None:
    """The client's WebSocket, and what is done to each packet where it comes."""

    def all_of(packets: list[bytes]) -> None:
        for packet in packets:
            take(packet)

    link = open_link(crowd.url, {}, timeout_s=LIMIT_S)
    try:
        link.receive(LIMIT_S)
        link.send(wire.connect({}))
        link.receive(LIMIT_S)
        crowd.welcomed()
        while True:
            link.receive(LIMIT_S, all_of)
    except Gone as gone:
        crowd.lost(str(gone))


def journal_of(crowd: Crowd) -> Callable[[bytes], None]:
    """Decodes a packet and writes it down."""
    journal = Journal("u", crowd.names)
    journal.watch("load-0", after=0)

    def take(packet: bytes) -> None:
        event = wire.parse(packet)
        if isinstance(event, wire.Event) and isinstance(event.payload, wire.RoomEvent):
            one = event.payload
            journal.saw(one.room, one.seq, posted(one.author, one.id), at=wall_ms(), expires_at=0)

    return take


def person(crowd: Crowd) -> None:
    """The client itself."""
    Client(
        user="u",
        tokens=lambda renewal: Token("t" * 200, wall_ms() + 3_600_000),
        route=Route([crowd.url], random.random),
        journal=Journal("u", crowd.names),
        observer=cast(Observer, crowd),
        pulse=crowd.pulse,
        renews=True,
        draw=random.random,
    ).serve(NEVER)


#: By name, in order; the second is what the third does without.
STEPS: dict[str, Callable[[Crowd], None]] = {
    "a greenlet and its socket": lambda crowd: bare(crowd, len),
    "its frames by the library alone": lambda crowd: bare(crowd, by_library()),
    "the WebSocket as it is": lambda crowd: linked(crowd, len),
    "decoded": lambda crowd: linked(crowd, wire.parse),
    "in the journal": lambda crowd: linked(crowd, journal_of(crowd)),
    "the client": person,
}


def floor(connections: int) -> list[dict[str, Any]]:
    """A row for each step."""
    rows = []
    for step in STEPS:
        command = [sys.executable, "-m", "bench.scripted_node", str(connections), str(EVENTS_PER_S), str(SECONDS)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as node:
            assert node.stdout is not None
            port = node.stdout.readline().strip()
            taking = [sys.executable, "-m", "bench.load_floor", step, port, str(connections)]
            taken = json.loads(subprocess.run(taking, stdout=subprocess.PIPE, timeout=LIMIT_S, check=True).stdout)
            events = int(node.stdout.readline())
        row = {
            "with": step,
            "us_an_event": round(1e6 * taken["cpu_s"] / events, 1),
            "kib_a_connection": round(taken["memory_kib"] / connections, 1),
            "events": events,
        }
        print("  " + "  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
        rows.append(row)
    return rows


def take(step: str, port: int, connections: int) -> dict[str, float]:
    """One step in this process: processor seconds while the node plays, memory of everybody before that."""
    crowd = Crowd(port)
    gc.collect()
    before_kib = resident_kib(os.getpid())
    with gevent.Timeout(LIMIT_S):
        for _ in range(connections):
            gevent.spawn(STEPS[step], crowd)
            gevent.sleep(_APART_S)
        while crowd.here < connections:
            gevent.sleep(_APART_S)
        memory_kib, began_s = resident_kib(os.getpid()) - before_kib, time.process_time()
        crowd.over.wait()
    return {"cpu_s": time.process_time() - began_s, "memory_kib": memory_kib}


if __name__ == "__main__":
    print(json.dumps(take(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))), flush=True)
    os._exit(0)  # connections that are still open are nobody's
