"""Tokens for the users of a load test: minted here with the cluster's HMAC key, or fetched from an issuer. The only import of `jwt` here.

A load test signs as an identity provider would; it shares nothing with the code of the node that will judge what it signs.
"""

import re
import time
import urllib.request
from collections.abc import Callable

import jwt
import msgspec

Mint = Callable[[str], str]
"""From a user to a fresh token. Raises `TokenUnavailable`."""
FETCH_S = 10.0
_BY_KID = re.compile(r"([A-Za-z0-9._-]{1,64}):([^,]{32,})(?:,|\Z)")


class TokenUnavailable(Exception):
    """No token can be had now."""


def minted(secret: str, *, ttl_s: float, issuer: str | None = None, audience: str | None = None) -> Mint:
    """Tokens that live `ttl_s` from the moment they are minted. `secret` as in `TIDEGATE_JWT_SECRET`: of several, the first signs."""
    named = _BY_KID.match(secret)
    key, headers = (named[2], {"kid": named[1]}) if named is not None else (secret, None)
    fixed = {name: value for name, value in (("iss", issuer), ("aud", audience)) if value is not None}

    def mint(user: str) -> str:
        now = time.time()
        return jwt.encode({"sub": user, "iat": now, "exp": now + ttl_s, **fixed}, key, algorithm="HS256", headers=headers)

    return mint


class _Token(msgspec.Struct):
    token: str


def fetched(url: str, *, ttl_s: float) -> Mint:
    """Tokens of an issuer that answers `POST {"user", "ttl"}` with `{"token"}`, as a node's `/dev/token` does."""

    def fetch(user: str) -> str:
        body = msgspec.json.encode({"user": user, "ttl": max(1, round(ttl_s))})
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 - the operator's own URL
        try:
            with urllib.request.urlopen(request, timeout=FETCH_S) as answer:  # noqa: S310
                return msgspec.json.decode(answer.read(), type=_Token).token
        except (OSError, msgspec.MsgspecError) as error:
            raise TokenUnavailable(str(error)) from None

    return fetch
