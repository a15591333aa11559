"""Public keys of every type, out of PEM files and key sets; and tokens that try to be verified by the wrong one."""

import base64
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from node.auth.denied import Denied, KeyMissing
from node.auth.key_set import FetchFailed, key_set
from node.auth.keys import Key, KeyRing, UnfitKey, key_of_jwk
from node.auth.pem import keys_of_pem
from node.auth.tokens import Policy, verify
from tests.support.issuer import KeyPair

NOW = 1_700_000_000_000  # ms
S = NOW // 1000
GOOD: dict[str, Any] = {"sub": "ann", "exp": S + 60}
SECRET = "the-secret-of-this-test-has-over-32-bytes"
EVERY = frozenset({"HS256", "RS256", "RS512", "PS256", "ES256", "ES384", "ES512", "EdDSA"})

RSA, RSA2, PSS = KeyPair("rsa"), KeyPair("rsa2"), KeyPair("pss", "PS256")
P256, P384, P521, ED = KeyPair("p256", "ES256"), KeyPair("p384", "ES384"), KeyPair("p521", "ES512"), KeyPair("ed", "EdDSA")
PAIRS = [RSA, PSS, P256, P384, P521, ED]
STRANGER = {pair.algorithm: KeyPair(pair.kid, pair.algorithm) for pair in PAIRS}
RING = KeyRing(key_of_jwk(pair.jwk()) for pair in PAIRS)


def judge(token: str, keys: KeyRing = RING, algorithms: frozenset[str] = EVERY) -> str:
    verdict = verify(token, keys, Policy(algorithms=algorithms), now=NOW)
    if isinstance(verdict, Denied):
        assert "ann" not in verdict.message
        return verdict.code
    return "accepted"


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def with_secret(secret: bytes, **header: Any) -> str:
    """An HS256 token with these very bytes as its secret, which no library would sign with."""
    signed = f"{b64(json.dumps({'alg': 'HS256'} | header).encode())}.{b64(json.dumps(GOOD).encode())}"
    return f"{signed}.{b64(hmac.digest(secret, signed.encode(), 'sha256'))}"


def relabelled(token: str, **header: Any) -> str:
    """The token with another header and its old signature."""
    _, payload, signature = token.split(".")
    return f"{b64(json.dumps(header).encode())}.{payload}.{signature}"


def der(pair: KeyPair) -> bytes:
    return pair.private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def padded_es256() -> str:
    """An ES256 token whose signature is in DER, as outside of JOSE."""
    signed = P256.sign(GOOD).rpartition(".")[0]
    return f"{signed}.{b64(P256.private.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))}"


