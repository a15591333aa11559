"""A server of WebSockets that does with each connection what a test says, for clients of ours."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from websockets.sync.server import ServerConnection, serve

END_S = 10.0


@contextmanager
def web_sockets(handle: Callable[[ServerConnection], None]) -> Iterator[str]:
    """The server's URL. It does this with each connection, in a thread of its own, and closes it; messages may be of any size."""
    with serve(handle, "127.0.0.1", 0, compression=None, max_size=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.socket.getsockname()[1]}"
        finally:
            server.shutdown()
            thread.join(END_S)
