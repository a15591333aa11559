"""The keys that a token may be signed with, as values: HMAC secrets, public keys, and the JSON Web Keys of a key set (RFC 7517)."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, SECP521R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from node.auth.denied import Denied, KeyMissing

HMAC_ALGORITHMS = frozenset({"HS256", "HS384", "HS512"})
RSA_ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
RSA_BITS = (2_048, 8_192)  # RFC 7518 section 3.3 asks for the first; the second bounds what one verification costs
RSA_MOST_EXPONENT = 2**32  # likewise: 65537 is usual, and the work grows with it
MOST_KID_CHARS = 256
_CURVES = {SECP256R1.name: "ES256", SECP384R1.name: "ES384", SECP521R1.name: "ES512"}
_KINDS = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}  # an algorithm of PyJWT that reads a JWK of this kty
_PRIVATE = ("d", "p", "q", "dp", "dq", "qi", "oth", "k")


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """One verification key, bound to the algorithms of its own type: an RSA key never verifies an HMAC.

    `material` is the secret's bytes, or a public key as PEM (SubjectPublicKeyInfo): keys that are equal are the same key.
    """

    kid: str | None
    algorithms: frozenset[str]
    material: bytes

    def __repr__(self) -> str:
        return f"Key(kid={self.kid!r}, algorithms={sorted(self.algorithms)})"


class UnfitKey(ValueError):
    """A key that verifies nothing here. The message says why, without any part of it."""


def public_key(key: object, *, kid: str | None = None, only: str | None = None) -> Key:
    """A key of cryptography's as ours, bound to `only` that algorithm where it is given. Raises `UnfitKey`."""
    if isinstance(key, RSAPublicKey):
        least, most = RSA_BITS
        if not least <= key.key_size <= most:
            raise UnfitKey(f"an RSA key of {key.key_size} bits (takes {least} to {most})")
        if key.public_numbers().e > RSA_MOST_EXPONENT:
            raise UnfitKey("an RSA key with a huge exponent")
        algorithms = RSA_ALGORITHMS
    elif isinstance(key, EllipticCurvePublicKey):
        if key.curve.name not in _CURVES:
            raise UnfitKey(f"an EC key on the curve {key.curve.name} (takes {', '.join(_CURVES)})")
        algorithms = frozenset({_CURVES[key.curve.name]})
    elif isinstance(key, Ed25519PublicKey):
        algorithms = frozenset({"EdDSA"})
    else:
        raise UnfitKey("a key that is none of RSA, EC and Ed25519")
    if only is not None:
        if only not in algorithms:
            raise UnfitKey("a key whose alg is not one of its type")
        algorithms = frozenset({only})
    return Key(kid=kid, algorithms=algorithms, material=key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def key_of_jwk(jwk: Any) -> Key:
    """A member of a key set. Symmetric and private keys are none for us: who publishes one has given it away. Raises `UnfitKey`."""
    if not isinstance(jwk, dict):
        raise UnfitKey("a member that is no object")
    texts = {name: jwk.get(name) for name in ("kty", "kid", "use", "alg", "crv", "n", "e", "x", "y")}
    if any(not isinstance(value, str) for value in texts.values() if value is not None):
        raise UnfitKey("a key with a member of the wrong type")
    kid, kty = texts["kid"], texts["kty"]
    if kid is not None and len(kid) > MOST_KID_CHARS:
        raise UnfitKey(f"a key whose kid is over {MOST_KID_CHARS} characters")
    if kty not in _KINDS:
        raise UnfitKey("a symmetric key" if kty == "oct" else "a key of an unknown type")
    if any(name in jwk for name in _PRIVATE):
        raise UnfitKey("a private key")
    usages = jwk.get("key_ops", ["verify"])
    if texts["use"] not in (None, "sig") or not isinstance(usages, list) or "verify" not in usages:
        raise UnfitKey("a key that is not for signatures")
    try:
        loaded = jwt.get_algorithm_by_name(_KINDS[kty]).from_jwk(jwk)
    except (ValueError, TypeError, jwt.InvalidKeyError):
        raise UnfitKey("a key that cannot be read") from None
    return public_key(loaded, kid=kid, only=texts["alg"])


class KeyRing:
    """The keys in force: an immutable value. Lookup is by `kid` where both the token and the key have one."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self.keys: tuple[Key, ...] = tuple(dict.fromkeys(keys))
        self._known = frozenset(self.keys)

    def __contains__(self, key: Key) -> bool:
        return key in self._known

    @classmethod
    def from_secrets(cls, secrets: Mapping[str | None, str]) -> "KeyRing":
        """HMAC keys by `kid`; the `kid` None stands for the one secret of a configuration that names none."""
        return cls(Key(kid=kid, algorithms=HMAC_ALGORITHMS, material=s.encode()) for kid, s in secrets.items())

    def candidates(self, kid: str | None, algorithm: str) -> tuple[Key, ...] | KeyMissing:
        """The keys that may have signed a token with this header, or why there is none."""
        of_type = tuple(key for key in self.keys if algorithm in key.algorithms)
        if not of_type:
            if not self.keys or (kid is not None and all(key.kid not in (None, kid) for key in self.keys)):
                return KeyMissing("key_unknown", "no key with the token's kid")
            return KeyMissing("algorithm_not_allowed", f"no key of this node takes {algorithm}")
        if kid is None:
            return of_type
        match = tuple(key for key in of_type if key.kid is None or key.kid == kid)
        return match or KeyMissing("key_unknown", "no key with the token's kid")


class KeySource(Protocol):
    """Where the keys in force come from."""

    @property
    def ring(self) -> KeyRing:
        """The keys as they are now; the same object for as long as they are the same."""
        ...

    async def look_again(self) -> Denied | None:
        """Have the keys looked up anew, unless that was done a moment ago; then `ring` has what was found.

        A `Denied` (`keys_unavailable`) says that it cannot be known now whether a key that is not in `ring` is in force.
        """
        ...


class FixedKeys:
    """The keys of the configuration alone: they change with a restart."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring

    @property
    def ring(self) -> KeyRing:
        """The keys."""
        return self._ring

    async def look_again(self) -> Denied | None:
        """There is nowhere to look."""
        return None