TOKENS: list[tuple[str, str, str]] = [
    *((f"{pair.algorithm}", pair.sign(GOOD), "accepted") for pair in PAIRS),
    *((f"{pair.algorithm} without kid", pair.sign(GOOD, kid=None), "accepted") for pair in PAIRS),
    *((f"{a} of a stranger under our kid", p.sign(GOOD), "signature_invalid") for a, p in STRANGER.items()),
    *((f"{a} of a stranger without kid", p.sign(GOOD, kid=None), "signature_invalid") for a, p in STRANGER.items()),
    *((f"{pair.algorithm} with an unknown kid", pair.sign(GOOD, kid="gone"), "key_unknown") for pair in PAIRS),
    *((f"{p.algorithm}, secret is our PEM", with_secret(p.pem.encode()), "algorithm_not_allowed") for p in PAIRS),
    *((f"{p.algorithm}, secret is our DER", with_secret(der(p)), "algorithm_not_allowed") for p in PAIRS),
    *((f"{p.algorithm}, secret is our JWK", with_secret(json.dumps(p.jwk()).encode()), "algorithm_not_allowed") for p in PAIRS),
    *(
        (f"{p.algorithm}, secret and kid are ours", with_secret(p.pem.encode(), kid=p.kid), "algorithm_not_allowed")
        for p in PAIRS
    ),
    ("RS256 with the kid of another key", RSA.sign(GOOD, kid="pss"), "signature_invalid"),
    ("RS256 with the kid of a key of another type", RSA.sign(GOOD, kid="ed"), "key_unknown"),
    ("PS256 said to be RS256", relabelled(PSS.sign(GOOD), alg="RS256", kid="pss"), "signature_invalid"),
    ("RS256 said to be RS512", relabelled(RSA.sign(GOOD), alg="RS512", kid="rsa"), "signature_invalid"),
    ("RS256 said to be ES256", relabelled(RSA.sign(GOOD), alg="ES256", kid="p256"), "signature_invalid"),
    ("ES256 said to be ES384", relabelled(P256.sign(GOOD), alg="ES384", kid="p384"), "signature_invalid"),
    ("EdDSA said to be none", relabelled(ED.sign(GOOD), alg="none", kid="ed"), "algorithm_not_allowed"),
    ("ES256 in DER", padded_es256(), "signature_invalid"),
    ("ES256 of zeros", P256.sign(GOOD).rpartition(".")[0] + "." + b64(bytes(64)), "signature_invalid"),
    ("EdDSA of zeros", ED.sign(GOOD).rpartition(".")[0] + "." + b64(bytes(64)), "signature_invalid"),
    ("RS256 without a signature", RSA.sign(GOOD).rpartition(".")[0] + ".", "signature_invalid"),
    ("PS384, unlisted", relabelled(PSS.sign(GOOD), alg="PS384", kid="pss"), "algorithm_not_allowed"),
    ("ES256K", relabelled(P256.sign(GOOD), alg="ES256K", kid="p256"), "algorithm_not_allowed"),
    ("jwk of a stranger", RSA2.sign(GOOD, jwk=RSA2.jwk()), "key_unknown"),
    ("jwk of a stranger, our kid", RSA2.sign(GOOD, kid="rsa", jwk=RSA2.jwk(kid="rsa")), "signature_invalid"),
    ("jku of a stranger", RSA2.sign(GOOD, kid="rsa", jku="https://evil.example/jwks"), "signature_invalid"),
    ("x5u of a stranger", RSA2.sign(GOOD, kid="rsa", x5u="https://evil.example/cert"), "signature_invalid"),
    ("x5c of a stranger", RSA2.sign(GOOD, kid="rsa", x5c=[b64(der(RSA2))]), "signature_invalid"),
    ("ours, with every pointer to another", RSA.sign(GOOD, jku="https://evil.example", x5u="https://evil.example"), "accepted"),
    ("ours, with a jwk of another", RSA.sign(GOOD, jwk=RSA2.jwk()), "accepted"),
    ("ours, crit", RSA.sign(GOOD, crit=["jku"], jku="https://evil.example"), "token_malformed"),
    ("ours and expired", RSA.sign({"sub": "ann", "exp": S}), "token_expired"),
    ("a stranger's and expired", RSA2.sign({"sub": "ann", "exp": S}, kid="rsa"), "signature_invalid"),
]


@pytest.mark.parametrize(("token", "code"), [case[1:] for case in TOKENS], ids=[case[0] for case in TOKENS])
def test_tokens(token: str, code: str) -> None:
    """A key verifies its own algorithms and no other; nothing in a header brings a key along."""
    assert judge(token) == code


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.algorithm)
def test_only_what_is_listed(pair: KeyPair) -> None:
    """A key of the right type changes nothing about the allow-list."""
    assert judge(pair.sign(GOOD), algorithms=EVERY - {pair.algorithm}) == "algorithm_not_allowed"


def test_secrets_beside_public_keys() -> None:
    """A ring of both: each token is verified by its own type's keys, and a public key's text is no secret beside a real one."""
    ring = KeyRing((*KeyRing.from_secrets({None: SECRET}).keys, *RING.keys))
    assert judge(with_secret(SECRET.encode()), ring) == "accepted"
    assert judge(RSA.sign(GOOD), ring) == "accepted"
    assert judge(with_secret(RSA.pem.encode()), ring) == "signature_invalid"
    assert judge(with_secret(RSA.pem.encode(), kid="rsa"), ring) == "signature_invalid"


def test_a_withdrawn_key() -> None:
    """Without its key a token is of an unknown one, even where no key of its type, or no key at all, is left."""
    for left in (RING.keys[1:], RING.keys[2:], ()):
        verdict = verify(RSA.sign(GOOD), KeyRing(left), Policy(algorithms=EVERY), now=NOW)
        assert isinstance(verdict, KeyMissing)
        assert verdict.code == "key_unknown"


def test_what_is_missing_and_what_is_wrong() -> None:
    """A `KeyMissing` says that another key may help; a bad signature under the very key that was named is final."""

    def missing(token: str) -> bool:
        return isinstance(verify(token, RING, Policy(algorithms=EVERY), now=NOW), KeyMissing)

    assert missing(RSA.sign(GOOD, kid="gone")) and missing(RSA2.sign(GOOD, kid=None))
    assert not missing(RSA2.sign(GOOD, kid="rsa"))
    assert not missing(relabelled(RSA.sign(GOOD), alg="none"))
    assert not missing("junk")


def test_the_same_kid_twice() -> None:
    """Two keys under one `kid` are both in force; the very same key twice is one."""
    ring = KeyRing(key_set({"keys": [RSA.jwk(kid="k"), RSA2.jwk(kid="k"), RSA.jwk(kid="k"), P256.jwk(kid="k")]}).keys)
    assert len(ring.keys) == 3
    assert [judge(pair.sign(GOOD, kid="k"), ring) for pair in (RSA, RSA2, P256, ED)] == ["accepted"] * 3 + [
        "algorithm_not_allowed"
    ]


