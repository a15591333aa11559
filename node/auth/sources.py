"""Where in a handshake a token may stand: the Socket.IO `auth` payload and the `Authorization` header."""

from collections.abc import Mapping, Sequence
from typing import Any

from node.auth.denied import Denied


def find_token(auth: Any, headers: Mapping[str, str], sources: Sequence[str]) -> tuple[str, str] | Denied:
    """The token and the name of its source, the first of `sources` that has one; or why there is none.

    `auth` is the CONNECT packet's payload, `headers` an environ of CGI names. Two that disagree are refused.
    """
    found: list[tuple[str, str]] = []
    for source in sources:
        token = _from_auth(auth) if source == "auth" else _from_header(headers) if source == "header" else None
        if isinstance(token, Denied):
            return token
        if token is not None:
            found.append((token, source))
    if not found:
        return Denied("token_missing", f"no token in {' or '.join(sources)}")
    if any(token != found[0][0] for token, _ in found):
        return Denied("credentials_conflict", "two tokens that differ came in one handshake")
    return found[0]


def _from_auth(auth: Any) -> str | None | Denied:
    if not isinstance(auth, dict) or auth.get("token") is None or auth.get("token") == "":
        return None
    token = auth["token"]
    return token if isinstance(token, str) else Denied("token_malformed", "auth.token is not a string")


def _from_header(headers: Mapping[str, str]) -> str | None | Denied:
    value = headers.get("HTTP_AUTHORIZATION")
    if value is None:
        return None
    scheme, _, token = value.strip().partition(" ")
    if scheme.lower() != "bearer":
        return None
    token = token.strip()
    return token or Denied("token_malformed", "the Authorization header has no token")
