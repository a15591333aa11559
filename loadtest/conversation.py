"""What a user of a load test says and hears over a connection: commands and answers, messages until they are in the log, events of rooms.

`Client` has the connections. Nothing here waits.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from loadtest import wire
from loadtest.alarms import NEVER, Alarms
from loadtest.catching_up import CatchingUp, Step
from loadtest.checker import posted
from loadtest.clock import monotonic, wall, wall_ms, wall_of
from loadtest.journal import Journal
from loadtest.link import Gone, Link
from loadtest.observer import Observer
from loadtest.outbox import AGAIN, Outbox, Outgoing
from loadtest.route import Backoff

_AHEAD_S, _BEHIND_S = 60.0, 86_400.0  # by which a message may be due after it came, by clocks that differ, and before


class Conversation:
    """Of one user, over one connection after the other."""

    __slots__ = (
        "_alarms",
        "_away_since",
        "_called",
        "_catching_up",
        "_draw",
        "_earliest",
        "_link",
        "_lost_by",
        "_number",
        "_observer",
        "_outbox",
        "_pause",
        "_waiting",
        "_welcomed_at",
        "ends_at",
        "journal",
        "user",
    )

    def __init__(self, user: str, journal: Journal, observer: Observer, draw: Callable[[], float], *, stock: bool) -> None:
        """`stock`: nothing is sent a second time."""
        self.user, self.journal, self._observer, self._draw = user, journal, observer, draw
        self.ends_at = 0  # of the right to the session, in ms: its token's end, or a withdrawal
        self._link: Link | None = None
        self._welcomed_at: float | None = None  # of the open connection
        self._away_since: float | None = None
        self._lost_by: str | None = None  # the code that it has been away by, or was last; None before the first session
        self._called = False  # it comes back only because it was called: until it is level
        self._earliest = 0.0  # before which nothing of what is read now has come
        self._alarms, self._catching_up = Alarms(), CatchingUp()
        self._number = 0
        self._waiting: dict[int, Callable[[wire.Answer], None]] = {}
        self._outbox = Outbox(stock=stock)
        self._pause = Backoff(draw, first_s=0.5, cap_s=5.0)

    @property
    def unacked(self) -> int:
        """Messages that are not known to be in the log."""
        return len(self._outbox)

    @property
    def forgotten(self) -> int:
        """Messages that were under way when a connection ended, and not sent again (a stock client's)."""
        return self._outbox.forgotten

    def say(self, room: str, id: str, text: str, *, due: float) -> None:
        """Send a message under one id, now or once there is a connection, until the log has it. `due`: when it should have been."""
        outgoing = Outgoing(room, id, f"{wall_of(due):.6f} {text}", due)
        self._outbox.put(outgoing)
        if self._welcomed_at is not None and self._alarms.resend == NEVER:
            with suppress(Gone):  # which the next turn finds, too
                self._send(outgoing)

    def mark_read(self, room: str) -> None:
        """Tell that all is read that has come; once, whatever becomes of it."""
        if self._welcomed_at is not None and room in self.journal.cursors:
            with suppress(Gone):
                self._command("read", {"room": room, "seq": self.journal.cursors[room]}, ignored)

    def _forget_answers(self) -> None:
        self._waiting.clear()
        self._outbox.connection_lost()

    def _level(self) -> None:
        """Say that it is, where it is and was not."""
        if self._away_since is not None and self._catching_up.level:
            if not self._called:
                self._observer.connected(monotonic() - self._away_since, after=self._lost_by)
            self._away_since, self._called = None, False

    # Events of rooms

    def _note(self, event: wire.RoomEvent, *, replayed: bool) -> None:
        name, room, seq, journal, now = event.event, event.room, event.seq, self.journal, wall()
        if (name == "joined" and event.user == self.user) or (event.change == "created" and event.by == self.user):
            journal.watch(room, after=seq - 1)
        if name == "message":
            called = posted(event.author, event.id, event.text)
            due = _due(event.text)
            # else somebody's own words begin with a number
            if due is not None and -_AHEAD_S < now - due < _BEHIND_S and not (replayed and self._called):
                self._observer.delivered(now - due, replayed=replayed)
        else:
            called = f"{name} {event.author or event.user or event.by} {event.id} {event.at}"
        at = int(now * 1000) if now * 1000 <= self.ends_at else self._came_at(self.ends_at)
        journal.saw(room, seq, called, at=at, expires_at=self.ends_at)
        if name == "left" and event.user == self.user:
            journal.unwatch(room, until=seq)

    def _came_at(self, ends_at: int) -> int:
        """When what is being read came, in ms. Of what came past an end, the first moment that it can be: our delay is nobody else's."""
        now = wall_ms()
        return now if now <= ends_at else min(now, int(wall_of(self._earliest) * 1000))

    def _step(self, room: str, step: Step) -> None:
        """Note what has its place now, and ask for more."""
        events, after = step
        for event in events:
            self._note(event, replayed=True)
        if after is not None:
            self._fill(room, after)
        self._level()

    def _fill(self, room: str, after: int) -> None:
        self._command("replay", {"room": room, "after": after}, partial(self._filled, room))

    def _filled(self, room: str, answer: wire.Answer) -> None:
        if answer.error is not None and answer.error.code in AGAIN:
            self._alarms.refill = monotonic() + self._pause.after(hint_s(answer))
        else:
            self._step(room, self._catching_up.answered(room, answer))

    # Commands

    def _command(self, name: str, payload: dict[str, Any], heard: Callable[[wire.Answer], None]) -> None:
        """Give a command once; nobody hears of an answer that does not come. Raises `Gone`."""
        assert self._link is not None
        self._number += 1
        self._waiting[self._number] = heard
        self._link.send(wire.command(self._number, name, payload))

    # Messages

    def _send_all(self) -> None:
        for outgoing in self._outbox.to_send():
            self._send(outgoing)

    def _send(self, outgoing: Outgoing) -> None:
        outgoing.sent = True
        message = {"room": outgoing.room, "id": outgoing.id, "text": outgoing.text}
        self._command("message:send", message, partial(self._said, outgoing))

    def _said(self, outgoing: Outgoing, answer: wire.Answer) -> None:
        if answer.error is not None:
            if self._outbox.refused(outgoing, answer.error.code):
                self._alarms.resend = monotonic() + self._pause.after(hint_s(answer))
            else:
                self._observer.refused("message:send", answer.error.code)
            return
        self._outbox.done(outgoing)
        self._pause.reset()
        said_at = int(wall_of(outgoing.due) * 1000)
        self.journal.acked(outgoing.room, answer.seq, posted(self.user, outgoing.id, outgoing.text), said_at=said_at)
        self._observer.acked(monotonic() - outgoing.due)


def ignored(answer: wire.Answer) -> None:
    pass


def _due(text: str) -> float | None:
    """When a message of a load test was due, by the wall clock; None for anybody else's."""
    try:
        return float(text.partition(" ")[0])
    except ValueError:
        return None


def hint_s(answer: wire.Answer | None) -> float:
    """What a refused answer asks to wait."""
    return 0.0 if answer is None or answer.error is None or answer.error.retry_after is None else answer.error.retry_after / 1000