# PEM files


def certificate(pair: KeyPair) -> str:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "issuer")])
    then = datetime(2020, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, pair.private.public_key(), 1, then, then + timedelta(days=1))
    return builder.sign(pair.private, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def pkcs1(pair: KeyPair) -> str:
    return pair.private.public_key().public_bytes(Encoding.PEM, PublicFormat.PKCS1).decode()


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.algorithm)
def test_pem_of_each_type(pair: KeyPair) -> None:
    """One public key in a file verifies its type's tokens, whatever their `kid`."""
    ring = KeyRing(keys_of_pem(pair.pem.encode()))
    assert judge(pair.sign(GOOD), ring) == judge(pair.sign(GOOD, kid=None), ring) == "accepted"
    assert judge(STRANGER[pair.algorithm].sign(GOOD), ring) == "signature_invalid"


def test_pem_of_several() -> None:
    """Blocks of all forms, in a file with prose and Windows line ends, are all read."""
    noise = "-----BEGIN EC PARAMETERS-----\nBggq\n-----END EC PARAMETERS-----"
    text = f"# new\n{RSA.pem}\nold: {pkcs1(RSA2)}{certificate(P256)}\n{noise}\n{ED.pem}"
    ring = KeyRing(keys_of_pem(text.replace("\n", "\r\n").encode()))
    assert len(ring.keys) == 4
    assert {judge(pair.sign(GOOD), ring) for pair in (RSA, RSA2, P256, ED)} == {"accepted"}
    assert judge(P384.sign(GOOD), ring) == "algorithm_not_allowed"


def public_pem(key: Any) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


