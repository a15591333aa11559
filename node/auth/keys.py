"""The keys that a token may be signed with."""

from collections.abc import Mapping

import msgspec

from node.auth.denied import Denied


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """One verification key, bound to the algorithms of its own type: an RSA key never verifies an HMAC."""

    kid: str | None
    algorithms: frozenset[str]
    material: bytes

    def __repr__(self) -> str:
        return f"Key(kid={self.kid!r}, algorithms={sorted(self.algorithms)})"


HMAC_ALGORITHMS = frozenset({"HS256", "HS384", "HS512"})


class KeyRing:
    """The keys in force. Lookup is by `kid` where both the token and the ring have one."""

    def __init__(self, keys: tuple[Key, ...]) -> None:
        self._keys = keys

    @classmethod
    def from_secrets(cls, secrets: Mapping[str | None, str]) -> "KeyRing":
        """HMAC keys by `kid`; the `kid` None stands for the one secret of a configuration that names none."""
        return cls(tuple(Key(kid=kid, algorithms=HMAC_ALGORITHMS, material=s.encode()) for kid, s in secrets.items()))

    def candidates(self, kid: str | None, algorithm: str) -> tuple[Key, ...] | Denied:
        """The keys that may have signed a token with this header, or why there is none."""
        of_type = tuple(key for key in self._keys if algorithm in key.algorithms)
        if not of_type:
            return Denied("algorithm_not_allowed", f"no key of this node takes {algorithm}")
        named = tuple(key for key in of_type if key.kid is not None)
        if kid is None or not named:
            return of_type
        match = tuple(key for key in named if key.kid == kid)
        return match or Denied("key_unknown", "no key with the token's kid")
