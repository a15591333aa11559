"""`tidegate token`: a signed token for the configured key."""

import json
import secrets
import time
from typing import Annotated, Any

from node.auth.keys import HMAC_ALGORITHMS
from node.auth.tokens import sign
from node.cli.dev_secret import dev_secret_file
from node.cli.flags import Command, Takes
from node.cli.screen import say
from node.config import ConfigurationError, Settings, load
from node.config_values import Taken, whole

_MOST_TTL_S = 10 * 365 * 86_400


#: Claims that are said otherwise, and how: a `--claim` that overrode one would sign something else than the command line says.
_SAID_BY = {"sub": "USER", "exp": "--ttl", "iat": "the clock"}


def _claim(text: str) -> tuple[str, Any]:
    """`k=v`; the value as JSON where it is, else as it stands. What it got is not quoted: a claim may be private."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ValueError("one without a name or without =")
    if name in _SAID_BY:
        raise ValueError(f"{name}, which {_SAID_BY[name]} says")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _user(text: str) -> str:
    if not text or len(text) > 128 or any(ord(c) < 32 for c in text):
        raise ValueError(f"{len(text)} characters, or a control character")
    return text


_USER = Taken("the name of a user, 1 to 128 characters without control characters", _user)
_SCOPE = Taken("words with spaces between, as chat or admin", lambda text: " ".join(text.split()))


def token(
    settings: Settings,
    user: Annotated[str, Takes(meaning="whose token", shown="USER", kind=_USER, word=True)],
    ttl: Annotated[int, Takes(meaning="seconds that it lives", shown="SECONDS", kind=whole(1, _MOST_TTL_S))] = 60,
    scope: Annotated[
        str | None, Takes(meaning='its scopes, as "chat admin" (default: no scope claim)', shown="SCOPES", kind=_SCOPE)
    ] = None,
    claim: Annotated[
        tuple[tuple[str, Any], ...],
        Takes(meaning="one more claim; the value is JSON, else text", shown="K=V", kind=Taken("k=v", _claim), several=True),
    ] = (),
) -> int:
    """Print a signed token for the configured key.

    The key is TIDEGATE_JWT_SECRET (the first, where there are several), or where none is configured the one
    that `tidegate up` has made in its data folder. Only the token goes to stdout.
    """
    if scope is not None and "scope" in dict(claim):
        raise ConfigurationError(["--claim: takes k=v, got scope, which --scope says"])
    kid, secret = _signing_key(settings)
    algorithm = min(settings.algorithms & HMAC_ALGORITHMS, default=None) if settings.jwt_algorithms else "HS256"
    if algorithm is None:
        raise ConfigurationError(["TIDEGATE_JWT_ALGORITHMS: takes one of HS256, HS384, HS512 to sign with, got none of them"])
    now = int(time.time())
    claims: dict[str, Any] = {"sub": user, "iat": now, "exp": now + ttl, "jti": secrets.token_urlsafe(12)}
    given = {"iss": settings.token_issuer, "aud": settings.jwt_audience, "scope": scope}
    claims |= {name: value for name, value in given.items() if value is not None} | dict(claim)
    say(sign(claims, secret, kid=kid, algorithm=algorithm))
    return 0


def _signing_key(settings: Settings) -> tuple[str | None, str]:
    if settings.jwt_secret:
        return next(iter(settings.jwt_secret.items()))
    if settings.jwt_public_key_file or settings.jwks_url or settings.oidc_issuer:
        raise ConfigurationError(["TIDEGATE_JWT_SECRET: takes a secret to sign with, got only keys that verify"])
    file = dev_secret_file(settings.data)
    if not file.exists():
        where = f"nothing (and {file}, which `tidegate up` makes, is not there)"
        raise ConfigurationError([f"TIDEGATE_JWT_SECRET: takes at least 32 bytes to sign with, got {where}"])
    return next(iter(load({"jwt_secret_file": str(file)}, {}).jwt_secret.items()))


COMMAND = Command(run=token, settings=("data", "jwt_secret", "jwt_algorithms", "jwt_issuer", "jwt_audience"))
