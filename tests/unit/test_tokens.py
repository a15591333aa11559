"""Hostile, wrong and borderline tokens: each with the exact code of PROTOCOL section 4."""

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.auth.denied import Denied
from node.auth.keys import KeyRing
from node.auth.tokens import Policy, sign, verify
from node.core.identity import Principal

NOW = 1_700_000_000_000  # ms
S = NOW // 1000
SECRET = "the-secret-of-this-test-has-over-32-bytes"
KEYS = KeyRing.from_secrets({None: SECRET})
NAMED = KeyRing.from_secrets({"new": SECRET, "old": SECRET[::-1]})
POLICY = Policy(algorithms=frozenset({"HS256"}))
STRICT = Policy(algorithms=frozenset({"HS256"}), issuer="https://id.example", audience="tidegate", max_ttl_ms=600_000)
GOOD: dict[str, Any] = {"sub": "ann", "exp": S + 60}
FULL = GOOD | {"iat": S, "nbf": S, "iss": "https://id.example", "aud": "tidegate", "jti": "j1", "scope": "chat admin"}


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def raw(header: bytes, payload: bytes, *, secret: str = SECRET, digest: str = "sha256") -> str:
    """A token of these very bytes, signed by hand: no library stands between the test and the judge."""
    signed = f"{b64(header)}.{b64(payload)}"
    return f"{signed}.{b64(hmac.digest(secret.encode(), signed.encode(), digest))}"


def jwt(claims: Any = None, header: dict[str, Any] | None = None, **changes: Any) -> str:
    """A token with HS256; a claim that is changed to `...` is left out."""
    merged = GOOD | changes if claims is None else claims
    if isinstance(merged, dict):
        merged = {name: value for name, value in merged.items() if value is not ...}
    return raw(json.dumps({"alg": "HS256", "typ": "JWT"} | (header or {})).encode(), json.dumps(merged).encode())


def headed(**header: Any) -> str:
    return jwt(header=header)


def parts(token: str) -> list[str]:
    return token.split(".")


H = b'{"alg":"HS256"}'
P = json.dumps(GOOD).encode()
TOKEN = jwt()
NONE_HEADER = b64(b'{"alg":"none"}')
PEM = "-----BEGIN PUBLIC KEY-----\nMFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAL\n-----END PUBLIC KEY-----"


