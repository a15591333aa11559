"""Fetching a key set over HTTP, by its URL or by OpenID Connect discovery, from an issuer that may be slow, broken or lying.

The only import of `httpx`, and itself imported only where there is an issuer. No message holds a URL: it may have a password in it.
"""

import asyncio
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec

from node.auth.key_set import FetchFailed, Issuer, KeySet, insecure, key_set, loopback

FETCH_S = 5.0  # for discovery and the set together, slow drips included
MOST_BYTES = 262_144  # a set of ten RSA keys with certificates is about 40 KiB
MOST_REDIRECTS = 3
_DISCOVERY = "/.well-known/openid-configuration"
_ACCEPT = {"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"}


class KeyFetcher:
    """Asks one issuer for its keys. Certificates are checked against the system's authorities (`SSL_CERT_FILE` names others)."""

    def __init__(self, issuer: Issuer, *, limit_s: float = FETCH_S) -> None:
        self._issuer, self._limit_s = issuer, limit_s
        self._tls = ssl.create_default_context()

    async def fetch(self) -> KeySet:
        """The key set as it is now. Raises `FetchFailed`."""
        try:
            async with asyncio.timeout(self._limit_s):
                url = self._issuer.jwks_url or await self._discover(self._issuer.issuer or "")
                return key_set(await self._json(url))
        except (TimeoutError, httpx.TimeoutException):
            raise FetchFailed("timeout", f"no answer within {self._limit_s:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise FetchFailed("unreachable", f"the issuer cannot be reached ({type(error).__name__})") from None

    async def _discover(self, issuer: str) -> str:
        document = await self._json(issuer.rstrip("/") + _DISCOVERY)
        if not isinstance(document, dict) or not isinstance(document.get("jwks_uri"), str):
            raise FetchFailed("malformed", "the discovery document has no jwks_uri")
        if document.get("issuer") != issuer:  # OpenID Connect Discovery 1.0, section 4.3: exactly
            raise FetchFailed("issuer", "the discovery document is of another issuer than the one configured, perhaps by a slash")
        url: str = document["jwks_uri"]
        try:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
                raise ValueError
        except ValueError:
            raise FetchFailed("malformed", "the jwks_uri is not an HTTP URL") from None
        if parts.scheme == "http" and (urlsplit(issuer).scheme == "https" or (insecure(url) and not self._issuer.allow_http)):
            raise FetchFailed("redirect", "the discovery document leads to plain HTTP")
        return url

    async def _json(self, url: str) -> Any:
        # A proxy of the environment stands between this machine and others, not between it and itself.
        proxied = not loopback(urlsplit(url).hostname or "")
        async with self._client(proxied=proxied) as client:
            request: httpx.Request = client.build_request("GET", url)
            for _ in range(MOST_REDIRECTS + 1):
                response = await client.send(request, stream=True)
                try:
                    if response.next_request is None:
                        return _decoded(response.status_code, response.headers, await _body(response))
                    request = _same_place(request, response.next_request)
                finally:
                    await response.aclose()
        raise FetchFailed("redirect", f"more than {MOST_REDIRECTS} redirects")

    def _client(self, *, proxied: bool) -> httpx.AsyncClient:
        try:
            return httpx.AsyncClient(verify=self._tls, trust_env=proxied, timeout=self._limit_s, headers=_ACCEPT)
        except (ValueError, ImportError):  # a SOCKS proxy takes a package more; any other kind is none
            raise FetchFailed("unreachable", "the proxy that the environment names is of no kind that can be used") from None


def _same_place(asked: httpx.Request, next_request: httpx.Request) -> httpx.Request:
    """The request that a redirect asks for. A redirect to elsewhere would let whoever makes one choose our keys."""
    here, there = ((r.url.scheme, r.url.host, r.url.port) for r in (asked, next_request))
    if here != there:
        raise FetchFailed("redirect", "a redirect to another place is not followed: configure the URL that it leads to")
    return next_request


async def _body(response: httpx.Response) -> bytes:
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise FetchFailed("malformed", "the answer is compressed, which was not asked for")
    content = bytearray()
    async for chunk in response.aiter_raw():
        content += chunk
        if len(content) > MOST_BYTES:
            raise FetchFailed("too_large", f"the answer is over {MOST_BYTES} bytes")
    return bytes(content)


def _decoded(status: int, headers: Mapping[str, str], content: bytes) -> Any:
    if status != 200:
        raise FetchFailed("status", f"the answer is HTTP {status}")
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise FetchFailed("content_type", "the answer does not say that it is JSON")
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        raise FetchFailed("malformed", "the answer is not JSON") from None
