"""Verified tokens are remembered for as long as they, and their keys, are good, and not a moment longer."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from node.auth.denied import Denied
from node.auth.keys import FixedKeys, KeyRing, key_of_jwk
from node.auth.tokens import Policy, sign
from node.auth.verifier import Verifier
from node.core.identity import Principal
from tests.support.issuer import KeyPair

pytestmark = pytest.mark.anyio

NOW = 1_700_000_000_000  # ms
SECRET = "the-secret-of-this-test-has-over-32-bytes"
POLICY = Policy(algorithms=frozenset({"HS256", "RS256"}))
OLD, NEW = KeyPair("old"), KeyPair("new")


class World:
    """A verifier whose clock and keys the test sets; `look` is what happens when the keys are looked up anew."""

    def __init__(self, ring: KeyRing) -> None:
        self.now = NOW
        self.ring = ring
        self.looks = 0
        self.look: Callable[[], Awaitable[Denied | None]] = FixedKeys(ring).look_again
        self.seen: list[tuple[str, str]] = []
        self.verifier = Verifier(
            self, POLICY, clock=lambda: self.now, observe=lambda alg, cache, _: self.seen.append((alg, cache))
        )

    async def look_again(self) -> Denied | None:
        self.looks += 1
        return await self.look()

    async def judge(self, token: str) -> str:
        verdict = await self.verifier.verify(token)
        return verdict.code if isinstance(verdict, Denied) else "accepted"


def ring(*pairs: KeyPair) -> KeyRing:
    return KeyRing(key_of_jwk(pair.jwk()) for pair in pairs)


def claims(user: str = "ann", life_s: float = 60, **more: Any) -> dict[str, Any]:
    return {"sub": user, "exp": NOW / 1000 + life_s} | more


async def test_the_second_time_is_a_hit() -> None:
    """The same token gives the same principal without another look at its signature; what is refused is not remembered."""
    world = World(KeyRing.from_secrets({None: SECRET}))
    token = sign(claims(jti="j", scope="chat"), SECRET)
    first, second = await world.verifier.verify(token), await world.verifier.verify(token)
    assert isinstance(first, Principal) and first == second
    assert world.seen == [("HS256", "miss"), ("HS256", "hit")]
    assert await world.judge(sign(claims(), "x" * 40)) == "signature_invalid"
    assert await world.judge("junk") == "token_malformed"
    assert await world.judge("x" * 9_000) == "token_too_large"
    assert await world.judge("\ud800") == "token_malformed"
    assert len(world.verifier) == 1 and len(world.seen) == 2


async def test_until_exp_to_the_millisecond() -> None:
    """A remembered token ends with its `exp`, and is forgotten then."""
    world = World(KeyRing.from_secrets({None: SECRET}))
    token = sign(claims(), SECRET)
    assert await world.judge(token) == "accepted"
    world.now = NOW + 59_999
    assert await world.judge(token) == "accepted"
    world.now = NOW + 60_000
    assert await world.judge(token) == "token_expired"
    assert len(world.verifier) == 0


async def test_a_clock_that_is_set_back() -> None:
    """Before the moment at which it was judged, a token is judged anew: its `nbf` may lie ahead again."""
    world = World(KeyRing.from_secrets({None: SECRET}))
    token = sign(claims(nbf=NOW / 1000), SECRET)
    assert await world.judge(token) == "accepted"
    world.now = NOW - 60_000
    assert await world.judge(token) == "token_not_yet_valid"


async def test_a_withdrawn_key_takes_its_tokens_along() -> None:
    """Once its key has left the ring a remembered token is refused; one of a key that stayed is still a hit."""
    world = World(ring(OLD, NEW))
    old, new = OLD.sign(claims()), NEW.sign(claims())
    assert [await world.judge(token) for token in (old, new)] == ["accepted"] * 2
    world.ring = ring(NEW)
    assert [await world.judge(token) for token in (old, new)] == ["key_unknown", "accepted"]
    assert world.seen == [("RS256", "miss"), ("RS256", "miss"), ("RS256", "hit")]
    world.ring = KeyRing([key_of_jwk(OLD.jwk(kid="new"))])
    assert [await world.judge(token) for token in (old, new)] == ["key_unknown", "signature_invalid"]
    assert len(world.verifier) == 0


async def test_forgotten() -> None:
    """A token that was withdrawn is dropped; another of the same user stays."""
    world = World(KeyRing.from_secrets({None: SECRET}))
    one, other = sign(claims(jti="1"), SECRET), sign(claims(jti="2"), SECRET)
    for token in (one, other):
        await world.judge(token)
    world.verifier.forget(one)
    world.verifier.forget(one)
    assert len(world.verifier) == 1
    await world.judge(other)
    assert world.seen[-1] == ("HS256", "hit")


async def test_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the limit the one that was unused for longest goes."""
    monkeypatch.setattr(Verifier, "MOST", 3)
    world = World(KeyRing.from_secrets({None: SECRET}))
    tokens = [sign(claims(f"user{n}"), SECRET) for n in range(4)]
    for token in [*tokens[:3], tokens[0], tokens[3]]:
        await world.judge(token)
    assert len(world.verifier) == 3
    world.seen.clear()
    for token in (tokens[0], tokens[2], tokens[3], tokens[1]):
        await world.judge(token)
    assert [cache for _, cache in world.seen] == ["hit", "hit", "hit", "miss"]


async def test_no_token_is_kept() -> None:
    """What is remembered has the token's hash, and no part of the token."""
    world = World(KeyRing.from_secrets({None: SECRET}))
    token = sign(claims(), SECRET)
    await world.judge(token)
    kept = repr(vars(world.verifier))
    assert "ann" in kept and not any(part in kept for part in token.split("."))


async def test_looking_again() -> None:
    """Only a token whose key is missing has the keys looked up; with the new ring it is judged anew."""
    world = World(ring(OLD))

    async def publish() -> None:
        world.ring = ring(OLD, NEW)

    world.look = publish
    assert await world.judge(OLD.sign(claims())) == "accepted"
    assert await world.judge("junk") == "token_malformed"
    assert await world.judge(NEW.sign(claims(), kid="old")) == "signature_invalid"
    assert await world.judge(OLD.sign(claims(life_s=-1))) == "token_expired"
    assert world.looks == 0
    assert await world.judge(NEW.sign(claims())) == "accepted"
    assert world.looks == 1
    assert await world.judge(NEW.sign(claims(), kid="gone")) == "key_unknown"
    assert world.looks == 2


async def test_time_passes_while_looking() -> None:
    """A token that expires while its key is fetched is expired."""
    world = World(ring(OLD))

    async def publish() -> None:
        world.ring, world.now = ring(NEW), NOW + 60_000

    world.look = publish
    assert await world.judge(NEW.sign(claims())) == "token_expired"


async def test_nothing_is_known() -> None:
    """Where the issuer cannot be asked, a missing key is `keys_unavailable`; a key that is there needs nobody."""
    world = World(ring(OLD))

    async def fail() -> Denied:
        return Denied("keys_unavailable", "away", 2_000)

    world.look = fail
    verdict = await world.verifier.verify(NEW.sign(claims()))
    assert verdict == Denied("keys_unavailable", "away", 2_000)
    assert await world.judge(OLD.sign(claims())) == "accepted"
