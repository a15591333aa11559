"""Verify and sign JSON Web Tokens: the only import of `jwt`.

PyJWT checks the signature; the header and the claims are judged here, since each way to be wrong has its own code.
"""

import base64
import functools
import json
import math
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

import jwt
import msgspec

from node.auth.denied import DenialCode, Denied, KeyMissing
from node.auth.keys import Key, KeyRing
from node.core.identity import Principal

_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\Z")
_LATEST_SECONDS = 253_402_300_799  # the end of the year 9999: what lies beyond is a mistake, not a date


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What this cluster asks of a token besides a good signature. Times in ms."""

    algorithms: frozenset[str]
    issuer: str | None = None
    audience: str | None = None
    leeway_ms: int = 5_000  # on `nbf` and `iat`; never extends `exp`
    max_ttl_ms: int = 0  # from `iat`, which is required then; 0: no cap
    max_bytes: int = 8_192
    max_user_chars: int = 128


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What a good token says, and the key that it is good under."""

    principal: Principal
    key: Key
    algorithm: str


class _Refusal(Exception):
    """Leaves the judging functions at the first fault; never leaves this module."""

    def __init__(self, code: DenialCode, message: str) -> None:
        self.denied = Denied(code, message)


class _NoKey(_Refusal):
    """The fault is that no key is there: another key might make the token a good one."""

    def __init__(self, code: DenialCode, message: str) -> None:
        self.denied = KeyMissing(code, message)


def verify(token: str, keys: KeyRing, policy: Policy, *, now: int) -> Principal | Denied:
    """Judge a token at `now` (ms). Never raises, whatever the text; a `Denied` holds no part of it.

    A `KeyMissing` says that a ring with more keys might accept it.
    """
    verdict = examine(token, keys, policy, now=now)
    return verdict.principal if isinstance(verdict, Verified) else verdict


def examine(token: str, keys: KeyRing, policy: Policy, *, now: int) -> Verified | Denied:
    """As `verify`, and says by which key."""
    try:
        if len(token.encode("utf-8", "surrogatepass")) > policy.max_bytes:
            raise _Refusal("token_too_large", f"a token takes at most {policy.max_bytes} bytes")
        if not _COMPACT.match(token):
            raise _Refusal("token_malformed", "not a compact JWS: three base64url parts with dots between them")
        header = _json_object(token.split(".", 1)[0], "header")
        claims, key = _signed_claims(token, header, keys, policy)
        return Verified(principal=_judge_claims(claims, policy, now), key=key, algorithm=header["alg"])
    except _Refusal as refusal:
        return refusal.denied


def sign(claims: Mapping[str, Any], secret: str, *, kid: str | None = None, algorithm: str = "HS256") -> str:
    """A compact JWS of the claims with an HMAC key: what `tidegate token` and the dev issuer hand out."""
    return jwt.encode(dict(claims), secret, algorithm=algorithm, headers={"kid": kid} if kid is not None else None)


