"""Hostile, wrong and borderline tokens, each with the code that PROTOCOL section 4 gives it, or `accepted`."""

import base64
import hmac
import json
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from tests.support.issuer import KeyPair
from tests.support.tokens import SECRET

ISSUER, AUDIENCE, USER = "https://id.example", "tidegate", "ann"
MAX_BYTES = 8_192
LEEWAY_S = 60  # wide, so that no pause of a busy machine lies between a token's making and its judge
MAX_TTL_S = 3_600
SETTINGS = {
    "jwt_secret": f"hmac-1:{SECRET}",
    "jwt_algorithms": "HS256,RS256,ES256",
    "jwt_issuer": ISSUER,
    "jwt_audience": AUDIENCE,
    "jwt_leeway_seconds": str(LEEWAY_S),
    "jwt_max_ttl_seconds": str(MAX_TTL_S),
    "token_bytes": str(MAX_BYTES),
}

JSON = frozenset({"auth", "two-step", "refresh"})  # where a token is a member of an object
EVENTS = JSON - {"auth"}
ALL = JSON | {"header", "query", "cookie", "api", "poll"}
URL = JSON | {"query"}  # where any character may stand


class Case(NamedTuple):
    """One token: what is wrong with it, how it is made at the moment of its use, its code, and the places that can hold it."""

    name: str
    make: Callable[[], Any]
    code: str
    places: frozenset[str] = ALL


class Keys:
    """The keys of the issuer, one that it has withdrawn, and a stranger's, who calls his by the same name."""

    def __init__(self) -> None:
        self.rsa, self.ec, self.withdrawn = KeyPair("rsa-1"), KeyPair("ec-1", "ES256"), KeyPair("gone")
        self.stranger = KeyPair("rsa-1")


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def claims(**changes: Any) -> dict[str, Any]:
    """The claims of a good token; one that is changed to `...` is left out."""
    now = time.time()
    good = {"sub": USER, "iat": now, "exp": now + 600, "iss": ISSUER, "aud": AUDIENCE, "scope": "chat"}
    return {name: value for name, value in (good | changes).items() if value is not ...}


