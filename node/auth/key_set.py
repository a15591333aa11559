"""A key set as an issuer publishes it, where it is, and why none was had. Nothing here asks anybody.

No message holds a URL: it may have a password in it.
"""

import ipaddress
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from node.auth.keys import Key, UnfitKey, key_of_jwk

Outcome = Literal["ok", "unreachable", "timeout", "status", "redirect", "content_type", "too_large", "malformed", "issuer"]

MOST_KEYS = 64  # a token without a `kid` is tried on each


class FetchFailed(Exception):
    """No key set was had: `outcome` for the metric, the message for people."""

    def __init__(self, outcome: Outcome, message: str) -> None:
        super().__init__(message)
        self.outcome: Outcome = outcome


class KeySet(msgspec.Struct, frozen=True):
    """The usable keys of a set, and why each other member is not."""

    keys: tuple[Key, ...]
    ignored: tuple[str, ...] = ()


class Issuer(msgspec.Struct, frozen=True, kw_only=True):
    """Where a key set is: at `jwks_url`, or where the discovery document of the OpenID Connect `issuer` says.

    `allow_http` lets keys come over plain HTTP from another machine: whoever is on the way can put in theirs.
    """

    jwks_url: str | None = None
    issuer: str | None = None
    allow_http: bool = False

    def __repr__(self) -> str:
        return "Issuer(…)"


def insecure(url: str) -> bool:
    """Whether the URL is one of plain HTTP to another machine."""
    parts = urlsplit(url)
    return parts.scheme != "https" and not loopback(parts.hostname or "")


def loopback(host: str) -> bool:
    """Whether the host is this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def key_set(document: Any) -> KeySet:
    """The keys of a JWK set (RFC 7517 section 5); members that are not for us are left out. Raises `FetchFailed` when it is none."""
    members = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(members, list):
        raise FetchFailed("malformed", "the answer is not a key set")
    if len(members) > MOST_KEYS:
        raise FetchFailed("too_large", f"the set has more than {MOST_KEYS} keys")
    keys, ignored = [], []
    for member in members:
        try:
            keys.append(key_of_jwk(member))
        except UnfitKey as error:
            ignored.append(str(error))
    return KeySet(tuple(dict.fromkeys(keys)), tuple(ignored))