def _json_object(part: str, what: str) -> dict[str, Any]:
    try:
        value = json.loads(_decoded(part).decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise _Refusal("token_malformed", f"the token's {what} is not JSON, or names a member twice") from None
    if not isinstance(value, dict):
        raise _Refusal("token_malformed", f"the token's {what} is not a JSON object")
    return value


def _decoded(part: str) -> bytes:
    """The bytes of a base64url part in its one canonical spelling: a last character that differs in unused bits is another token.

    Raises `ValueError`.
    """
    raw = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    if base64.urlsafe_b64encode(raw).rstrip(b"=") != part.encode():
        raise ValueError("not canonical base64url")
    return raw


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate member")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _signed_claims(token: str, header: dict[str, Any], keys: KeyRing, policy: Policy) -> tuple[dict[str, Any], Key]:
    """The claims, once the signature holds under a key that its algorithm and `kid` may use; and that key.

    Of the header only `alg` and `kid` choose a key: where it says that one could be found (`jku`, `jwk`, `x5u`, `x5c`) counts for nothing.
    """
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in policy.algorithms:
        raise _Refusal("algorithm_not_allowed", f"the token's alg is not one of {', '.join(sorted(policy.algorithms))}")
    if "crit" in header or "b64" in header:
        raise _Refusal("token_malformed", "the token's header has a critical extension that is not understood")
    if "kid" in header and not isinstance(kid, str):
        raise _Refusal("token_malformed", "the token's kid is not a string")
    candidates = keys.candidates(kid, algorithm)
    if isinstance(candidates, Denied):
        raise _NoKey(candidates.code, candidates.message)
    signed, _, signature = token.rpartition(".")
    claims = _json_object(token.split(".")[1], "payload")
    for key in candidates:
        if _holds(key, algorithm, signed.encode(), signature):
            return claims, key
    refusal = _Refusal if kid is not None and any(key.kid == kid for key in candidates) else _NoKey
    raise refusal("signature_invalid", "the token's signature does not hold under any key of ours")


def _holds(key: Key, algorithm: str, signed: bytes, signature: str) -> bool:
    """Whether the signature is this key's. A key that cannot be one of the algorithm's (a PEM as an HMAC secret) signed nothing."""
    try:
        prepared = _prepared(key.material, algorithm)
        return jwt.get_algorithm_by_name(algorithm).verify(signed, prepared, _decoded(signature))
    except (ValueError, jwt.InvalidKeyError):
        return False


@functools.lru_cache(maxsize=256)  # no token brings a key along; preparing one costs as much as verifying with it
def _prepared(material: bytes, algorithm: str) -> Any:
    return jwt.get_algorithm_by_name(algorithm).prepare_key(material)


def _judge_claims(claims: dict[str, Any], policy: Policy, now: int) -> Principal:
    for name in ("sub", "exp"):
        if name not in claims:
            raise _Refusal("claim_missing", f"the token has no {name} claim")
    user, jti, issuer = _text(claims, "sub"), _text(claims, "jti"), _text(claims, "iss")
    expires_at, not_before, issued_at = _time(claims, "exp"), _time(claims, "nbf"), _time(claims, "iat")
    scopes, audiences = _scopes(claims), _audiences(claims)
    assert user is not None and expires_at is not None
    if not user or len(user) > policy.max_user_chars or any(unicodedata.category(char) in ("Cc", "Cs") for char in user):
        raise _Refusal("token_malformed", f"sub takes 1 to {policy.max_user_chars} characters without control characters")
    if now >= expires_at:
        raise _Refusal("token_expired", "the token's exp has passed")
    if not_before is not None and now + policy.leeway_ms < not_before:
        raise _Refusal("token_not_yet_valid", "the token's nbf lies ahead")
    if issued_at is not None and now + policy.leeway_ms < issued_at:
        raise _Refusal("token_not_yet_valid", "the token's iat lies ahead")
    if (
        policy.max_ttl_ms and issued_at is None
    ):  # its age cannot be told: it might outlive its withdrawal, which is forgotten by then
        raise _Refusal("claim_missing", "the token has no iat claim, which tells how long it lives")
    if policy.max_ttl_ms and issued_at is not None and expires_at - issued_at > policy.max_ttl_ms:
        raise _Refusal("token_ttl_too_long", f"a token may live at most {policy.max_ttl_ms // 1000} s")
    if policy.issuer is not None and issuer != policy.issuer:
        raise _Refusal("issuer_invalid", "the token's iss is not the one configured")
    if policy.audience is not None and policy.audience not in audiences:
        raise _Refusal("audience_invalid", "the token's aud does not name us")
    return Principal(user=user, expires_at=expires_at, issued_at=issued_at, jti=jti, scopes=scopes)


def _text(claims: dict[str, Any], name: str) -> str | None:
    value = claims.get(name)
    if name in claims and not isinstance(value, str):
        raise _Refusal("token_malformed", f"the token's {name} is not a string")
    return value


def _time(claims: dict[str, Any], name: str) -> int | None:
    """A NumericDate in ms, rounded down, so that a token never lives longer than it says."""
    if name not in claims:
        return None
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > _LATEST_SECONDS:
        raise _Refusal("token_malformed", f"the token's {name} is not a time in seconds")
    return math.floor(value * 1000)


def _scopes(claims: dict[str, Any]) -> frozenset[str] | None:
    if "scope" not in claims:
        return None
    scope = claims["scope"]
    if isinstance(scope, str):
        return frozenset(scope.split())
    raise _Refusal("token_malformed", "the token's scope is not a string of words")


def _audiences(claims: dict[str, Any]) -> list[str]:
    aud = claims.get("aud", [])
    audiences = aud if isinstance(aud, list) else [aud]
    if not all(isinstance(one, str) for one in audiences):
        raise _Refusal("token_malformed", "the token's aud is not a string or a list of strings")
    return audiences
