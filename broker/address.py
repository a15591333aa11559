"""Where a log is: `sqlite:///PATH`, `amqp://…`, `amqps://…` or `memory:`. Pure: nothing is opened here."""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec

FORMS = "sqlite:///PATH, amqp://…, amqps://… or memory:"
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?\Z")
_SHOWN_SCHEME = re.compile(r"[a-z]{1,10}\Z")


class SqliteAddress(msgspec.Struct, frozen=True):
    """The embedded log: every node of the cluster opens this file."""

    path: Path

    def __str__(self) -> str:
        return f"sqlite:///{self.path}"


_PORTS = {"amqp": 5672, "amqps": 5671}


class AmqpAddress(msgspec.Struct, frozen=True):
    """RabbitMQ: one URL for each host, to be tried in this order. They hold a password; `str` and `repr` do not."""

    urls: tuple[str, ...]

    @property
    def hosts(self) -> tuple[tuple[str, int], ...]:
        """Each host with its port."""
        parts = [urlsplit(url) for url in self.urls]
        return tuple((part.hostname or "", part.port or _PORTS[part.scheme]) for part in parts)

    def __str__(self) -> str:
        first = urlsplit(self.urls[0])
        hosts = ",".join(urlsplit(url).netloc.rpartition("@")[2] for url in self.urls)
        return f"{first.scheme}://{hosts}{first.path}"

    def __repr__(self) -> str:
        return f"AmqpAddress({str(self)!r})"


class MemoryAddress(msgspec.Struct, frozen=True):
    """The log of one node, kept nowhere."""

    def __str__(self) -> str:
        return "memory:"


Address = SqliteAddress | AmqpAddress | MemoryAddress


def parse_address(text: str) -> Address:
    """The address that `text` names. Raises `ValueError` whose message says what it got without quoting any secret of it."""
    if text in ("memory:", "memory://"):
        return MemoryAddress()
    scheme, separator, rest = text.partition("://")
    if not separator:
        raise ValueError("something without a scheme")
    if scheme == "sqlite":
        return _sqlite(rest)
    if scheme in ("amqp", "amqps"):
        return _amqp(scheme, rest)
    raise ValueError(f"the scheme {scheme!r}" if _SHOWN_SCHEME.match(scheme) else "another scheme")


def _sqlite(rest: str) -> SqliteAddress:
    """Three slashes stand before a relative path, four before an absolute one."""
    if not rest.startswith("/"):
        raise ValueError("sqlite:// without the third slash")
    path = unquote(rest[1:])
    if not path or path.endswith("/") or "\0" in path:
        raise ValueError("sqlite:/// without the path of a file")
    return SqliteAddress(Path(path))


def _amqp(scheme: str, rest: str) -> AmqpAddress:
    """`user:password@h1:5672,h2,h3/vhost`: the user, password and vhost are the same on every host."""
    authority, slash, tail = rest.partition("/")
    login, at, hosts = authority.rpartition("@")
    if re.search("[?#]", login) or "@" in tail:  # a password would be taken for a path, and shown
        raise ValueError(f"{scheme}:// with a /, ? or # in its login that is not percent-encoded, or an @ behind it")
    urls = []
    for host in hosts.split(","):
        match = _HOST.match(host)
        if match is None or int(match["port"] or 5672) not in range(1, 65_536):
            raise ValueError(f"{scheme}:// without a host, or with a bad host or port")
        urls.append(f"{scheme}://{login}{at}{host}{slash}{tail}")
    return AmqpAddress(tuple(urls))
