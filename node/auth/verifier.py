"""Tokens judged by the keys in force now: what verified once is remembered, and a key that is missing is looked up."""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Literal

import msgspec

from node.auth.denied import Denied, KeyMissing
from node.auth.keys import KeyRing, KeySource
from node.auth.tokens import Policy, Verified, examine
from node.core.identity import Principal

Cache = Literal["hit", "miss"]
Observe = Callable[[str, Cache, float], None]


class _Remembered(msgspec.Struct):
    """A good token: when it was verified, and the ring that was last seen to have its key."""

    verified: Verified
    since: int
    ring: KeyRing


class Verifier:
    """Verifies tokens, each once while it lasts.

    A token is remembered by its hash, never as itself, until its `exp`, and for no longer than its key is in force: each use asks
    the ring. `observe(alg, cache, seconds)` is told of every good token. What has been withdrawn is the caller's to ask, and to `forget`.
    """

    MOST = 16_384  # tokens remembered, at about 1 KiB; the one unused for longest goes first

    def __init__(self, source: KeySource, policy: Policy, *, clock: Callable[[], int], observe: Observe) -> None:
        self._source, self._policy, self._clock, self._observe = source, policy, clock, observe
        self._remembered: OrderedDict[bytes, _Remembered] = OrderedDict()

    def __len__(self) -> int:
        return len(self._remembered)

    async def verify(self, token: str) -> Principal | Denied:
        """Judge a token now. Waits only where its key is not held and the issuer is asked for it, a few seconds at most."""
        ring = self._source.ring
        verdict = self._judge(token, ring)
        if not isinstance(verdict, KeyMissing):
            return verdict
        unknowable = await self._source.look_again()
        if self._source.ring is not ring:
            verdict = self._judge(token, self._source.ring)
        return unknowable if unknowable is not None and isinstance(verdict, KeyMissing) else verdict

    def forget(self, token: str) -> None:
        """Drop a token that has been withdrawn; idempotent."""
        self._remembered.pop(_hash(token), None)

    def _judge(self, token: str, ring: KeyRing) -> Principal | Denied:
        began, now = time.perf_counter(), self._clock()
        if len(token) > self._policy.max_bytes:  # not worth a hash
            verdict = examine(token, ring, self._policy, now=now)
            assert isinstance(verdict, Denied)
            return verdict
        name = _hash(token)
        known = self._recall(name, ring, now)
        if known is not None:
            self._observe(known.algorithm, "hit", time.perf_counter() - began)
            return known.principal
        verdict = examine(token, ring, self._policy, now=now)
        if isinstance(verdict, Denied):
            return verdict
        self._remembered[name] = _Remembered(verified=verdict, since=now, ring=ring)
        if len(self._remembered) > self.MOST:
            self._remembered.popitem(last=False)
        self._observe(verdict.algorithm, "miss", time.perf_counter() - began)
        return verdict.principal

    def _recall(self, name: bytes, ring: KeyRing, now: int) -> Verified | None:
        """What is known of a token, unless it or its key has ended, or the clock was set back to before it was judged."""
        known = self._remembered.get(name)
        if known is None:
            return None
        if known.ring is not ring and known.verified.key in ring:
            known.ring = ring
        if known.ring is not ring or not known.since <= now < known.verified.principal.expires_at:
            del self._remembered[name]
            return None
        self._remembered.move_to_end(name)
        return known.verified


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