def unused_bits(token: str) -> str:
    """The same token with the unused bits of the signature's last character set: the same bytes in another spelling."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + alphabet[alphabet.index(token[-1]) | 1]


DENIED: list[tuple[str, str, str]] = [
    # not a token
    ("empty", "", "token_malformed"),
    ("a word", "hello", "token_malformed"),
    ("dots", "..", "token_malformed"),
    ("two parts", ".".join(parts(TOKEN)[:2]), "token_malformed"),
    ("four parts", TOKEN + ".x", "token_malformed"),
    ("five parts, as of a JWE", "a.b.c.d.e", "token_malformed"),
    ("bearer before it", "Bearer " + TOKEN, "token_malformed"),
    ("a blank behind it", TOKEN + " ", "token_malformed"),
    ("a line break behind it", TOKEN + "\n", "token_malformed"),
    ("quotes around it", f'"{TOKEN}"', "token_malformed"),
    ("padding", TOKEN + "=", "token_malformed"),
    ("standard base64", "+/+/." + ".".join(parts(TOKEN)[1:]), "token_malformed"),
    ("letters of another script", "\u0430.\u0431.\u0432", "token_malformed"),
    ("a lone surrogate", "\ud800", "token_malformed"),
    ("NUL", "\0", "token_malformed"),
    ("header not base64url", "a." + ".".join(parts(TOKEN)[1:]), "token_malformed"),
    ("header not JSON", raw(b"{alg:HS256}", P), "token_malformed"),
    ("header an array", raw(b'["HS256"]', P), "token_malformed"),
    ("header null", raw(b"null", P), "token_malformed"),
    ("header with alg twice", raw(b'{"alg":"none","alg":"HS256"}', P), "token_malformed"),
    ("header not UTF-8", raw(b'{"alg":"HS256","x":"\xff"}', P), "token_malformed"),
    ("header in UTF-16", raw('{"alg":"HS256"}'.encode("utf-16"), P), "token_malformed"),
    ("header with a mark before it", raw(b"\xef\xbb\xbf" + H, P), "token_malformed"),
    ("header nested without end", raw(b'{"x":' + b"[" * 3000, P), "token_malformed"),
    ("payload not JSON", raw(H, b"hello"), "token_malformed"),
    ("payload empty object unclosed", raw(H, b"{"), "token_malformed"),
    ("payload an array", jwt(["sub", "exp"]), "token_malformed"),
    ("payload a string", jwt("ann"), "token_malformed"),
    ("payload null", raw(H, b"null"), "token_malformed"),
    ("payload with sub twice", raw(H, b'{"sub":"ann","sub":"bob","exp":1800000000}'), "token_malformed"),
    ("payload with NaN", raw(H, b'{"sub":"ann","exp":NaN}'), "token_malformed"),
    ("payload with a token inside", raw(H, TOKEN.encode()), "token_malformed"),
    ("too large", jwt(x="x" * 8192), "token_too_large"),
    ("too large and no token", "x" * 8193, "token_too_large"),
    # header
    ("no alg", raw(b'{"typ":"JWT"}', P), "algorithm_not_allowed"),
    ("alg none", f"{NONE_HEADER}.{b64(P)}.", "algorithm_not_allowed"),
    ("alg none with a signature", f"{NONE_HEADER}.{b64(P)}.{parts(TOKEN)[2]}", "algorithm_not_allowed"),
    ("alg nOnE", headed(alg="nOnE"), "algorithm_not_allowed"),
    ("alg hs256", headed(alg="hs256"), "algorithm_not_allowed"),
    ("alg with a blank", headed(alg="HS256 "), "algorithm_not_allowed"),
    ("alg null", headed(alg=None), "algorithm_not_allowed"),
    ("alg a list", headed(alg=["HS256"]), "algorithm_not_allowed"),
    ("alg empty", headed(alg=""), "algorithm_not_allowed"),
    ("alg RS256", headed(alg="RS256"), "algorithm_not_allowed"),
    ("alg HS512, unlisted", raw(b'{"alg":"HS512"}', P, digest="sha512"), "algorithm_not_allowed"),
    ("crit of an unknown extension", headed(crit=["exp"], exp=S + 60), "token_malformed"),
    ("crit empty", headed(crit=[]), "token_malformed"),
    ("crit null", headed(crit=None), "token_malformed"),
    ("unencoded payload", headed(b64=False, crit=["b64"]), "token_malformed"),
    ("kid a number", headed(kid=1), "token_malformed"),
    ("kid null", headed(kid=None), "token_malformed"),
    ("kid an object", headed(kid={"$ne": ""}), "token_malformed"),
    # signature
    ("of another secret", raw(H, P, secret="x" * 40), "signature_invalid"),
    ("of the empty secret", raw(H, P, secret=""), "signature_invalid"),
    ("with another digest", raw(H, P, digest="sha512"), "signature_invalid"),
    ("no signature", ".".join(parts(TOKEN)[:2]) + ".", "signature_invalid"),
    ("signature cut by one", TOKEN[:-1], "signature_invalid"),
    ("signature cut by two", TOKEN[:-2], "signature_invalid"),
    ("signature one longer", TOKEN + "A", "signature_invalid"),
    ("signature in another spelling", unused_bits(TOKEN), "signature_invalid"),
    ("payload of another", f"{parts(TOKEN)[0]}.{parts(jwt(sub='root'))[1]}.{parts(TOKEN)[2]}", "signature_invalid"),
    ("header of another", f"{parts(headed(x=1))[0]}.{'.'.join(parts(TOKEN)[1:])}", "signature_invalid"),
    ("expired and forged", raw(H, b'{"sub":"ann","exp":1}', secret="x" * 40), "signature_invalid"),
    ("key in the header", raw(b'{"alg":"HS256","jwk":{"kty":"oct","k":"eHh4"}}', P, secret="xxx"), "signature_invalid"),
    # claims that must be there
    ("no claims", jwt({}), "claim_missing"),
    ("no sub", jwt(sub=...), "claim_missing"),
    ("no exp", jwt(exp=...), "claim_missing"),
    # types
    ("sub a number", jwt(sub=7), "token_malformed"),
    ("sub null", jwt(sub=None), "token_malformed"),
    ("sub a list", jwt(sub=["ann"]), "token_malformed"),
    ("sub empty", jwt(sub=""), "token_malformed"),
    ("sub too long", jwt(sub="a" * 129), "token_malformed"),
    ("sub with a control", jwt(sub="an\nn"), "token_malformed"),
    ("sub with DEL", jwt(sub="an\x7fn"), "token_malformed"),
    ("sub with half a character", jwt(sub="an\ud83d"), "token_malformed"),
    ("exp a string", jwt(exp=str(S + 60)), "token_malformed"),
    ("exp null", jwt(exp=None), "token_malformed"),
    ("exp true", jwt(exp=True), "token_malformed"),
    ("exp infinite", raw(H, b'{"sub":"ann","exp":1e999}'), "token_malformed"),
    ("exp in milliseconds", jwt(exp=NOW + 60_000), "token_malformed"),
    ("exp with 5,000 digits", raw(H, b'{"sub":"ann","exp":' + b"9" * 5000 + b"}"), "token_malformed"),
    ("nbf a string", jwt(nbf="now"), "token_malformed"),
    ("nbf null", jwt(nbf=None), "token_malformed"),
    ("iat a list", jwt(iat=[S]), "token_malformed"),
    ("iat false", jwt(iat=False), "token_malformed"),
    ("jti a number", jwt(jti=1), "token_malformed"),
    ("scope a list", jwt(scope=["chat"]), "token_malformed"),
    ("scope null", jwt(scope=None), "token_malformed"),
    ("iss a number", jwt(iss=5), "token_malformed"),
    ("aud a number", jwt(aud=5), "token_malformed"),
    ("aud null", jwt(aud=None), "token_malformed"),
    ("aud a list of numbers", jwt(aud=["tidegate", 5]), "token_malformed"),
    ("wrong type and expired", jwt(exp=S - 60, jti=1), "token_malformed"),
    # time
    ("expired now", jwt(exp=S), "token_expired"),
    ("expired within the leeway", jwt(exp=S - 1), "token_expired"),
    ("expired a fraction ago", jwt(exp=S - 0.001), "token_expired"),
    ("expired long ago", jwt(exp=0), "token_expired"),
    ("expired before time began", jwt(exp=-1), "token_expired"),
    ("expired and not yet valid", jwt(exp=S - 1, nbf=S + 60), "token_expired"),
    ("nbf ahead by more than the leeway", jwt(nbf=S + 5.001), "token_not_yet_valid"),
    ("nbf far ahead", jwt(nbf=S + 30), "token_not_yet_valid"),
    ("iat ahead by more than the leeway", jwt(iat=S + 6), "token_not_yet_valid"),
]

ACCEPTED: list[tuple[str, str]] = [
    ("the least", TOKEN),
    ("everything", jwt(FULL)),
    ("exp a millisecond ahead", jwt(exp=S + 0.001)),
    ("exp a float", jwt(exp=S + 60.5)),
    ("exp as a float without a fraction", raw(H, f'{{"sub":"ann","exp":{S}6e-1}}'.encode())),
    ("nbf ahead by the leeway", jwt(nbf=S + 5)),
    ("iat ahead by the leeway", jwt(iat=S + 5)),
    ("iat before time began", jwt(iat=-1)),
    ("unknown claims", jwt(roles=[{"a": None}], azp=1)),
    ("unknown header", headed(cty="x", jku="https://evil.example/keys", x5u="https://evil.example")),
    ("no typ", raw(H, P)),
    ("a kid where the ring names none", headed(kid="whatever")),
    ("a kid like a path", headed(kid="../../../../dev/null")),
    ("blanks in the JSON", raw(b' { "alg" : "HS256" } ', b" " + P + b" ")),
    ("an iss and aud that nobody asked for", jwt(iss="x", aud=["y", "z"])),
]

STRICTLY: list[tuple[str, str, str | None]] = [
    ("full", jwt(FULL), None),
    ("aud in a list", jwt(FULL | {"aud": ["other", "tidegate"]}), None),
    ("no iss", jwt(FULL | {"iss": ...}), "issuer_invalid"),
    ("iss of another", jwt(FULL | {"iss": "https://evil.example"}), "issuer_invalid"),
    ("iss with a slash more", jwt(FULL | {"iss": "https://id.example/"}), "issuer_invalid"),
    ("iss in capitals", jwt(FULL | {"iss": "HTTPS://ID.EXAMPLE"}), "issuer_invalid"),
    ("iss in a list", jwt(FULL | {"iss": ["https://id.example"]}), "token_malformed"),
    ("no aud", jwt(FULL | {"aud": ...}), "audience_invalid"),
    ("aud of another", jwt(FULL | {"aud": "other"}), "audience_invalid"),
    ("aud that contains ours", jwt(FULL | {"aud": "tidegate2"}), "audience_invalid"),
    ("aud empty", jwt(FULL | {"aud": []}), "audience_invalid"),
    ("lives as long as allowed", jwt(FULL | {"exp": S + 600}), None),
    ("lives a second too long", jwt(FULL | {"exp": S + 601}), "token_ttl_too_long"),
    ("lived too long already", jwt(FULL | {"iat": S - 590, "exp": S + 60}), "token_ttl_too_long"),
    ("too long without iat", jwt(FULL | {"iat": ..., "exp": S + 601}), "claim_missing"),
    ("short without iat", jwt(FULL | {"iat": ...}), "claim_missing"),
    ("expired without iat", jwt(FULL | {"iat": ..., "exp": S}), "token_expired"),
]


def judge(token: str, keys: KeyRing = KEYS, policy: Policy = POLICY) -> str:
    verdict = verify(token, keys, policy, now=NOW)
    if isinstance(verdict, Denied):
        assert token not in verdict.message or not token
        assert "ann" not in verdict.message
        return verdict.code
    return "accepted"


@pytest.mark.parametrize(("token", "code"), [case[1:] for case in DENIED], ids=[case[0] for case in DENIED])
def test_denied(token: str, code: str) -> None:
    """Each way to be wrong has its code, and the message repeats nothing of the token."""
    assert judge(token) == code


@pytest.mark.parametrize("token", [case[1] for case in ACCEPTED], ids=[case[0] for case in ACCEPTED])
def test_accepted(token: str) -> None:
    """What stands just inside the rules is accepted."""
    assert judge(token) == "accepted"


@pytest.mark.parametrize(("token", "code"), [case[1:] for case in STRICTLY], ids=[case[0] for case in STRICTLY])
def test_required_values(token: str, code: str | None) -> None:
    """The configured issuer, audience and longest life are held to exactly."""
    assert judge(token, policy=STRICT) == (code or "accepted")


def test_the_tables_are_large() -> None:
    """No case stands twice, and there are many."""
    assert len({case[0] for case in DENIED}) == len(DENIED) > 90
    assert len({case[1] for case in DENIED}) == len(DENIED)


@pytest.mark.parametrize(
    ("kid", "secret", "code"),
    [
        ("new", SECRET, "accepted"),
        ("old", SECRET[::-1], "accepted"),
        (None, SECRET, "accepted"),
        (None, SECRET[::-1], "accepted"),
        ("old", SECRET, "signature_invalid"),
        ("gone", SECRET, "key_unknown"),
        ("", SECRET, "key_unknown"),
        ("NEW", SECRET, "key_unknown"),
    ],
)
def test_keys_by_kid(kid: str | None, secret: str, code: str) -> None:
    """With named keys a token's `kid` chooses one; without a `kid` any of them may have signed."""
    assert judge(sign(GOOD, secret, kid=kid), NAMED) == code


