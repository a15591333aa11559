"""The keys of an issuer, kept fresh: fetched one at a time in the background, and at once when a token names a key that is not there."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable

import msgspec
import structlog

from node.auth.denied import Denied
from node.auth.key_set import FetchFailed, KeySet, Outcome
from node.auth.keys import Key, KeyRing

_log = structlog.get_logger()


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """When to fetch, and how long to go by what was fetched. All in seconds."""

    refresh_s: float = 300.0  # between fetches, less up to a tenth, so that nodes started together do not ask together
    cooldown_s: float = 10.0  # between fetches for the sake of missing keys, however many tokens name one
    stale_s: float = 3_600.0  # how long the last set is gone by while the issuer is away
    look_s: float = 3.0  # how long a handshake waits for a fetch: less than its connection is given
    retry_s: float = 1.0  # after a first failure; each further one doubles it, up to `refresh_s` or the next
    longest_retry_s: float = 30.0


class IssuerKeys:
    """A `KeySource`: the keys of the configuration and those of an issuer.

    `run` is the only one who fetches, so there is never more than one fetch; `look_again` asks it to, and waits. A well-formed
    set takes the place of the last one wholly, so a key that is no longer in it is no longer accepted, even if none is left.
    A failed fetch changes nothing until `stale_s` have passed since the last good one.
    """

    def __init__(
        self,
        fetch: Callable[[], Awaitable[KeySet]],
        *,
        fixed: KeyRing,
        pace: Pace,
        draw: Callable[[], float],
        fetched: Callable[[Outcome], None],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch, self._fixed, self._pace, self._draw = fetch, fixed, pace, draw
        self._fetched, self._clock_s = fetched, clock_s
        self._started_s = clock_s()
        self._good_s: float | None = None
        self._ring = fixed
        self._keys: tuple[Key, ...] = ()
        self._ignored: tuple[str, ...] = ()
        self._failures = 0
        self._looked_s = float("-inf")
        self._due_s = self._started_s
        self._asked = asyncio.Event()
        self._asked.set()  # the first fetch: whoever comes before its end waits for it
        self._done = asyncio.Event()

    @property
    def ring(self) -> KeyRing:
        """All keys in force; without the issuer's while its set has never been fetched or is too old."""
        return self._ring if self._fresh() else self._fixed

    @property
    def age_s(self) -> float:
        """Since the last good fetch; where there was none, since the start."""
        return self._clock_s() - (self._started_s if self._good_s is None else self._good_s)

    async def look_again(self) -> Denied | None:
        """Fetch at once, or join the fetch under way; nothing if one for a missing key began less than `cooldown_s` ago."""
        now_s = self._clock_s()
        if not self._asked.is_set():
            if now_s - self._looked_s < self._pace.cooldown_s:
                return self._trouble()
            self._asked.set()
            self._looked_s = now_s
        try:
            async with asyncio.timeout(self._pace.look_s):
                await self._done.wait()
        except TimeoutError:
            return self._unavailable()
        return self._trouble()

    async def run(self) -> None:
        """Fetch now and then, for ever."""
        while True:
            self._asked.set()
            wait_s = await self._fetch_once()
            self._due_s = self._clock_s() + wait_s
            self._asked.clear()
            self._done.set()
            self._done = asyncio.Event()
            try:
                async with asyncio.timeout(wait_s):
                    await self._asked.wait()
            except TimeoutError:
                continue

    def gauges(self) -> Iterable[tuple[str, tuple[str, ...], float]]:
        """For `Metrics.watch`."""
        yield "tidegate_jwks_age_seconds", (), self.age_s
        yield "tidegate_jwks_stale_after_seconds", (), self._pace.stale_s

    async def _fetch_once(self) -> float:
        """Fetch and take what came; returns the seconds to wait until the next time."""
        pace = self._pace
        try:
            found = await self._fetch()
        except FetchFailed as failure:
            self._fetched(failure.outcome)
            self._failures += 1
            if self._failures == 1:
                _log.warning("the key set cannot be fetched", outcome=failure.outcome, reason=str(failure))
            wait_s = min(pace.longest_retry_s, pace.retry_s * 2.0 ** min(self._failures - 1, 16), pace.refresh_s)
            return wait_s * (0.5 + self._draw() / 2)
        self._fetched("ok")
        if self._failures:
            _log.info("the key set is fetched again", failures=self._failures)
        self._failures, self._good_s = 0, self._clock_s()
        self._take(found)
        return pace.refresh_s * (1 - self._draw() / 10)

    def _take(self, found: KeySet) -> None:
        if found.ignored and found.ignored != self._ignored:
            _log.warning("keys of the set are left out", reasons=list(found.ignored))
        self._ignored = found.ignored
        if found.keys == self._keys and self._ring is not self._fixed:
            return
        added, withdrawn = (_kids(set(a) - set(b)) for a, b in ((found.keys, self._keys), (self._keys, found.keys)))
        say = _log.info if found.keys else _log.warning
        say("the key set has changed", keys=len(found.keys), added=added, withdrawn=withdrawn)
        self._keys, self._ring = found.keys, KeyRing((*self._fixed.keys, *found.keys))

    def _fresh(self) -> bool:
        return self._good_s is not None and self._clock_s() - self._good_s <= self._pace.stale_s

    def _trouble(self) -> Denied | None:
        return None if self._failures == 0 and self._fresh() else self._unavailable()

    def _unavailable(self) -> Denied:
        wait_s = self._pace.look_s if self._asked.is_set() else self._due_s - self._clock_s()
        retry_after = max(1_000, round(1_000 * min(wait_s, self._pace.longest_retry_s)))
        return Denied("keys_unavailable", "the issuer's keys cannot be had now", retry_after)


def _kids(keys: Iterable[Key]) -> list[str]:
    return sorted(key.kid or "(no kid)" for key in keys)
