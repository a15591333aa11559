"""The load test's WebSocket against a real node. It is gevent's, so it has a thread of its own."""

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest
from websockets.sync.server import ServerConnection

from loadtest import wire
from loadtest.link import Gone, Link, Refused, open_link
from tests.support.nodes import Cluster, NodeProcess
from tests.support.web_sockets import web_sockets

Found = TypeVar("Found")
OPEN_S = 10.0


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """A node that takes one handshake every 50 s, and closes who does not CONNECT after half a second."""
    settings = {"handshake_rate": "0.02", "handshake_burst": "1", "connect_timeout_seconds": "0.5"}
    with Cluster(tmp_path_factory.mktemp("link"), settings, count=1) as cluster:
        yield cluster[0]


def apart(work: Callable[[], Found]) -> Found:
    """Do this in a thread with an event loop of gevent's."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result(timeout=3 * OPEN_S)


def until_gone(link: Link) -> tuple[list[bytes], str]:
    """All that comes, and how it ends."""
    packets: list[bytes] = []
    while True:
        try:
            packets += link.receive(OPEN_S)
        except Gone as gone:
            return packets, str(gone)


def test_one_gets_in_and_the_next_is_told_when_to_come(node: NodeProcess) -> None:
    """Packets in their order and then how it ended; a refusal has the node's code and its `Retry-After`."""

    def first_and_next() -> tuple[list[bytes], str, Refused]:
        link = open_link(node.url, {}, timeout_s=OPEN_S)
        packets, how = until_gone(link)
        with pytest.raises(Gone):
            link.send(wire.PONG)
        with pytest.raises(Refused) as refused:
            open_link(node.url, {"ticket": "none of yours"}, timeout_s=OPEN_S)
        return packets, how, refused.value

    packets, how, refused = apart(first_and_next)
    assert [type(wire.parse(packet)) for packet in packets] == [wire.Opened]
    assert how == "closed with 1000"
    assert refused.code == "server_busy"
    assert refused.retry_after_s is not None and refused.retry_after_s >= 1


def test_where_nobody_listens_there_is_no_connection() -> None:
    """And that is known at once."""

    def work() -> None:
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            with pytest.raises(Gone):
                open_link(f"http://127.0.0.1:{bound.getsockname()[1]}", {}, timeout_s=OPEN_S)

    apart(work)


def test_an_answer_that_does_not_come_is_not_waited_for_long() -> None:
    """A node that hangs takes connections, and says nothing."""

    def work() -> None:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            with pytest.raises(Gone, match="no answer within"):
                open_link(f"http://127.0.0.1:{silent.getsockname()[1]}", {}, timeout_s=0.2)

    apart(work)


def test_packets_of_any_length_come_as_they_were_sent_and_pings_are_answered() -> None:
    """However many come at once and wherever the socket cuts them; what no node sends ends the connection, behind what came before."""
    sent, ponged = ["x" * size for size in (1, 125, 126, 65_535, 65_536, 1_000_000)] * 3, threading.Event()

    def script(connection: ServerConnection) -> None:
        for number, text in enumerate(sent):
            connection.send(text)
            if number == len(sent) // 2:
                pong = connection.ping()
        if pong.wait(OPEN_S):
            ponged.set()
        connection.send(["in ", "parts"])
        connection.recv(OPEN_S)

    with web_sockets(script) as url:
        packets, how = apart(lambda: until_gone(open_link(url, {}, timeout_s=OPEN_S)))
    assert [packet.decode() for packet in packets] == sent
    assert ponged.is_set()
    assert how.startswith("a frame that no node sends")


def test_a_packet_that_the_socket_has_no_room_for_is_sent_whole() -> None:
    """Over any number of writes, and the next one behind it."""
    long = b"x" * 16_000_000

    def script(connection: ServerConnection) -> None:
        connection.send(" ".join(str(len(connection.recv(OPEN_S))) for _ in range(2)))

    def work() -> list[bytes]:
        link = open_link(url, {}, timeout_s=OPEN_S)
        link.send(long)
        link.send(wire.PONG)
        return link.receive(OPEN_S)

    with web_sockets(script) as url:
        assert apart(work) == [f"{len(long)} 1".encode()]
