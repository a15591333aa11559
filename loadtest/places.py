"""Who each user of a storm is. Handed out in one place, the same people take part at the same seed, and each person of a log does once,
however Locust splits its users over workers: which of them gets how many of which kind is up to names that it draws for them. Pure.
"""

from collections import Counter

import msgspec


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """One user's."""

    number: int  # among those of their kind, from 0
    arrival: int  # among all, from 0


class Places:
    """Of one storm."""

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()

    def take(self, kind: str) -> Place:
        """The next one for a user of this kind."""
        place = Place(number=self._taken[kind], arrival=self._taken.total())
        self._taken[kind] += 1
        return place
