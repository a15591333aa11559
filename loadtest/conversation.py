"""What a user of a load test says and hears: messages until they are in the log, and the events of rooms. Nothing here waits."""

from collections.abc import Mapping
from contextlib import suppress
from functools import partial

from loadtest import wire
from loadtest.alarms import NEVER, Alarms
from loadtest.catching_up import CatchingUp, Step
from loadtest.checker import posted
from loadtest.clock import monotonic, wall, wall_of
from loadtest.commands import Commands, ignored
from loadtest.journal import Journal
from loadtest.link import Gone
from loadtest.observer import Observer
from loadtest.outbox import AGAIN, Outbox, Outgoing
from loadtest.session import Session
from loadtest.whereabouts import Whereabouts

_AHEAD_S, _BEHIND_S = 60.0, 86_400.0  # by which a message may be due after it came, by clocks that differ, and before


class Conversation:
    """Of one user, over one session after the other. What comes is noted in the journal as it comes, and nothing of it is mended.

    It gives commands and has its own alarms set: `refill` and `resend`. Where all that was missed has come, it says so to `whereabouts`.
    """

    __slots__ = (
        "_alarms",
        "_catching_up",
        "_commands",
        "_journal",
        "_observer",
        "_outbox",
        "_session",
        "_stock",
        "_user",
        "_whereabouts",
    )

    def __init__(
        self,
        user: str,
        journal: Journal,
        observer: Observer,
        *,
        session: Session,
        commands: Commands,
        whereabouts: Whereabouts,
        alarms: Alarms,
        stock: bool,
    ) -> None:
        """`stock`: nothing is sent a second time, and nothing that was missed is asked for."""
        self._user, self._journal, self._observer = user, journal, observer
        self._session, self._commands, self._whereabouts, self._alarms = session, commands, whereabouts, alarms
        self._stock, self._outbox, self._catching_up = stock, Outbox(stock=stock), CatchingUp()

    @property
    def unacked(self) -> int:
        """Messages that are not known to be in the log."""
        return len(self._outbox)

    @property
    def forgotten(self) -> int:
        """Messages that were under way when a connection ended, and not sent again (a stock client's)."""
        return self._outbox.forgotten

    @property
    def level(self) -> bool:
        """Whether nothing that was missed is still to come."""
        return self._catching_up.level

    # Its beginning, its end, and what is due between them

    def begin(self, rooms: Mapping[str, int], *, resumed: bool) -> None:
        """A session has begun, in these rooms, each with its last `seq`; `resumed`: what was missed is owed. Raises `Gone`."""
        cursors = self._journal.cursors
        self._catching_up = CatchingUp(rooms.keys() & cursors.keys() if resumed else ())
        for room, seq in rooms.items():
            self._journal.watch(room, after=seq)
        self._look_whether_level()
        if self._stock:  # a page that finds itself out of its rooms goes in again
            for room in cursors.keys() - rooms.keys():
                self._commands.give("room:join", {"room": room}, ignored)
        self._send_all()

    def break_off(self) -> None:
        """The connection has ended: nothing is under way any more."""
        self._catching_up = CatchingUp()
        self._outbox.connection_lost()

    def look_at_alarms(self, now: float) -> None:
        """Do what is due. Raises `Gone`."""
        alarms = self._alarms
        if alarms.refill <= now:
            alarms.refill = NEVER
            for room, after in self._catching_up.asked.items():
                self._fill(room, after)
        if alarms.resend <= now:
            alarms.resend = NEVER
            self._send_all()

    # What is heard

    def note_at_once(self, packets: list[bytes]) -> list[bytes]:
        """Note the events that are only to be noted, up to the first packet that is anything else: returns that and all behind it.

        Raises `wire.Malformed`.
        """
        for at, packet in enumerate(packets):
            event = wire.parse(packet) if packet.startswith(wire.EVENT) else None
            if isinstance(event, wire.Event) and isinstance(event.payload, wire.RoomEvent):
                for one in self._catching_up.live(event.payload):
                    self._note(one, replayed=False)
            elif not isinstance(event, wire.Event) or event.name not in wire.PASSING:
                return packets[at:]
        return []

    def hear(self, what: wire.RoomEvent | wire.Replay | wire.Resync) -> None:
        """Something happened in a room, or had. Raises `Gone`."""
        match what:
            case wire.RoomEvent():
                for one in self._catching_up.live(what):
                    self._note(one, replayed=False)
            case wire.Replay():
                self._step(what.room, self._catching_up.replayed(what))
            case wire.Resync() if not self._stock:
                self._step(what.room, ([], self._catching_up.resync(what.room, what.after)))

    def _note(self, event: wire.RoomEvent, *, replayed: bool) -> None:
        name, room, seq, journal, now = event.event, event.room, event.seq, self._journal, wall()
        if (name == "joined" and event.user == self._user) or (event.change == "created" and event.by == self._user):
            journal.watch(room, after=seq - 1)
        if name == "message":
            called = posted(event.author, event.id, event.text)
            due = _due(event.text)
            # else somebody's own words begin with a number
            if due is not None and -_AHEAD_S < now - due < _BEHIND_S and not (replayed and self._whereabouts.called):
                self._observer.delivered(now - due, replayed=replayed)
        else:
            called = f"{name} {event.author or event.user or event.by} {event.id} {event.at}"
        ends_at = self._session.ends_at
        at = int(now * 1000) if now * 1000 <= ends_at else self._session.came_at(ends_at)
        journal.saw(room, seq, called, at=at, expires_at=ends_at)
        if name == "left" and event.user == self._user:
            journal.unwatch(room, until=seq)

    def _step(self, room: str, step: Step) -> None:
        """Note what has its place now, and ask for more."""
        events, after = step
        for event in events:
            self._note(event, replayed=True)
        if after is not None:
            self._fill(room, after)
        self._look_whether_level()

    def _look_whether_level(self) -> None:
        if self._catching_up.level:
            self._whereabouts.level()

    def _fill(self, room: str, after: int) -> None:
        self._commands.give("replay", {"room": room, "after": after}, partial(self._filled, room))

    def _filled(self, room: str, answer: wire.Answer) -> None:
        if answer.error is not None and answer.error.code in AGAIN:
            self._alarms.refill = self._commands.again_at(answer)
        else:
            self._step(room, self._catching_up.answered(room, answer))

    # What is said

    def say(self, room: str, id: str, text: str, *, due: float) -> None:
        """Send a message under one id, now or once there is a session, until the log has it. `due`: when it should have been."""
        outgoing = Outgoing(room, id, f"{wall_of(due):.6f} {text}", due)
        self._outbox.put(outgoing)
        if self._session.since is not None and self._alarms.resend == NEVER:
            with suppress(Gone):  # which the next turn finds, too
                self._send(outgoing)

    def mark_read(self, room: str) -> None:
        """Tell that all is read that has come; once, whatever becomes of it."""
        if self._session.since is not None and room in self._journal.cursors:
            with suppress(Gone):
                self._commands.give("read", {"room": room, "seq": self._journal.cursors[room]}, ignored)

    def _send_all(self) -> None:
        for outgoing in self._outbox.to_send():
            self._send(outgoing)

    def _send(self, outgoing: Outgoing) -> None:
        outgoing.sent = True
        message = {"room": outgoing.room, "id": outgoing.id, "text": outgoing.text}
        self._commands.give("message:send", message, partial(self._said, outgoing))

    def _said(self, outgoing: Outgoing, answer: wire.Answer) -> None:
        if answer.error is not None:
            if self._outbox.refused(outgoing, answer.error.code):
                self._alarms.resend = self._commands.again_at(answer)
            else:
                self._observer.refused("message:send", answer.error.code)
            return
        self._outbox.done(outgoing)
        self._commands.pause.reset()
        said_at = int(wall_of(outgoing.due) * 1000)
        self._journal.acked(outgoing.room, answer.seq, posted(self._user, outgoing.id, outgoing.text), said_at=said_at)
        self._observer.acked(monotonic() - outgoing.due)


def _due(text: str) -> float | None:
    """When a message of a load test was due, by the wall clock; None for anybody else's."""
    try:
        return float(text.partition(" ")[0])
    except ValueError:
        return None
