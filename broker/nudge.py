"""Datagrams between the processes that share an embedded log: nudges after a commit, and signals. Lossy and never blocking."""

import asyncio
import contextlib
import errno
import os
import secrets
import socket
import struct
import threading
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

_HELLO, _NUDGE, _SIGNAL = b"h", b"n", b"s"
_LONGEST_PATH = 100  # of a Unix socket's address: the kernel takes 108 bytes with the closing zero
_MOST_AT_ONCE = 256  # datagrams read in one turn of the loop
_GONE = (ConnectionRefusedError, ConnectionResetError, FileNotFoundError)
LARGEST = 65_536


class Datagrams:
    """One socket a process in a folder beside the log; who is in the folder is a peer.

    `nudged(partitions)` and the subscribed receiver are called on the loop. Sending is safe from any thread. Raises `OSError`
    when the folder cannot be made or joined. The folder may be removed under it: it is made again at the next `find_peers`.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._own = f"{name}-{os.getpid()}-{secrets.token_hex(4)}.sock"  # never used again: a dead one can be removed by anyone
        self._loop = asyncio.get_running_loop()
        self._receiver: socket.socket | None = None
        self._peers: dict[str, socket.socket] = {}  # one for each: who has stopped reading fills nobody else's buffer
        self._lock = threading.Lock()
        self._receive: Callable[[bytes], None] | None = None
        self.nudged: Callable[[Collection[int]], None] = lambda _: None
        self._join()
        self.find_peers()
        self._send(_HELLO)

    def close(self) -> None:
        """Leave the folder. Idempotent."""
        self._leave()
        (self._folder / self._own).unlink(missing_ok=True)
        with self._lock:
            for peer in self._peers.values():
                peer.close()
            self._peers.clear()

    def find_peers(self) -> None:
        """Look again who is there; to be called now and then on the loop."""
        with contextlib.suppress(OSError):  # no folder, and none can be made now: there is another look
            if not (self._folder / self._own).exists():
                self._leave()
                self._join()
                self._send(_HELLO)
            names = {path.name for path in self._folder.glob("*.sock")} - {self._own}
            with self._lock:
                for name in self._peers.keys() - names:
                    self._peers.pop(name).close()
                for name in names - self._peers.keys():
                    self._meet(name)

    def nudge(self, partitions: Collection[int]) -> None:
        """Tell the peers that these partitions have grown."""
        self._send(_NUDGE + struct.pack(f"<{len(partitions)}H", *partitions))

    def publish(self, data: bytes) -> None:
        """See `broker.log.Signals.publish`."""
        if len(data) <= LARGEST:
            self._send(_SIGNAL + data)

    def subscribe(self, receive: Callable[[bytes], None]) -> None:
        """See `broker.log.Signals.subscribe`."""
        self._receive = receive

    def _join(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        receiver = _new_socket()
        try:
            with _address(self._folder, self._own) as address:
                receiver.bind(address)
        except OSError:
            receiver.close()
            raise
        self._receiver = receiver
        self._loop.add_reader(receiver, self._readable)

    def _leave(self) -> None:
        if self._receiver is not None:
            self._loop.remove_reader(self._receiver)
            self._receiver.close()
            self._receiver = None

    def _meet(self, name: str) -> None:
        peer = _new_socket()
        try:
            with _address(self._folder, name) as address:
                peer.connect(address)
        except OSError as error:
            peer.close()
            if isinstance(error, _GONE):  # its process has ended without leaving
                self._remove(name)
        else:
            self._peers[name] = peer

    def _send(self, datagram: bytes) -> None:
        with self._lock:
            for name, peer in list(self._peers.items()):
                try:
                    peer.send(datagram)
                except BlockingIOError:
                    continue  # its queue is full: it is awake, and polls
                except OSError as error:
                    if error.errno != errno.ENOBUFS:  # it has ended
                        self._peers.pop(name).close()
                        self._remove(name)

    def _remove(self, name: str) -> None:
        with contextlib.suppress(OSError):  # the folder may be gone or not ours to write: then the name stays
            (self._folder / name).unlink()

    def _readable(self) -> None:
        for _ in range(_MOST_AT_ONCE):
            if self._receiver is None:
                return  # closed by what it was told
            try:
                datagram = self._receiver.recv(1 + LARGEST)
            except (BlockingIOError, InterruptedError):
                return
            kind, content = datagram[:1], datagram[1:]
            if kind == _HELLO:
                self.find_peers()
            elif kind == _NUDGE and len(content) % 2 == 0:
                self.nudged(struct.unpack(f"<{len(content) // 2}H", content))
            elif kind == _SIGNAL and self._receive is not None:
                self._receive(content)


def _new_socket() -> socket.socket:
    new = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    new.setblocking(False)
    new.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * LARGEST)
    return new


@contextlib.contextmanager
def _address(folder: Path, name: str) -> Iterator[str]:
    """The address of a socket in the folder; by way of a descriptor where the path is too long for one."""
    path = str(folder / name)
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        yield path
        return
    directory = os.open(folder, os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{directory}/{name}"
    finally:
        os.close(directory)
