"""Tokens as an identity provider would sign them for the clusters of the tests."""

import time
from typing import Any

import jwt

from tests.support.secrets import SECRETS

SECRET = SECRETS.key("a-secret-of-the-tests-that-is-long-enough-for-hmac")


def token(user: str, *, ttl: float = 600.0, scope: str | None = None, secret: str = SECRET, **claims: Any) -> str:
    """A signed HS256 token of `user` that lives `ttl` seconds; `claims` are added, or left out where they are None."""
    now = time.time()
    body: dict[str, Any] = {"sub": user, "iat": now, "exp": now + ttl, "scope": scope} | claims
    claims = {name: value for name, value in body.items() if value is not None}
    return SECRETS.token(jwt.encode(claims, secret, algorithm="HS256"))


def at(user: str, expires_at: int, **claims: Any) -> str:
    """A token that ends at `expires_at` (ms)."""
    return token(user, exp=expires_at / 1000, **claims)