BAD_PEM = [
    ("nothing", "", "no PEM block"),
    ("prose", "hello", "no PEM block"),
    ("half a block", RSA.pem[:-20], "no PEM block"),
    ("another end", RSA.pem.replace("END PUBLIC", "END PRIVATE"), "no PEM block"),
    ("a broken second one", RSA.pem + RSA2.pem[:60] + "!" + RSA2.pem[60:], "block 2"),
    ("a private key", RSA.private_pem, "block 1: it is neither"),
    ("a private key behind a public one", RSA.pem + ED.private_pem, "block 2: it is neither"),
    ("a small RSA key", KeyPair(None, bits=1_024).pem, "1024 bits"),
    ("another curve", public_pem(ec.generate_private_key(ec.SECP256K1())), "curve secp256k1"),
    ("Ed448", public_pem(ed448.Ed448PrivateKey.generate()), "none of RSA, EC and Ed25519"),
    ("a request", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", "neither"),
]


@pytest.mark.parametrize(("text", "reason"), [case[1:] for case in BAD_PEM], ids=[case[0] for case in BAD_PEM])
def test_bad_pem(text: str, reason: str) -> None:
    """A file with anything in it that is no good public key is refused, and the message says what, not its content."""
    with pytest.raises(UnfitKey, match=reason) as caught:
        keys_of_pem(text.encode())
    assert "MII" not in str(caught.value)


@given(st.integers(0, len(RSA.pem)), st.binary(max_size=20), st.integers(0, 40))
def test_a_broken_file_never_raises_anything_else(place: int, put: bytes, cut: int) -> None:
    """Whatever is put into a file or cut out of it, it has good keys or is refused."""
    content = f"{RSA.pem}{P256.pem}".encode()
    try:
        found, reason = len(keys_of_pem(content[:place] + put + content[place + cut :])), ""
    except UnfitKey as error:
        found, reason = 0, str(error)
    assert found or "block" in reason


# Key sets

BIG = KeyPair("big").jwk(n=b64((2**9000 + 1).to_bytes(1126, "big")))
BAD_JWK: list[tuple[str, Any, str]] = [
    ("a word", "key", "no object"),
    ("null", None, "no object"),
    ("nothing", {}, "unknown type"),
    ("symmetric", {"kty": "oct", "k": b64(SECRET.encode()), "kid": "rsa"}, "symmetric"),
    ("symmetric, said to be RSA", RSA.jwk() | {"k": "AAAA"}, "private"),
    ("private RSA", RSA.jwk(private=True), "private"),
    ("private EC", P256.jwk(private=True), "private"),
    ("private Ed25519", ED.jwk(private=True), "private"),
    ("RSA with d alone", RSA.jwk(d="AQAB"), "private"),
    ("for encryption", RSA.jwk(use="enc"), "not for signatures"),
    ("operations without verify", RSA.jwk(key_ops=["sign"]), "not for signatures"),
    ("operations of the wrong type", RSA.jwk(key_ops="verify"), "not for signatures"),
    ("alg of another type", RSA.jwk(alg="ES256"), "alg"),
    ("alg HS256", RSA.jwk(alg="HS256"), "alg"),
    ("alg none", RSA.jwk(alg="none"), "alg"),
    ("alg of another curve", P256.jwk(alg="ES384"), "alg"),
    ("kid a number", RSA.jwk(kid=1), "wrong type"),
    ("kid huge", RSA.jwk(kid="k" * 257), "kid"),
    ("n a number", RSA.jwk(n=5), "wrong type"),
    ("no n", {"kty": "RSA", "e": "AQAB"}, "cannot be read"),
    ("n empty", RSA.jwk(n=""), "cannot be read"),
    ("n not base64", RSA.jwk(n="é!"), "cannot be read"),
    ("e one", RSA.jwk(e="AQ"), "cannot be read"),
    ("e huge", RSA.jwk(e=b64((2**40 + 1).to_bytes(6, "big"))), "exponent"),
    ("n small", KeyPair("s", bits=1_024).jwk(), "1024 bits"),
    ("n large", BIG, "9001 bits"),
    ("a point off the curve", P256.jwk(x=b64(bytes(32))), "cannot be read"),
    ("a coordinate too short", P256.jwk(x="AAAA"), "cannot be read"),
    ("a curve of Bitcoin", P256.jwk(crv="secp256k1"), "cannot be read"),
    ("no curve", P256.jwk(crv=None), "cannot be read"),
    ("X25519", ED.jwk(crv="X25519"), "cannot be read"),
    ("x of the wrong length", ED.jwk(x="AAAA"), "cannot be read"),
    ("kty in another case", RSA.jwk(kty="rsa"), "unknown type"),
]


@pytest.mark.parametrize(("jwk", "reason"), [case[1:] for case in BAD_JWK], ids=[case[0] for case in BAD_JWK])
def test_members_that_are_left_out(jwk: Any, reason: str) -> None:
    """What is no good public key for signatures is left out of a set, with a reason; its neighbours stay."""
    found = key_set({"keys": [jwk, ED.jwk()]})
    assert found.keys == (key_of_jwk(ED.jwk()),)
    assert len(found.ignored) == 1 and reason in found.ignored[0]


def test_a_member_may_narrow_its_algorithms() -> None:
    """A key with an `alg` verifies that one alone; `use` and `key_ops` for signatures, and members unknown to us, are fine."""
    key = key_of_jwk(RSA.jwk(alg="PS256", use="sig", key_ops=["verify"], x5t="x", exp=1))
    assert key.algorithms == {"PS256"}
    assert judge(RSA.sign(GOOD), KeyRing((key,))) == "algorithm_not_allowed"


def test_a_key_is_the_same_from_wherever_it_comes() -> None:
    """The material is one canonical text, so that a key that is published again in other words is no new one."""
    (from_pem,) = keys_of_pem(pkcs1(RSA).encode())
    assert from_pem == Key(kid=None, algorithms=from_pem.algorithms, material=key_of_jwk(RSA.jwk()).material)


@pytest.mark.parametrize("document", [None, [], "keys", {}, {"keys": None}, {"keys": {}}, {"keys": "x"}, {"key": []}, RSA.jwk()])
def test_what_is_no_set(document: Any) -> None:
    """A document without a list of keys is a failed fetch; an empty list is a set."""
    with pytest.raises(FetchFailed, match="not a key set"):
        key_set(document)
    assert key_set({"keys": []}).keys == ()


def test_a_set_of_too_many() -> None:
    """A set that would make each token without a `kid` expensive is refused whole."""
    assert len(key_set({"keys": [ED.jwk(kid=f"k{n}") for n in range(64)]}).keys) == 64
    with pytest.raises(FetchFailed, match="64"):
        key_set({"keys": [ED.jwk()] * 65})


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["RSA", "EC", "OKP", "P-256", "AQAB"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["kty", "crv", "n", "e", "x", "y", "kid"]), inner)
    ),
    max_leaves=8,
)
BASES = st.sampled_from([RSA.jwk(), P256.jwk(), ED.jwk(), {}])


@given(BASES, st.dictionaries(st.sampled_from(["kty", "crv", "n", "e", "x", "y", "kid", "use", "alg", "key_ops", "d"]), JUNK))
def test_junk_members_never_raise(base: dict[str, Any], changes: dict[str, Any]) -> None:
    """Whatever stands in a member, it is a key or is left out."""
    found = key_set({"keys": [base | changes]})
    assert len(found.keys) + len(found.ignored) == 1


def test_keys_do_not_show() -> None:
    """No key material in a `repr`."""
    assert "BEGIN" not in repr(RING.keys)