def test_other_digests_where_they_are_listed() -> None:
    """HS384 and HS512 verify once the allow-list has them; a list without the ring's kind of key allows nothing."""
    policy = Policy(algorithms=frozenset({"HS384", "HS512"}))
    assert judge(raw(b'{"alg":"HS512"}', P, digest="sha512"), policy=policy) == "accepted"
    assert judge(raw(b'{"alg":"HS384"}', P, digest="sha384"), policy=policy) == "accepted"
    assert judge(TOKEN, policy=policy) == "algorithm_not_allowed"
    both = Policy(algorithms=frozenset({"HS256", "RS256"}))
    assert judge(headed(alg="RS256"), policy=both) == "algorithm_not_allowed"


def test_a_public_key_is_no_secret() -> None:
    """The oldest trick: an HMAC made with the text of a public key. Such a key verifies nothing, and nothing raises."""
    assert judge(raw(H, P, secret=PEM), KeyRing.from_secrets({None: PEM})) == "signature_invalid"


def test_the_principal() -> None:
    """Times come out in milliseconds, rounded down; scopes as a set; what the token lacks is None."""
    full = verify(jwt(FULL | {"exp": S + 60.0009}), KEYS, POLICY, now=NOW)
    assert full == Principal(user="ann", expires_at=NOW + 60_000, issued_at=NOW, jti="j1", scopes=frozenset({"chat", "admin"}))
    assert verify(TOKEN, KEYS, POLICY, now=NOW) == Principal(user="ann", expires_at=NOW + 60_000)
    empty = verify(jwt(scope=" "), KEYS, POLICY, now=NOW)
    assert isinstance(empty, Principal)
    assert not empty.allows("chat")


