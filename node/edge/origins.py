"""Which browser origins may talk to this node. Pure."""

from collections.abc import Iterable
from typing import Literal
from urllib.parse import urlsplit

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


class Origins:
    """The same origin always, the cluster's own pages, and those of the configuration; `"*"` is any."""

    def __init__(self, configured: tuple[str, ...] | Literal["*"] | None, peers: Iterable[str]) -> None:
        self._any = configured == "*"
        named = () if configured is None or configured == "*" else configured
        self._allowed = {origin.rstrip("/") for peer in (*named, *peers) for origin in _names(peer)}

    def allowed(self, origin: str, host: str) -> bool:
        """Whether a page of `origin` may talk to us, whom it reached as `host` (the `Host` header)."""
        if self._any or origin.lower() in self._allowed:
            return True
        return _is_host(origin, host)

    def own(self, origin: str | None, host: str) -> bool:
        """Whether a request comes from one of our own pages, so that its cookies mean what they say: `"*"` is not one."""
        if origin is None:
            return False
        return origin.lower() in self._allowed or _is_host(origin, host)


def _is_host(origin: str, host: str) -> bool:
    try:
        return bool(host) and urlsplit(origin.lower()).netloc == host.lower()
    except ValueError:  # no URL at all
        return False


def _names(url: str) -> Iterable[str]:
    """The origin, and for one on loopback its other names: people type `localhost` for 127.0.0.1."""
    parts = urlsplit(url.lower())
    host, port = parts.netloc.removesuffix(f":{parts.port}"), f":{parts.port}" if parts.port else ""
    hosts = _LOOPBACK if host in _LOOPBACK else (host,)
    return [f"{parts.scheme}://{name}{port}" for name in hosts]
