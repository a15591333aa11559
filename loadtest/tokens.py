"""Tokens for the users of a load test: minted here with the cluster's HMAC key, or fetched from an issuer. The only import of `jwt` here.

A load test signs as an identity provider would; it shares nothing with the code of the node that will judge what it signs.
"""

import re
import urllib.request
from base64 import urlsafe_b64decode
from http.client import HTTPException
from typing import Protocol

import jwt
import msgspec

from loadtest import clock

FETCH_S = 10.0
_SHORTEST_S = 1.0  # that an issuer is asked for
_LAST_S = 1e12  # since the epoch: some 30,000 years
_BY_KID = re.compile(r"([A-Za-z0-9._-]{1,64}):([^,]{32,})(?:,|\Z)")


class TokenUnavailable(Exception):
    """No token can be had now."""


class Token(msgspec.Struct, frozen=True):
    """A token, and when it ends and was issued by its own word: in ms since the epoch, rounded down. None: it does not say."""

    text: str
    ends_at: int
    issued_at: int | None = None


class Mint(Protocol):
    """Where tokens come from."""

    def __call__(self, user: str, ttl_s: float, *, scope: str | None = None) -> Token:
        """A fresh one that lives so long. Raises `TokenUnavailable`."""


def minted(secret: str, *, issuer: str | None = None, audience: str | None = None) -> Mint:
    """Tokens signed here. `secret` as in `TIDEGATE_JWT_SECRET`: of several, the first signs."""
    named = _BY_KID.match(secret)
    key, headers = (named[2], {"kid": named[1]}) if named is not None else (secret, None)
    fixed = {name: value for name, value in (("iss", issuer), ("aud", audience)) if value is not None}

    def mint(user: str, ttl_s: float, *, scope: str | None = None) -> Token:
        now = clock.wall()
        claims = {"sub": user, "iat": now, "exp": now + ttl_s, **fixed} | ({"scope": scope} if scope else {})
        return Token(jwt.encode(claims, key, algorithm="HS256", headers=headers), int((now + ttl_s) * 1000), int(now * 1000))

    return mint


class _Answer(msgspec.Struct):
    token: str


class _Claims(msgspec.Struct):
    exp: float
    iat: float | None = None


def fetched(url: str) -> Mint:
    """Tokens of an issuer that answers `POST {"user", "ttl", "scope"?}` with `{"token"}`, as a node's `/dev/token` does."""

    def fetch(user: str, ttl_s: float, *, scope: str | None = None) -> Token:
        asked = {"user": user, "ttl": max(_SHORTEST_S, round(ttl_s, 3))} | ({"scope": scope} if scope else {})
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(url, msgspec.json.encode(asked), headers)  # noqa: S310 - the operator's own URL
        try:
            with urllib.request.urlopen(request, timeout=FETCH_S) as answer:  # noqa: S310
                return read(msgspec.json.decode(answer.read(), type=_Answer).token)
        except (OSError, HTTPException, ValueError, msgspec.MsgspecError) as error:
            raise TokenUnavailable(str(error)) from None

    return fetch


def read(text: str) -> Token:
    """A token with what it says itself. Raises `ValueError` where it does not say when it ends, or says what no clock ever shows."""
    parts = text.split(".")
    if len(parts) != 3:
        raise ValueError("not a token of three parts")
    claims = msgspec.json.decode(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)), type=_Claims)
    if not all(abs(moment) < _LAST_S for moment in (claims.exp, claims.iat or 0)):
        raise ValueError("a token of no time")
    return Token(text, int(claims.exp * 1000), None if claims.iat is None else int(claims.iat * 1000))
