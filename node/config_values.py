"""What a setting may be: each kind of value with the words that say what it takes. Pure but for the PEM file's check.

A parser takes the text and returns the value, or raises `ValueError` with what it got (the words after "got").
Parsers of secrets never quote what they got, nor a part of it.
"""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from broker.address import FORMS, Address, parse_address

MIN_SECRET_BYTES = 32  # RFC 7518 section 3.2: a key of the hash's size or larger
_MOST_SHOWN = 60
_ALGORITHMS = (
    *("HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
_KID_FORM = re.compile(r"(?P<kid>[A-Za-z0-9._-]{1,64}):(?P<secret>.+)\Z", re.DOTALL)
_COOKIE = re.compile(r"cookie:[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}\Z")
_MOST_PEM = 1_048_576
_KEY_FILE = re.compile(r"\s*(-----BEGIN|ssh-|ecdsa-sha2-)")  # a public key as HMAC secret is one that everybody knows


class Taken(msgspec.Struct, frozen=True):
    """A kind of value: the words for it, and its parser."""

    takes: str
    parse: Callable[[str], Any]


class Kind(msgspec.Struct, frozen=True):
    """What a field of `Settings` is, beside its type and default."""

    takes: Taken
    meaning: str
    secret: bool = False


def quoted(text: str) -> str:
    """The text as a message shows it: on one line, escaped, cut when long, without the login of a URL."""
    text = re.sub(r"(?<=://)[^/@]*@", "…@", text)
    return repr(text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "…")


def whole(low: int, high: int) -> Taken:
    """A whole number in a closed range."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text) or not low <= int(text) <= high:
            raise ValueError(quoted(text))
        return int(text)

    return Taken(f"a whole number from {low} to {high}", parse)


def number(low: float, high: float = math.inf, what: str = "a number") -> Taken:
    """A finite number in a closed range."""

    def parse(text: str) -> float:
        if not re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,15})?|\.[0-9]{1,15}", text) or not low <= float(text) <= high:
            raise ValueError(quoted(text))
        return float(text)

    limit = f"of {low:g} or more" if high == math.inf else f"from {low:g} to {high:g}"
    return Taken(f"{what} {limit}", parse)


def seconds(low: float, high: float = math.inf) -> Taken:
    """A time, fractions allowed."""
    return number(low, high, "seconds, a number")


def one_of(*choices: str) -> Taken:
    """One word of a closed list."""

    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(quoted(text))
        return text

    return Taken(f"{', '.join(choices[:-1])} or {choices[-1]}", parse)


def some_of(*choices: str) -> Taken:
    """Words of a closed list, each at most once, in the order given."""
    return Taken(f"one or more of {', '.join(choices)}, with commas between", lambda text: _words(text, lambda w: w in choices))


def _words(text: str, allowed: Callable[[str], bool]) -> tuple[str, ...]:
    words = tuple(word.strip() for word in text.split(","))
    for word in words:
        if not allowed(word):
            raise ValueError(quoted(word))
    if len(set(words)) != len(words):
        raise ValueError(f"{quoted(text)} (one of them twice)")
    return words


def _pattern(takes: str, pattern: str) -> Taken:
    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(quoted(text))
        return text

    return Taken(takes, parse)


node_id = _pattern("1 to 32 of a-z, 0-9 and -", r"[a-z0-9-]{1,32}")
host = _pattern("a host name or an IP address", r"[A-Za-z0-9._-]{1,253}|[0-9A-Fa-f:.]{2,45}(%[A-Za-z0-9._-]{1,32})?")
text = _pattern("text on one line, up to 1000 characters", r"[^\x00-\x1f\x7f]{1,1000}")
port = Taken("a port from 0 to 65535", whole(0, 65_535).parse)
algorithms = some_of(*_ALGORITHMS)
token_sources = Taken(
    "one or more of auth, header, query and cookie:NAME, with commas between",
    lambda text: _words(text, lambda word: word in ("auth", "header", "query") or _COOKIE.match(word) is not None),
)


def _log(text: str) -> Address:
    return parse_address(text)


def _folder(text: str) -> Path:
    path = Path(text)
    if "\0" in text or (path.exists() and not path.is_dir()):
        raise ValueError(quoted(text))
    return path


def _switch(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError(quoted(text))
    return text == "1"


def _secrets(text: str) -> dict[str | None, str]:
    """One HMAC key (`kid` None), or several by `kid`.

    It is the kid form when every part between commas is `kid:secret` and either there are several parts or the one secret is long
    enough: so a plain key may contain `:` and `,`. In the kid form each secret is held to the length.
    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise ValueError("bytes that are not UTF-8") from None
    if _KEY_FILE.match(text):
        raise ValueError("the text of a key file, which is no HMAC secret")
    matches = [_KID_FORM.match(part) for part in text.split(",")]
    pairs = [(match["kid"], match["secret"]) for match in matches if match is not None]
    short = [n for n, (_, secret) in enumerate(pairs, 1) if len(secret.encode()) < MIN_SECRET_BYTES]
    if len(pairs) < len(matches) or (len(pairs) == 1 and short):
        if size < MIN_SECRET_BYTES:
            raise ValueError(f"{size} bytes")
        return {None: text}
    if short:
        raise ValueError(f"{len(pairs)} of them, number {short[0]} with {len(pairs[short[0] - 1][1].encode())} bytes")
    if len({kid for kid, _ in pairs}) < len(pairs):
        raise ValueError("the same kid twice")
    return dict(pairs)


def _public_keys(text: str) -> Path:
    """A PEM file with at least one public key and no private one; the keys themselves are read by `node.auth.keys`."""
    path = Path(text)
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_PEM)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise ValueError(f"{quoted(text)} ({reason})") from None
    if b"PRIVATE KEY-----" in content:
        raise ValueError(f"{quoted(text)} (it holds a private key)")
    if not re.search(rb"-----BEGIN ((RSA |EC )?PUBLIC KEY|CERTIFICATE)-----", content):
        raise ValueError(f"{quoted(text)} (no PEM block of a public key in it)")
    return path


def _http_url(text: str) -> str:
    """May hold a password, or a key in its query: it is not quoted."""
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or re.search(r"[\s\x00-\x20]", text):
        raise ValueError("something else")
    return text


def _origin(text: str) -> str:
    """An origin as browsers write it: lower case, no default port, no slash."""
    match = re.fullmatch(r"(https?)://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]{1,5}))?/?", text.strip().lower())
    if match is None or not 0 < int(match[3] or 1) < 65_536:
        raise ValueError(quoted(text))
    scheme, name, port = match.groups()
    return f"{scheme}://{name}" + (f":{port}" if port and (scheme, port) not in (("http", "80"), ("https", "443")) else "")


def _origins(text: str) -> tuple[str, ...] | str:
    return "*" if text == "*" else tuple(dict.fromkeys(_origin(part) for part in text.split(",")))


log = Taken(FORMS, _log)
folder = Taken("a folder", _folder)
switch = Taken("0 or 1", _switch)
secrets = Taken(
    f"at least {MIN_SECRET_BYTES} bytes, or kid:secret,kid:secret of at least {MIN_SECRET_BYTES} bytes each", _secrets
)
public_keys = Taken("the path of a PEM file of public keys", _public_keys)
url = Taken("an http:// or https:// URL", _http_url)
urls = Taken("http:// or https:// URLs with commas between", lambda text: tuple(_origin(part) for part in text.split(",")))
origins = Taken("* or origins like https://chat.example.org, with commas between", _origins)
