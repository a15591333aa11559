"""Where a user of a load test is: on purpose away, on the way back, or level with the cluster."""

from collections.abc import Sequence

import msgspec

from loadtest.clock import monotonic
from loadtest.observer import Observer


class Away(msgspec.Struct, frozen=True):
    """From when to when (monotonic) there is to be no connection; `stale`: back with the token of before, whatever has become of it.

    `said`: the server is told, as when a page is closed.
    """

    begins: float
    ends: float
    stale: bool = False
    said: bool = False


class Whereabouts:
    """The absences to come, and since when one has been on the way back: the observer is told how long each of these ways took.

    A way begins with the first try, with the loss of a connection or with the end of an absence, and ends where nothing that was missed is
    still to come. One that there is only because somebody called (`stay`) is not told.
    """

    __slots__ = ("_away", "_lost_by", "_observer", "_since", "called")

    def __init__(self, observer: Observer, away: Sequence[Away]) -> None:
        """`away` in the order of time."""
        self._observer, self._away = observer, tuple(away)
        self._since: float | None = None  # it has been on the way; None: it is not
        self._lost_by: str | None = None  # the code that it is by, or was last; None before the first session
        self.called = False  # it is only because it was called

    # Absences

    @property
    def next(self) -> Away | None:
        """The absence that has begun, or begins next."""
        return self._away[0] if self._away else None

    @property
    def away(self) -> bool:
        """Whether there is to be no connection now."""
        return bool(self._away) and self._away[0].begins <= monotonic()

    def stay(self, *, connected: bool) -> None:
        """There is to be a connection from now on; `connected`: there is one."""
        now = monotonic()
        over = tuple(away for away in self._away if away.ends <= now)  # it is about to come back from these by itself
        self.called = self.away and not over and not connected
        self._away = over

    def back(self, away: Away) -> None:
        """An absence is over: the way back begins at its end."""
        self._away, self._since = self._away[1:], away.ends

    # Ways

    def tries(self) -> None:
        """It tries to have a connection."""
        if self._since is None:
            self._since = monotonic()

    def leaves(self) -> None:
        """It has ended its session, to be away."""
        self._lost_by = "client"

    def lost(self, code: str) -> None:
        """Its session was ended by this code."""
        if self._since is None:
            self._since, self._lost_by = monotonic(), code

    def level(self) -> None:
        """It has all that it missed."""
        if self._since is None:
            return
        if not self.called:
            self._observer.connected(monotonic() - self._since, after=self._lost_by)
        self._since, self.called = None, False
