"""A storm's hook whose work is done in this process: the command itself only asks for it, and waits."""

import json
import os
import shlex
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

_LIMIT_S = 120.0


@contextmanager
def hook(work: Callable[[Mapping[str, str]], None]) -> Iterator[str]:
    """The command. `work` is given the variables `STORM_…` each time that it is run, in a thread; what it raises is the command's failure,
    and is raised with the end of the block.
    """
    failed: list[BaseException] = []

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # the end of the block
                return
            with connection, connection.makefile("rb") as asked:
                try:
                    work(json.loads(asked.readline()))
                except Exception as error:  # noqa: BLE001 - it is raised where the test hears of it
                    failed.append(error)
                else:
                    connection.sendall(b"done")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            yield shlex.join([sys.executable, __file__, str(listener.getsockname()[1])])
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(_LIMIT_S)
    if failed:
        raise failed[0]


def _ask(port: int) -> bool:
    """Whether it was done."""
    told = {name: value for name, value in os.environ.items() if name.startswith("STORM_")}
    with socket.create_connection(("127.0.0.1", port), timeout=_LIMIT_S) as connection:
        connection.sendall(json.dumps(told).encode() + b"\n")
        return connection.recv(16) == b"done"


if __name__ == "__main__":
    sys.exit(0 if _ask(int(sys.argv[1])) else 1)
