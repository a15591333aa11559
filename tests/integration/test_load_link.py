"""The load test's WebSocket against a real node. It is gevent's, so it has a thread of its own."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import TypeVar

import pytest
from gevent import get_hub, getcurrent
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection

from loadtest import wire
from loadtest.link import Gone, Link, Refused, open_link
from tests.support.nodes import Cluster, NodeProcess
from tests.support.web_sockets import web_sockets

Found = TypeVar("Found")
OPEN_S, WAIT_S = 10.0, 0.2


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
    with closing(link):
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
    """However many come at once, wherever they are cut and in what parts; what no node sends ends it, behind what came before."""
    sent, ponged = ["x" * size for size in (1, 125, 126, 65_535, 65_536, 1_000_000)] * 3, threading.Event()
    parts = [["in ", "two"], ["", ""], ["lo" * 50_000, "", "ng" * 50_000]]

    def script(connection: ServerConnection) -> None:
        for number, text in enumerate(sent):
            connection.send(text)
            if number == len(sent) // 2:
                pong = connection.ping()
        if pong.wait(OPEN_S):
            ponged.set()
        for number, texts in enumerate(parts):
            connection.send(texts)
            connection.send(f"{number} behind")
        connection.send(b"binary")
        connection.recv(OPEN_S)

    with web_sockets(script) as url:
        packets, how = apart(lambda: until_gone(open_link(url, {}, timeout_s=OPEN_S)))
    whole = [text for number, texts in enumerate(parts) for text in ("".join(texts), f"{number} behind")]
    assert [packet.decode() for packet in packets] == sent + whole
    assert ponged.is_set()
    assert how == "a frame that no node sends: binary"


def test_a_message_within_another_ends_the_connection() -> None:
    """As the library finds it: what stands between the parts of one is no packet."""

    def script(connection: ServerConnection) -> None:
        connection.send("whole")
        connection.socket.sendall(b"\x01\x01a\x81\x01b\x80\x01c")
        with suppress(ConnectionClosed):
            connection.recv(OPEN_S)

    with web_sockets(script) as url:
        packets, how = apart(lambda: until_gone(open_link(url, {}, timeout_s=OPEN_S)))
    assert (packets, how) == ([b"whole"], "closed")


def test_a_packet_that_the_socket_has_no_room_for_is_sent_whole() -> None:
    """Over any number of writes, and the next one behind it."""
    long = b"x" * 16_000_000

    def script(connection: ServerConnection) -> None:
        connection.send(" ".join(str(len(connection.recv(OPEN_S))) for _ in range(2)))

    def work() -> list[bytes]:
        with closing(open_link(url, {}, timeout_s=OPEN_S)) as link:
            link.send(long)
            link.send(wire.PONG)
            return link.receive(OPEN_S)

    with web_sockets(script) as url:
        assert apart(work) == [f"{len(long)} 1".encode()]


def test_what_comes_is_taken_while_its_owner_waits() -> None:
    """On the spot and in order, with no turn of the owner's until something is left to it: that and all behind it, then the end."""
    sent = ["a", "b", "left", "c", "d"]

    def script(connection: ServerConnection) -> None:
        for text in sent[:2]:
            connection.recv(OPEN_S)  # so that nothing comes with the handshake, and no two together
            connection.send(text)
        connection.recv(OPEN_S)
        for text in sent[2:]:
            connection.send(text)
        connection.ping()

    def work() -> tuple[list[bytes], list[bytes], str]:
        taken, left = list[bytes](), list[bytes]()

        def take(packets: list[bytes]) -> list[bytes] | None:
            assert getcurrent() is get_hub()
            for at, packet in enumerate(packets):
                if packet == b"left":
                    return packets[at:]
                taken.append(packet)
                link.send(b"I have it")
            return None

        with closing(open_link(url, {}, timeout_s=OPEN_S)) as link:
            link.send(b"begin")
            while True:
                try:
                    left += link.receive(OPEN_S, take)
                except Gone as gone:
                    return taken, left, str(gone)

    with web_sockets(script) as url:
        taken, left, how = apart(work)
    assert (taken[:2], left[0], sorted(taken[2:] + left[1:])) == ([b"a", b"b"], b"left", [b"c", b"d"])
    assert how == "closed with 1000"


def test_what_a_taker_raises_is_its_owners() -> None:
    """And not the hub's, which would print it and go on."""

    def script(connection: ServerConnection) -> None:
        connection.recv(OPEN_S)
        connection.send("anything")
        connection.recv(OPEN_S)

    def work() -> None:
        with closing(open_link(url, {}, timeout_s=OPEN_S)) as link:
            link.send(b"begin")
            with pytest.raises(ZeroDivisionError):
                link.receive(OPEN_S, lambda packets: packets[: 1 // 0])
            link.send(wire.PONG)  # it is as open as before

    with web_sockets(script) as url:
        apart(work)


def test_a_wait_ends_in_its_time_however_much_is_taken() -> None:
    """A crowd that talks without a pause keeps nobody from what is due."""
    over = threading.Event()

    def script(connection: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            connection.recv(OPEN_S)
            while not over.is_set():
                connection.send("talk")

    def work() -> tuple[int, float]:
        taken = list[bytes]()
        with closing(open_link(url, {}, timeout_s=OPEN_S)) as link:
            link.send(b"begin")
            began = time.monotonic()
            link.receive(WAIT_S, taken.extend)
            took_s = time.monotonic() - began
            over.set()
        return len(taken), took_s

    with web_sockets(script) as url:
        count, took_s = apart(work)
    assert count > 10
    assert WAIT_S / 2 < took_s < OPEN_S / 2
