"""Whether a port is free, and what the node on it says over HTTP."""

import asyncio
import contextlib
import socket

import msgspec

_MOST = 1 << 20  # bytes of an answer
_LIMIT_S = 2.0


class Answer(msgspec.Struct, frozen=True):
    """Of an HTTP request: the status and the body."""

    status: int
    body: bytes


def reachable_host(host: str) -> str:
    """The address under which this machine reaches a node that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104  what it listens on is asked, not chosen


def url(host: str, port: int) -> str:
    """The node's URL as a browser on this machine takes it."""
    name = reachable_host(host)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def bound(host: str, port: int) -> socket.socket:
    """A socket that holds the port, as a node's will; 0 picks one. Raises `OSError` where it is taken or the host is not ours."""
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    opened = socket.socket(family, kind)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
    except OSError:
        opened.close()
        raise
    return opened


async def listens(host: str, port: int) -> bool:
    """Whether anybody takes connections there, within 2 s."""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(_LIMIT_S):
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
            return True
    return False


async def get(host: str, port: int, path: str) -> Answer | None:
    """The answer to one GET, or None where nobody gives one within 2 s."""
    with contextlib.suppress(OSError, TimeoutError, ValueError, IndexError):
        async with asyncio.timeout(_LIMIT_S):
            return await _get(reachable_host(host), port, path)
    return None


async def _get(host: str, port: int, path: str) -> Answer:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        head, _, body = (await reader.read(_MOST)).partition(b"\r\n\r\n")
        while not reader.at_eof() and len(body) < _MOST:
            body += await reader.read(_MOST)
        return Answer(int(head.split(b" ", 2)[1]), body)
    finally:
        writer.close()


def node_of(answer: Answer) -> str | None:
    """The id of the node whose `/config.json` this is; None for what is no node's."""
    with contextlib.suppress(msgspec.DecodeError):
        return msgspec.json.decode(answer.body, type=_Node).node
    return None


class _Node(msgspec.Struct):
    node: str
