"""Where in a handshake a token may stand: the Socket.IO `auth` payload, the `Authorization` header, the query, a cookie."""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

from node.auth.denied import Denied

QUERY_NAME = "token"
_ANOTHER_BEARER = re.compile(r",(?=\s*bearer(?:[\s,]|$))", re.IGNORECASE)


def find_token(
    auth: Any, environ: Mapping[str, str], sources: Sequence[str], *, cookies: bool = False
) -> tuple[str, str] | Denied:
    """The token and the name of its source, the first of `sources` that has one; or why there is none.

    `auth` is the CONNECT packet's payload (None where there is no packet), `environ` the HTTP request in CGI names. `cookies` says
    whether the request's `Origin` is one of ours: without that a cookie is no credential, since a browser adds it to anyone's request.
    Two that disagree are refused.
    """
    found: list[tuple[str, str]] = []
    for source in sources:
        tokens = _from(source, auth, environ, cookies=cookies)
        if isinstance(tokens, Denied):
            return tokens
        found += [(token, source) for token in tokens]
    if not found:
        return Denied("token_missing", f"no token in {' or '.join(_shown(source) for source in sources)}")
    if any(token != found[0][0] for token, _ in found):
        return Denied("credentials_conflict", "two tokens that differ came in one handshake")
    return found[0]


def _from(source: str, auth: Any, environ: Mapping[str, str], *, cookies: bool) -> list[str] | Denied:
    match source:
        case "auth":
            return _from_auth(auth)
        case "header":
            return _from_header(environ)
        case "query":
            pairs = parse_qsl(environ.get("QUERY_STRING", ""), errors="surrogateescape")
            return [value for name, value in pairs if name == QUERY_NAME]
        case _:
            return _from_cookies(environ, source.removeprefix("cookie:")) if cookies else []


def _from_auth(auth: Any) -> list[str] | Denied:
    if not isinstance(auth, dict) or auth.get("token") is None or auth.get("token") == "":
        return []
    token = auth["token"]
    return [token] if isinstance(token, str) else Denied("token_malformed", "auth.token is not a string")


def _from_header(environ: Mapping[str, str]) -> list[str] | Denied:
    """Every bearer token: of several `Authorization` headers the HTTP request in CGI names makes one, with commas between."""
    tokens = []
    for value in _ANOTHER_BEARER.split(environ.get("HTTP_AUTHORIZATION", "")):
        scheme, _, token = value.strip().partition(" ")
        if scheme.lower() != "bearer":
            continue
        if not token.strip():
            return Denied("token_malformed", "the Authorization header has no token")
        tokens.append(token.strip())
    return tokens


def _from_cookies(environ: Mapping[str, str], wanted: str) -> list[str]:
    """Every value of the cookie: a browser sends one name twice where a parent domain has set it too."""
    pairs = (part.partition("=") for part in environ.get("HTTP_COOKIE", "").split(";"))
    values = (value.strip().strip('"') for name, _, value in pairs if name.strip() == wanted)
    return [value for value in values if value]


def _shown(source: str) -> str:
    return {"auth": "auth.token", "header": "the Authorization header", "query": "the query"}.get(source, "the cookie")