def as_json(value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def forged(header: Any, payload: Any, *, secret: bytes = SECRET.encode()) -> str:
    """A token of these very bytes (or objects as JSON), signed by hand with SHA-256: no library refuses to make it."""
    signed = f"{b64(as_json(header))}.{b64(as_json(payload))}"
    return f"{signed}.{b64(hmac.digest(secret, signed.encode(), 'sha256'))}"


def good(**changes: Any) -> str:
    """A token that is good but for the claims that are changed."""
    return forged({"alg": "HS256", "kid": "hmac-1"}, claims(**changes))


def headed(**changes: Any) -> str:
    """A token that is good but for the header's members that are changed; one that is changed to `...` is left out."""
    header = {"alg": "HS256", "typ": "JWT", "kid": "hmac-1"} | changes
    return forged({name: value for name, value in header.items() if value is not ...}, claims())


def of_size(size: int) -> str:
    """A good token of exactly so many bytes."""
    pad = size - len(good(pad=""))
    while len(token := good(pad="x" * (pad * 3 // 4))) != size:
        pad += 1 if len(token) < size else -1
    return token


def cut(token: str, *kept: int) -> str:
    """These parts of a token, with dots between."""
    return ".".join(token.split(".")[place] for place in kept)


def flipped(token: str, part: int) -> str:
    """The token with one bit of this part changed."""
    parts = token.split(".")
    raw = bytearray(base64.urlsafe_b64decode(parts[part] + "=" * (-len(parts[part]) % 4)))
    raw[len(raw) // 2] ^= 1
    parts[part] = b64(bytes(raw))
    return ".".join(parts)


def table(keys: Keys, away: str) -> list[Case]:
    """The whole table; `away` is a URL that nobody may ask for a key."""
    return [*_shapes(), *_algorithms(keys), *_keys(keys, away), *_signatures(keys), *_types(), *_times(), *_values()]


def _shapes() -> list[Case]:
    header = {"alg": "HS256", "kid": "hmac-1"}
    malformed: list[tuple[str, Callable[[], Any], frozenset[str]]] = [
        ("a word", lambda: "hello", ALL),
        ("dots alone", lambda: "..", ALL),
        ("cut at the last dot", lambda: cut(good(), 0, 1), ALL),
        ("cut at the first dot", lambda: cut(good(), 0), ALL),
        ("no header", lambda: "." + cut(good(), 1, 2), ALL),
        ("no payload", lambda: cut(good(), 0) + ".." + cut(good(), 2), ALL),
        ("four parts", lambda: good() + ".x", ALL),
        ("five parts, as of a JWE", lambda: "a.b.c.d.e", ALL),
        ("padded", lambda: good() + "=", ALL),
        ("padded in the middle", lambda: cut(good(), 0) + "=." + cut(good(), 1, 2), ALL),
        ("base64 that is not for URLs", lambda: "+/+/." + cut(good(), 1, 2), ALL),
        ("not base64", lambda: "$$$." + cut(good(), 1, 2), ALL),
        ("base64 of a length that cannot be", lambda: "eyJhb." + cut(good(), 1, 2), ALL),
        ("a blank inside", lambda: cut(good(), 0) + ". " + cut(good(), 1, 2), ALL),
        ("a tab inside", lambda: cut(good(), 0) + ".\t" + cut(good(), 1, 2), ALL),
        ("a blank behind it", lambda: good() + " ", URL),
        ("a line break behind it", lambda: good() + "\n", URL),
        ("in quotes", lambda: f'"{good()}"', ALL - {"cookie"}),
        ("with its scheme", lambda: "Bearer " + good(), ALL),
        ("NUL behind it", lambda: good() + "\0", URL),
        ("letters of another script", lambda: "\u0430\u0431.\u0432.\u0433", URL),
        ("header not JSON", lambda: forged(b"{alg:HS256}", claims()), ALL),
        ("header an array", lambda: forged(["HS256"], claims()), ALL),
        ("header null", lambda: forged(b"null", claims()), ALL),
        ("header not UTF-8", lambda: forged(b'{"alg":"HS256","x":"\xff"}', claims()), ALL),
        ("header in UTF-16", lambda: forged(json.dumps(header).encode("utf-16"), claims()), ALL),
        ("header with a member twice", lambda: forged(b'{"alg":"none","alg":"HS256"}', claims()), ALL),
        ("header nested deeply", lambda: forged(b'{"alg":' + b"[" * 3_000, claims()), ALL),
        ("payload not JSON", lambda: forged(header, b"hello"), ALL),
        ("payload not UTF-8", lambda: forged(header, b'{"sub":"\xff"}'), ALL),
        ("payload an array", lambda: forged(header, ["sub", "exp"]), ALL),
        ("payload a string", lambda: forged(header, "ann"), ALL),
        ("payload null", lambda: forged(header, b"null"), ALL),
        ("payload with a claim twice", lambda: forged(header, as_json(claims())[:-1] + b',"sub":"root"}'), ALL),
        ("payload with NaN", lambda: forged(header, as_json(claims(exp=...))[:-1] + b',"exp":NaN}'), ALL),
        ("a token in the token", lambda: forged(header | {"cty": "JWT"}, good().encode()), ALL),
        ("payload not encoded", lambda: headed(b64=False, crit=["b64"]), ALL),
        ("payload not encoded, uncritically", lambda: headed(b64=False), ALL),
        ("crit of what nobody knows", lambda: headed(crit=["moon"], moon=1), ALL),
        ("crit of what everybody knows", lambda: headed(crit=["alg"]), ALL),
        ("crit empty", lambda: headed(crit=[]), ALL),
        ("crit no list", lambda: headed(crit="exp"), ALL),
        ("kid a number", lambda: headed(kid=1), ALL),
        ("kid null", lambda: headed(kid=None), ALL),
        ("kid an object", lambda: headed(kid={"$ne": ""}), ALL),
        ("a number instead of it", lambda: 7, JSON),
        ("true instead of it", lambda: True, JSON),
        ("a list around it", lambda: [good()], JSON),
        ("an object around it", lambda: {"token": good()}, JSON),
    ]
    return [
        *(Case(name, make, "token_malformed", places) for name, make, places in malformed),
        Case("null instead of it", lambda: None, "token_missing", EVENTS),
        Case("an empty text instead of it", lambda: "", "token_missing", EVENTS),
        Case("as large as allowed", lambda: of_size(MAX_BYTES), "accepted"),
        Case("a byte too large", lambda: of_size(MAX_BYTES + 1), "token_too_large"),
        Case("too large, and no token", lambda: "x" * (MAX_BYTES + 1), "token_too_large"),
        Case("twice as large", lambda: of_size(2 * MAX_BYTES), "token_too_large"),
        Case("just good", good, "accepted"),
        Case("no typ", lambda: headed(typ=...), "accepted"),
        Case("another typ", lambda: headed(typ="at+jwt", cty="x"), "accepted"),
    ]


def _algorithms(keys: Keys) -> list[Case]:
    unsigned = b64(b'{"alg":"none"}')
    not_allowed: list[tuple[str, Callable[[], str]]] = [
        ("no alg", lambda: headed(alg=...)),
        ("alg none", lambda: f"{unsigned}.{b64(as_json(claims()))}."),
        ("alg none, and a signature", lambda: f"{unsigned}.{cut(good(), 1, 2)}"),
        ("alg None", lambda: headed(alg="None")),
        ("alg nOnE", lambda: headed(alg="nOnE")),
        ("alg hs256", lambda: headed(alg="hs256")),
        ("alg with a blank", lambda: headed(alg="HS256 ")),
        ("alg empty", lambda: headed(alg="")),
        ("alg null", lambda: headed(alg=None)),
        ("alg a list", lambda: headed(alg=["HS256"])),
        ("alg a number", lambda: headed(alg=256)),
        ("alg HS512, not listed", lambda: headed(alg="HS512")),
        ("alg PS256, not listed", lambda: keys.rsa.sign(claims(), alg="PS256")),
        ("alg unheard of", lambda: headed(alg="ROT13")),
    ]
    return [Case(name, make, "algorithm_not_allowed") for name, make in not_allowed]


def _keys(keys: Keys, away: str) -> list[Case]:
    def confused(kid: str | None) -> str:
        header = {"alg": "HS256"} | ({"kid": kid} if kid is not None else {})
        return forged(header, claims(), secret=keys.rsa.pem.encode())

    jwk = keys.stranger.jwk()
    cases: list[tuple[str, Callable[[], str], str]] = [
        ("RS256", lambda: keys.rsa.sign(claims()), "accepted"),
        ("RS256 without a kid", lambda: keys.rsa.sign(claims(), kid=None), "accepted"),
        ("ES256", lambda: keys.ec.sign(claims()), "accepted"),
        ("HS256 without a kid", lambda: headed(kid=...), "accepted"),
        ("an unknown kid", lambda: headed(kid="hmac-2"), "key_unknown"),
        ("an empty kid", lambda: headed(kid=""), "key_unknown"),
        ("a kid in capitals", lambda: headed(kid="HMAC-1"), "key_unknown"),
        ("a kid like a path", lambda: headed(kid="../../../../dev/null"), "key_unknown"),
        ("a kid with a login in it", lambda: headed(kid="x' OR 'a'='a"), "key_unknown"),
        ("a withdrawn kid", lambda: keys.withdrawn.sign(claims()), "key_unknown"),
        ("the withdrawn key under another's kid", lambda: keys.withdrawn.sign(claims(), kid="rsa-1"), "signature_invalid"),
        ("the withdrawn key without a kid", lambda: keys.withdrawn.sign(claims(), kid=None), "signature_invalid"),
        ("the public key as a secret", lambda: confused(None), "signature_invalid"),
        ("the public key as a secret, by its kid", lambda: confused("rsa-1"), "key_unknown"),
        ("the public key as a secret, by the secret's kid", lambda: confused("hmac-1"), "signature_invalid"),
        ("the kid of a key of another type", lambda: keys.ec.sign(claims(), kid="rsa-1"), "key_unknown"),
        ("a stranger's key", lambda: keys.stranger.sign(claims()), "signature_invalid"),
        ("a stranger's key in jwk", lambda: keys.stranger.sign(claims(), jwk=jwk), "signature_invalid"),
        ("a stranger's key in jwk, without a kid", lambda: keys.stranger.sign(claims(), jwk=jwk, kid=None), "signature_invalid"),
        ("a stranger's key at jku", lambda: keys.stranger.sign(claims(), jku=away, kid="x"), "key_unknown"),
        ("a stranger's key at jku, by our kid", lambda: keys.stranger.sign(claims(), jku=away), "signature_invalid"),
        ("a stranger's key at x5u", lambda: keys.stranger.sign(claims(), x5u=away), "signature_invalid"),
        ("a stranger's key in x5c", lambda: keys.stranger.sign(claims(), x5c=["MIIB"]), "signature_invalid"),
        ("our key, and jku, x5u and jwk beside it", lambda: keys.rsa.sign(claims(), jku=away, x5u=away, jwk=jwk), "accepted"),
    ]
    return [Case(*case) for case in cases]


def _signatures(keys: Keys) -> list[Case]:
    header = {"alg": "HS256", "kid": "hmac-1"}
    nothing = b64(bytes(64))  # r = s = 0
    cases: list[tuple[str, Callable[[], str]]] = [
        ("no signature", lambda: cut(good(), 0, 1) + "."),
        ("the signature of another token", lambda: cut(good(), 0, 1) + "." + cut(good(sub="bob"), 2)),
        ("the payload of another token", lambda: f"{cut(good(), 0)}.{cut(good(sub='root'), 1)}.{cut(good(), 2)}"),
        ("a bit of the signature flipped", lambda: flipped(good(), 2)),
        ("a bit of an RSA signature flipped", lambda: flipped(keys.rsa.sign(claims()), 2)),
        ("a bit of an ECDSA signature flipped", lambda: flipped(keys.ec.sign(claims()), 2)),
        ("an ECDSA signature of zeros", lambda: cut(keys.ec.sign(claims()), 0, 1) + "." + nothing),
        ("an ECDSA signature as DER", lambda: cut(keys.ec.sign(claims()), 0, 1) + "." + b64(b"0\x06\x02\x01\x01\x02\x01\x01")),
        ("the signature cut", lambda: good()[:-2]),
        ("the signature longer", lambda: good() + "AA"),
        ("the empty secret", lambda: forged(header, claims(), secret=b"")),
        ("another secret", lambda: forged(header, claims(), secret=b"x" * 40)),
        ("forged, and expired", lambda: forged(header, claims(exp=1), secret=b"x" * 40)),
    ]
    return [Case(name, make, "signature_invalid") for name, make in cases]


def _types() -> list[Case]:
    """Claims that are absent, and claims of another type."""
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("sub a number", {"sub": 7}),
        ("sub null", {"sub": None}),
        ("sub a list", {"sub": [USER]}),
        ("sub empty", {"sub": ""}),
        ("sub too long", {"sub": "a" * 129}),
        ("sub with a line break", {"sub": "an\nn"}),
        ("exp a text", {"exp": str(int(time.time()) + 600)}),
        ("exp null", {"exp": None}),
        ("exp true", {"exp": True}),
        ("exp a list", {"exp": [2_000_000_000]}),
        ("exp huge", {"exp": 10**300}),
        ("exp in milliseconds", {"exp": int(time.time() * 1000) + 600_000}),
        ("nbf a text", {"nbf": "now"}),
        ("nbf null", {"nbf": None}),
        ("iat a list", {"iat": []}),
        ("iat false", {"iat": False}),
        ("jti a number", {"jti": 1}),
        ("scope a list", {"scope": ["chat"]}),
        ("scope null", {"scope": None}),
        ("iss a number", {"iss": 5}),
        ("iss a list", {"iss": [ISSUER]}),
        ("aud a number", {"aud": 5}),
        ("aud null", {"aud": None}),
        ("aud a list with a number", {"aud": [AUDIENCE, 5]}),
        ("aud an object", {"aud": {AUDIENCE: True}}),
    ]
    return [
        *(Case(name, _changed(changes), "token_malformed") for name, changes in wrong),
        Case("no sub", lambda: good(sub=...), "claim_missing"),
        Case("no exp", lambda: good(exp=...), "claim_missing"),
        Case("no claims", lambda: forged({"alg": "HS256", "kid": "hmac-1"}, {}), "claim_missing"),
        Case("claims that nobody knows", lambda: good(roles=[{"a": None}], azp=1), "accepted"),
        Case("a jti", lambda: good(jti="j-1"), "accepted"),
    ]


def _changed(changes: dict[str, Any]) -> Callable[[], str]:
    return lambda: good(**changes)


def _times() -> list[Case]:
    def from_now(seconds: float, *names: str) -> Callable[[], str]:
        return lambda: good(**{name: time.time() + seconds for name in names})

    def in_whole_seconds() -> str:
        now = int(time.time())
        return good(iat=now, nbf=now, exp=now + 600)

    return [
        Case("expired a millisecond ago", from_now(-0.001, "exp"), "token_expired"),
        Case("expired within the leeway", from_now(-LEEWAY_S / 2, "exp"), "token_expired"),
        Case("expired long ago", lambda: good(exp=0), "token_expired"),
        Case("expired before time began", lambda: good(exp=-1), "token_expired"),
        Case("expired, and not yet valid", lambda: good(exp=time.time() - 1, nbf=time.time() + 2 * LEEWAY_S), "token_expired"),
        Case("exp with a fraction", lambda: good(exp=int(time.time()) + 30.25), "accepted"),
        Case("times in whole seconds", in_whole_seconds, "accepted"),
        Case("nbf ahead within the leeway", from_now(LEEWAY_S - 1, "nbf"), "accepted"),
        Case("nbf ahead beyond the leeway", from_now(1.5 * LEEWAY_S, "nbf"), "token_not_yet_valid"),
        Case("iat ahead within the leeway", from_now(LEEWAY_S - 1, "iat"), "accepted"),
        Case("iat ahead beyond the leeway", from_now(1.5 * LEEWAY_S, "iat"), "token_not_yet_valid"),
        Case("no iat", lambda: good(iat=...), "claim_missing"),
        Case("lives too long", from_now(MAX_TTL_S + 60, "exp"), "token_ttl_too_long"),
        Case("lives too long, without iat", lambda: good(iat=..., exp=time.time() + MAX_TTL_S + 60), "claim_missing"),
        Case("has lived too long", lambda: good(iat=time.time() - MAX_TTL_S), "token_ttl_too_long"),
    ]


def _values() -> list[Case]:
    """Values that are not ours, and values among which is ours."""
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("no iss", {"iss": ...}, "issuer_invalid"),
        ("iss of another", {"iss": "https://evil.example"}, "issuer_invalid"),
        ("iss with a slash more", {"iss": ISSUER + "/"}, "issuer_invalid"),
        ("iss in capitals", {"iss": ISSUER.upper()}, "issuer_invalid"),
        ("no aud", {"aud": ...}, "audience_invalid"),
        ("aud of another", {"aud": "other"}, "audience_invalid"),
        ("aud that begins like ours", {"aud": AUDIENCE + "2"}, "audience_invalid"),
        ("aud a list without ours", {"aud": ["other", "another"]}, "audience_invalid"),
        ("aud a list of none", {"aud": []}, "audience_invalid"),
        ("aud a list with ours", {"aud": ["other", AUDIENCE]}, "accepted"),
        ("no scope", {"scope": ...}, "accepted"),
        ("scope with more words", {"scope": "openid  chat publish"}, "accepted"),
    ]
    missing: list[tuple[str, str]] = [("scope of another", "publish"), ("scope in capitals", "CHAT"), ("scope empty", "")]
    return [
        *(Case(name, _changed(changes), code) for name, changes, code in cases),
        # which namespace a poll is for is not known: it is asked for its subject, and for nothing more
        *(Case(name, _changed({"scope": scope}), "scope_missing", ALL - {"poll"}) for name, scope in missing),
        *(Case(name, _changed({"scope": scope}), "accepted", frozenset({"poll"})) for name, scope in missing),
    ]
