"""Ids that nobody else makes and that sort by time: the key of an event, a message without an id of its own, a session."""

import secrets
import time
from collections.abc import Callable

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u


def id_maker(clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> Callable[[], str]:
    """A source of ULIDs: 48 bits of time in ms, 80 random bits, 26 characters in order of time."""

    def new_id() -> str:
        value = (clock() & (1 << 48) - 1) << 80 | secrets.randbits(80)
        return "".join(_ALPHABET[value >> shift & 31] for shift in range(125, -1, -5))

    return new_id
