"""A session of a user of a load test: since when, until when there is a right to it, and when what is read in it came."""

from loadtest.alarms import Alarms
from loadtest.checker import OUTSTAYED_MS
from loadtest.clock import monotonic, monotonic_at, wall, wall_ms, wall_of
from loadtest.journal import Journal
from loadtest.link import Link
from loadtest.observer import Observer, Pulse

_LONG_MS = OUTSTAYED_MS + 1_000  # past its end a session is left: the server does not end it


class Session:
    """One after the other: each is noted in the journal with its beginning, its end and the right to it, of which the observer hears, too.

    What came past an end counts from the first moment at which it can have come: this process's own delay is nobody else's.
    """

    __slots__ = ("_alarms", "_earliest", "_journal", "_observer", "_pulse", "ends_at", "since")

    def __init__(self, journal: Journal, observer: Observer, pulse: Pulse, alarms: Alarms) -> None:
        """`alarms` are those of the connection: `outstayed` is set here."""
        self._journal, self._observer, self._pulse, self._alarms = journal, observer, pulse, alarms
        self._earliest = 0.0  # before which nothing of what is read now has come
        self.since: float | None = None  # monotonic; None: there is none
        self.ends_at = 0  # of the right to it, in ms: its token's end, or a withdrawal; stays when it is over

    def read(self, link: Link) -> None:
        """Something has just been read: it may have waited for this process since the event loop last looked in vain, while this waited
        for it, or else since all had been read that was there.
        """
        before = self._pulse.before
        self._earliest = max(before, link.came_after) if before > link.waited_from else link.came_after

    def came_at(self, ends_at: int) -> int:
        """When what is being read came, in ms. Of what came past this end, the first moment that it can be."""
        now = wall_ms()
        return now if now <= ends_at else min(now, int(wall_of(self._earliest) * 1000))

    def begin(self, token_ends_at: int, ends_at: int) -> None:
        """With a token that ends then, and a right until `ends_at`, which may be earlier."""
        self.since = monotonic()
        self._observer.welcomed()
        self._journal.entered(at=self.came_at(token_ends_at), ends_at=0)
        self.right_ends(ends_at)

    def right_ends(self, ends_at: int) -> None:
        """The right to the open one ends at another time, in ms."""
        self.ends_at = ends_at
        self._journal.stays_until(ends_at)
        self._alarms.outstayed = monotonic_at((ends_at + _LONG_MS) / 1000)

    def renewed(self, ends_at: int, *, asked: float) -> None:
        """The right to the open one was renewed, as was asked for at this moment of the monotonic clock."""
        if wall_of(asked) * 1000 < self.ends_at:
            self._journal.renewed(self.ends_at, ends_at)
        self.right_ends(ends_at)
        self._observer.renewed(monotonic() - asked)

    def expired(self) -> None:
        """It is told that its token has ended."""
        self._journal.expired(at=wall_ms())  # as it is read: our delay makes no end an early one
        self._observer.expired(self._late_s)

    def lost(self, code: str, *, told: bool) -> None:
        """The open one goes with its connection, by this code; `told`: the server had said that it ends. `end` follows."""
        self._observer.lost(code)
        if not told and wall_ms() > self.ends_at:
            self._observer.expired(self._late_s)

    def end(self) -> None:
        """It is over; idempotent."""
        if self.since is not None:
            self._journal.left(at=self.came_at(self.ends_at))
        self.since = None

    @property
    def _late_s(self) -> float:
        return wall() - self.ends_at / 1000