def test_exp_to_the_millisecond() -> None:
    """Good until the last millisecond before `exp`, expired at it, whatever the leeway."""
    generous = Policy(algorithms=frozenset({"HS256"}), leeway_ms=300_000)
    assert isinstance(verify(TOKEN, KEYS, generous, now=NOW + 59_999), Principal)
    verdict = verify(TOKEN, KEYS, generous, now=NOW + 60_000)
    assert isinstance(verdict, Denied)
    assert verdict.code == "token_expired"


def test_the_size_limit_is_in_bytes() -> None:
    """A token of exactly the limit is judged; one byte more is too large."""
    size = len(TOKEN)
    assert judge(TOKEN, policy=Policy(algorithms=frozenset({"HS256"}), max_bytes=size)) == "accepted"
    assert judge(TOKEN, policy=Policy(algorithms=frozenset({"HS256"}), max_bytes=size - 1)) == "token_too_large"
    assert judge("\u00e9" * 5000) == "token_too_large"


def test_what_we_sign_we_accept() -> None:
    """`sign` makes what `verify` takes, byte for byte as by hand."""
    token = sign(GOOD, SECRET, kid="k")
    assert judge(token) == "accepted"
    signed, _, signature = token.rpartition(".")
    assert signature == b64(hmac.new(SECRET.encode(), signed.encode(), hashlib.sha256).digest())


@given(st.integers(0, len(TOKEN) - 1), st.characters())
def test_any_changed_character_is_noticed(place: int, char: str) -> None:
    """No character of a token can be another one, unused bits of base64 included."""
    changed = TOKEN[:place] + char + TOKEN[place + 1 :]
    assert (judge(changed) == "accepted") == (changed == TOKEN)


@given(st.text(max_size=60) | st.binary(max_size=40).map(lambda data: f"{b64(H)}.{b64(data)}.x"), st.integers(0, 2**42))
def test_junk_is_denied(token: str, now: int) -> None:
    """Whatever the text, a `Denied` comes out and nothing is raised."""
    assert isinstance(verify(token, KEYS, POLICY, now=now), Denied)


def test_keys_do_not_show() -> None:
    """No secret in a `repr`."""
    candidates = NAMED.candidates("new", "HS256")
    assert SECRET not in repr(candidates)
    assert "new" in repr(candidates)
