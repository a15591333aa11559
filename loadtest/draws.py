"""Numbers that look drawn, and are the same at every run of one seed. A person has two of these all through a storm.

`random.Random` would do, but for its 2.5 KiB of state: with two of them, a person would be a fifth larger.
"""

import math
from collections.abc import Sequence
from hashlib import blake2b
from typing import TypeVar

T = TypeVar("T")

_BITS = 53  # of a float's fraction


class Draws:
    """The hashes of 0, 1, 2 and so on under a key of its own. The methods are those of `random.Random`."""

    __slots__ = ("_count", "_key")

    def __init__(self, seed: str) -> None:
        self._key, self._count = blake2b(seed.encode(), digest_size=16).digest(), 0

    def random(self) -> float:
        """At least 0, and less than 1."""
        drawn = blake2b(self._count.to_bytes(8), key=self._key, digest_size=8).digest()
        self._count += 1
        return math.ldexp(int.from_bytes(drawn) >> (64 - _BITS), -_BITS)

    def choice(self, of: Sequence[T]) -> T:
        """One of them; raises `IndexError` where there is none."""
        return of[int(self.random() * len(of))]

    def sample(self, of: Sequence[T], count: int) -> list[T]:
        """So many of them, each once, in any order; raises `IndexError` where there are not so many."""
        left = list(of)
        return [left.pop(int(self.random() * len(left))) for _ in range(count)]

    def expovariate(self, rate: float) -> float:
        """A distance between two things that happen `rate` times on average while one of whatever it counts passes."""
        return -math.log(1 - self.random()) / rate
