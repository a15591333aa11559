"""Datagrams between the processes that share an embedded log: nudges after a commit, and signals. Lossy and never blocking."""

import asyncio
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

_NUDGE, _SIGNAL = b"n", b"s"
_LONGEST_PATH = 100  # of a Unix socket's address: the kernel takes 108 bytes with the closing zero
_MOST_AT_ONCE = 256  # datagrams read in one turn of the loop
LARGEST = 65_536


class Datagrams:
    """One socket a process in a folder beside the log; who is in the folder is a peer.

    `nudged(partitions)` and the subscribed receiver are called on the loop. Sending is safe from any thread.
    """

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder, self._own = folder, f"{name}-{os.getpid()}.sock"
        self._directory = os.open(folder, os.O_RDONLY)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * LARGEST)
        (folder / self._own).unlink(missing_ok=True)
        self._socket.bind(self._address(self._own))
        self._peers: tuple[str, ...] = ()
        self._lock = threading.Lock()
        self._receive: Callable[[bytes], None] | None = None
        self.nudged: Callable[[bytes], None] = lambda partitions: None
        self.find_peers()

    def start(self) -> None:
        """Begin to receive on the running loop."""
        asyncio.get_running_loop().add_reader(self._socket, self._readable)

    def close(self) -> None:
        """Leave the folder. Idempotent."""
        if self._socket.fileno() < 0:
            return
        asyncio.get_running_loop().remove_reader(self._socket)
        (self._folder / self._own).unlink(missing_ok=True)
        self._socket.close()
        os.close(self._directory)

    def find_peers(self) -> None:
        """Look again who is there."""
        names = tuple(name for name in os.listdir(self._folder) if name.endswith(".sock") and name != self._own)
        with self._lock:
            self._peers = names

    def nudge(self, partitions: set[int]) -> None:
        """Tell the peers that these partitions have grown."""
        self._send(_NUDGE + bytes(p for p in partitions if p < 256))

    def publish(self, data: bytes) -> None:
        """See `broker.log.Signals.publish`."""
        if len(data) < LARGEST:
            self._send(_SIGNAL + data)

    def subscribe(self, receive: Callable[[bytes], None]) -> None:
        """See `broker.log.Signals.subscribe`."""
        self._receive = receive

    def _address(self, name: str) -> str:
        path = str(self._folder / name)
        return path if len(os.fsencode(path)) <= _LONGEST_PATH else f"/proc/self/fd/{self._directory}/{name}"

    def _send(self, datagram: bytes) -> None:
        for name in self._peers:
            try:
                self._socket.sendto(datagram, self._address(name))
            except BlockingIOError:
                continue  # its queue is full: it is awake, and polls
            except (ConnectionRefusedError, FileNotFoundError):
                self._forget(name)
            except OSError:
                continue  # no buffer, or our own socket is closing: a datagram may be lost

    def _forget(self, name: str) -> None:
        """Its process has ended without leaving."""
        (self._folder / name).unlink(missing_ok=True)
        with self._lock:
            self._peers = tuple(peer for peer in self._peers if peer != name)

    def _readable(self) -> None:
        for _ in range(_MOST_AT_ONCE):
            try:
                datagram = self._socket.recv(LARGEST + 1)
            except (BlockingIOError, InterruptedError):
                return
            if datagram[:1] == _NUDGE:
                self.nudged(datagram[1:])
            elif datagram[:1] == _SIGNAL and self._receive is not None:
                self._receive(datagram[1:])
