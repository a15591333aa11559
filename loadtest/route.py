"""Which node to try, and after how long. Pure: draws are an argument; times in seconds.

The same laws as those of `tidegate.js`, which docs/client.md tells: a stranger to it, this client has its own.
"""

from collections.abc import Callable, Sequence

import msgspec

_STOP = frozenset(
    {
        "subject_mismatch",
        "credentials_conflict",
        "issuer_invalid",
        "audience_invalid",
        "scope_missing",
        "token_revoked",
        "user_suspended",
        "disconnected",
        # Another sign-in would help, and nobody is here to sign in:
        "token_missing",
        "token_malformed",
        "token_too_large",
        "token_not_yet_valid",
        "token_ttl_too_long",
        "claim_missing",
        "signature_invalid",
        "algorithm_not_allowed",
        "key_unknown",
    }
)
_WAIT = frozenset(
    {
        "token_expired",
        "token_unavailable",
        "keys_unavailable",
        "server_busy",
        "draining",
        "authentication_timeout",
        "unavailable",
        "rate_limited",
        "lost",
    }
)


def final(code: str, retry_after_s: float | None) -> bool:
    """Whether it makes no sense to come again. A code that is not known is final, unless the server says when to come back."""
    if code.startswith("http_5"):  # of a proxy whose node is away
        return False
    return code in _STOP or (code not in _WAIT and retry_after_s is None)


class End(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt or a connection ended.

    `code` is of the protocol, or `lost` (nobody answered), `http_…` (an HTTP status without a code), `token_unavailable` (no token
    could be had, no node was asked). `lasted_s`: for how long it had been a connection; None: it never was one.
    """

    code: str
    retry_after_s: float | None = None
    lasted_s: float | None = None
    opened: bool = False  # the transport had been opened


class Backoff:
    """How long to wait before the next try: jitter that grows with each failure and is kept at the cap.

    A wait lies anywhere between `floor_s` and three times the one before. It is drawn from the whole range and never cut off at the cap:
    a crowd whose waits were cut off there would knock together, time after time.
    """

    __slots__ = ("_draw", "_previous", "cap_s", "first_s", "floor_s")

    def __init__(self, draw: Callable[[], float], *, floor_s: float = 0.1, first_s: float = 1.0, cap_s: float = 20.0) -> None:
        """`draw` gives numbers in [0, 1); the first wait lies between `floor_s` and `first_s`."""
        self._draw, self._previous = draw, 0.0
        self.floor_s, self.first_s, self.cap_s = floor_s, first_s, cap_s

    def next(self) -> float:
        """The next wait."""
        upper = min(self.cap_s, max(self.first_s, self._previous * 3))
        self._previous = self.floor_s + self._draw() * (upper - self.floor_s)
        return self._previous

    def after(self, hint_s: float) -> float:
        """The next wait where the server has said how long: never earlier than it said, and spread over half as long again."""
        return max(self.next(), hint_s * (1 + self._draw() / 2))

    def reset(self) -> None:
        """Start over, after a success that lasted."""
        self._previous = 0.0


class Route:
    """The nodes in this client's own order, and the waits between its tries."""

    STEADY_S = 5.0  # a connection that lasted so long was a success: the next wait is short again
    NEAR_S, SPREAD_S = 0.05, 0.25  # from one node to the next, while not all have been asked

    __slots__ = ("_asked", "_at", "_backoff", "_draw", "_hint_s", "urls")

    def __init__(self, urls: Sequence[str], draw: Callable[[], float]) -> None:
        """`urls`: the first is tried first; whoever makes the route has put them into an order of this client's own."""
        self.urls, self._draw = tuple(urls), draw
        self._at = self._asked = 0  # asked in vain since the last connection
        self._hint_s = 0.0  # the longest that a node of this round asked for
        self._backoff = Backoff(draw)

    @property
    def url(self) -> str:
        """The node to try next."""
        return self.urls[self._at]

    def after(self, end: End) -> float:
        """Move on after an end; returns the wait before `url` is tried.

        A lost connection is tried again where it was. Where that fails, the other nodes follow at short distances, each once; then the
        waits grow. A node that asked for time gets it: from its own clients when it drains, from all others once every node has been asked.
        """
        hint_s = end.retry_after_s or 0.0
        if end.lasted_s is not None:
            if end.lasted_s >= self.STEADY_S:
                self._backoff.reset()
            self._asked, self._hint_s = 0, 0.0
            if end.code == "draining":
                self._next()
            return self._backoff.after(hint_s)
        if end.code in ("token_unavailable", "token_expired"):
            return self._backoff.after(hint_s)
        self._next()
        self._asked += 1
        self._hint_s = max(self._hint_s, hint_s)
        if self._asked % len(self.urls):
            return self.NEAR_S + self._draw() * self.SPREAD_S
        wait, self._hint_s = self._backoff.after(self._hint_s), 0.0
        return wait

    def _next(self) -> None:
        self._at = (self._at + 1) % len(self.urls)
