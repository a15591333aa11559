"""A user of a cluster for load tests: one connection at a time, everything noted, as little memory and time as can be.

Whoever has a `Client` drives it from one greenlet: `serve(until)` keeps the connection and takes in what comes. It has no greenlet,
timer or thread of its own. What arrives is noted as it arrives: what the server leaves out, repeats or mixes up is never mended, so
that the checker hears of it.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import gevent
import msgspec

from loadtest import wire
from loadtest.alarms import NEVER, Alarms
from loadtest.catching_up import CatchingUp, Step
from loadtest.checker import posted
from loadtest.journal import Journal
from loadtest.link import Gone, Link, Refused, open_link
from loadtest.observer import Observer, Pulse
from loadtest.route import Backoff, End, Route, final
from loadtest.tokens import Mint, TokenUnavailable

OPEN_S = 10.0  # for the transport; and again from there to `welcome`
ANSWER_S = 10.0  # for an ack
CLOSE_S = 1.0  # for the server to close, after it said that it will
_AGAIN = frozenset({"unavailable", "rate_limited", "server_busy", "keys_unavailable"})  # not carried out: safe to ask again
_WAITED_S = 0.001  # a read that took longer found nothing at first
_WALL_S = time.time() - time.monotonic()  # so that a moment of one clock can be told by the other, on all machines of a storm
_monotonic = time.monotonic


class Barred(Exception):
    """The cluster will not have this user; the text is the code."""


class Outgoing(msgspec.Struct):
    """A message that is not known to be in the log."""

    room: str
    id: str
    text: str
    due: float  # by the monotonic clock
    sent: bool = False  # over the open connection, and not refused


class Client:
    """One user. `serve`, `ask`, `say` and `mark_read` are for one greenlet; the first two raise `Barred`."""

    __slots__ = (
        "_alarms",
        "_asking",
        "_away_since",
        "_catching_up",
        "_cause",
        "_draw",
        "_earliest",
        "_link",
        "_mint",
        "_number",
        "_observer",
        "_outbox",
        "_pause",
        "_pulse",
        "_read_at",
        "_renews",
        "_retry_at",
        "_route",
        "_session",
        "_silence_s",
        "_ticket",
        "_waiting",
        "_welcomed_at",
        "barred",
        "expires_at",
        "journal",
        "user",
    )

    def __init__(
        self,
        *,
        user: str,
        mint: Mint,
        route: Route,
        journal: Journal,
        observer: Observer,
        pulse: Pulse,
        renews: bool,
        draw: Callable[[], float],
    ) -> None:
        """`renews`: when `auth:expiring` says so, or never."""
        self.user, self.journal, self._route = user, journal, route
        self._mint, self._observer, self._pulse, self._renews, self._draw = mint, observer, pulse, renews, draw
        self.barred: str | None = None
        self.expires_at = 0  # of the session, in ms
        self._session = self._ticket = ""
        self._link: Link | None = None
        self._welcomed_at: float | None = None  # of the open connection
        self._away_since: float | None = None
        self._retry_at = 0.0
        self._cause: End | None = None  # what the server said before it closes
        self._silence_s = OPEN_S
        self._alarms, self._catching_up = Alarms(), CatchingUp()
        self._read_at = self._earliest = 0.0  # when the socket was last read; before which nothing of what is read now has come
        self._asking = False
        self._number = 0
        self._waiting: dict[int, Callable[[wire.Answer], None]] = {}
        self._outbox: dict[str, Outgoing] = {}
        self._pause = Backoff(draw, first_s=0.5, cap_s=5.0)

    # What its user does

    @property
    def here(self) -> bool:
        """Whether it is connected, and has been sent what it missed."""
        return self._welcomed_at is not None and self._catching_up.level

    @property
    def unacked(self) -> int:
        """Messages that are not known to be in the log."""
        return len(self._outbox)

    @property
    def idle(self) -> bool:
        """Whether it waits for no answer."""
        return not self._outbox and not self._asking

    def serve(self, until: float) -> None:
        """Keep the connection and take in what comes, until this moment of the monotonic clock; at least what is there already."""
        while True:
            self._turn(until)
            if _monotonic() >= until:
                return

    def say(self, room: str, id: str, text: str, *, due: float) -> None:
        """Send a message under one id, now or once there is a connection, until the log has it. `due`: when it should have been."""
        outgoing = self._outbox[id] = Outgoing(room, id, f"{due + _WALL_S:.6f} {text}", due)
        if self._welcomed_at is not None and self._alarms.resend == NEVER:
            with suppress(Gone):  # which the next turn finds, too
                self._send(outgoing)

    def ask(self, name: str, payload: dict[str, Any]) -> wire.Answer:
        """Give a command again and again until it is carried out, or refused for good: one that may be repeated."""
        pause, self._asking = Backoff(self._draw), True
        try:
            while True:
                answer = self._asked(name, payload)
                if answer is not None and (answer.error is None or answer.error.code not in _AGAIN):
                    return answer
                self.serve(_monotonic() + pause.after(_hint_s(answer)))
        finally:
            self._asking = False

    def mark_read(self, room: str) -> None:
        """Tell that all is read that has come; once, whatever becomes of it."""
        if self._welcomed_at is not None and room in self.journal.cursors:
            with suppress(Gone):
                self._command("read", {"room": room, "seq": self.journal.cursors[room]}, _ignored)

    def close(self) -> None:
        """End the connection; idempotent. The journal stays."""
        if self._link is not None:
            self._link.close()
        self._link = self._welcomed_at = None

    # Connections, one after the other

    def _turn(self, until: float) -> None:
        """Wait for what comes, at most once and never past `until` (but for a connection that is being opened), and act on it."""
        if self.barred is not None:
            raise Barred(self.barred)
        now, link = _monotonic(), self._link
        if link is None:
            if now < self._retry_at:
                gevent.sleep(max(0.0, min(until, self._retry_at) - now))
            else:
                self._open()
            return
        try:
            packets = link.receive(max(0.0, min(until, self._alarms.next) - now))
            self._was_read(now)
            if packets:
                self._alarms.silent = self._read_at + self._silence_s
            for packet in packets:
                self._take(wire.parse(packet))
            self._look_at_alarms()
        except Gone:
            self._ended(self._cause or End(code="lost"))

    def _open(self) -> None:
        if self._away_since is None:
            self._away_since = _monotonic()
        try:
            self._link = open_link(self._route.url, {"ticket": self._ticket} if self._ticket else {}, timeout_s=OPEN_S)
        except Refused as refused:
            self._observer.refused("connect", refused.code)
            self._ended(End(code=refused.code, retry_after_s=refused.retry_after_s))
        except Gone:
            self._observer.refused("connect", "lost")
            self._ended(End(code="lost"))
        else:
            now = self._read_at = _monotonic()
            self._alarms = Alarms(close=now + OPEN_S, silent=now + OPEN_S)

    def _was_read(self, began: float) -> None:
        """Tell how long what has just been read may have waited for this process: since the read before, if it was there at once."""
        now = _monotonic()
        self._earliest = max(began, self._pulse.before) if now - began > _WAITED_S else self._read_at
        self._read_at = now

    def _look_at_alarms(self) -> None:
        """Do what is due on the open connection. Raises `Gone`."""
        now, alarms = _monotonic(), self._alarms
        if self._link is None or alarms.next > now:
            return
        if min(alarms.close, alarms.silent) <= now:
            raise Gone("too late")
        if alarms.renew <= now:
            alarms.renew = NEVER
            self._renew()
        if alarms.refill <= now:
            alarms.refill = NEVER
            for room, after in self._catching_up.asked.items():
                self._fill(room, after)
        if alarms.resend <= now:
            alarms.resend = NEVER
            self._send_all()

    def _ended(self, end: End) -> None:
        """The connection, or the try, is over: whether there is another, where and when."""
        now, lasted_s = _monotonic(), None
        if self._welcomed_at is not None:
            lasted_s = now - self._welcomed_at
            if self._away_since is None:
                self._away_since = now
        self.close()
        self._cause, self._catching_up = None, CatchingUp()
        self._waiting.clear()
        for outgoing in self._outbox.values():
            outgoing.sent = False
        if final(end.code, end.retry_after_s):
            self.barred = end.code
        else:
            self._retry_at = now + self._route.after(msgspec.structs.replace(end, lasted_s=lasted_s))

    # Packets

    def _take(self, packet: wire.Packet) -> None:
        """Raises `Gone`."""
        if self._link is None:
            return  # the packet before this one has ended the connection
        match packet:
            case wire.Event():
                self._event(packet.name, packet.payload)
            case wire.Acked():
                heard = self._waiting.pop(packet.number, None)
                if heard is not None:
                    heard(wire.payload_of(packet.payload, wire.Answer))
            case wire.Ping():
                self._link.send(wire.PONG)
            case wire.Opened():
                self._silence_s = (packet.ping_interval + packet.ping_timeout) / 1000
                self._connect(self._link)
            case wire.Refusal():
                self._observer.refused("connect", packet.code)
                self._ended(End(code=packet.code, retry_after_s=_seconds(packet.retry_after)))
            case wire.Disconnected():
                self._ended(self._cause or End(code="disconnected"))
            case wire.Connected():
                pass  # `welcome` says it all

    def _connect(self, link: Link) -> None:
        try:
            auth: dict[str, Any] = {"token": self._mint(self.user)}
        except TokenUnavailable:
            self._observer.refused("connect", "token_unavailable")
            self._ended(End(code="token_unavailable"))
            return
        if self._session:
            auth["resume"] = {"session": self._session, "cursors": self.journal.cursors}
        link.send(wire.connect(auth))

    def _event(self, name: str, payload: msgspec.Raw) -> None:
        if name in wire.SEQUENCED:
            event = wire.room_event(payload)
            event.event = name
            for one in self._catching_up.live(event):
                self._note(one, replayed=False)
            return
        match name:
            case "welcome":
                self._welcomed(wire.payload_of(payload, wire.Welcome))
            case "replay":
                replay = wire.payload_of(payload, wire.Replay)
                self._step(replay.room, self._catching_up.replayed(replay))
            case "resync":
                resync = wire.payload_of(payload, wire.Resync)
                self._step(resync.room, ([], self._catching_up.resync(resync.room, resync.after)))
            case "auth:expiring" if self._renews:
                self._renew()
            case "auth:expired":
                self._observer.expired(_monotonic() + _WALL_S - self.expires_at / 1000)
                self._closing(End(code="token_expired"))
            case "auth:revoked":
                self._closing(End(code=wire.payload_of(payload, wire.Revoked).code))
            case "draining":
                self._closing(End(code="draining", retry_after_s=_seconds(wire.payload_of(payload, wire.Draining).retry_after)))
            case _:
                pass  # presence, typing and read marks are not counted on

    def _closing(self, cause: End) -> None:
        self._cause, self._alarms.close = cause, _monotonic() + CLOSE_S

    def _welcomed(self, welcome: wire.Welcome) -> None:
        rooms = {at.room: at.seq for at in welcome.rooms}
        self._catching_up = CatchingUp(rooms.keys() & self.journal.cursors.keys() if self._session else ())
        for room, seq in rooms.items():
            self.journal.watch(room, after=seq)
        again, self._session = bool(self._session), welcome.session
        self._ticket, self.expires_at = welcome.ticket, welcome.expires_at
        self._welcomed_at, self._alarms.close = _monotonic(), NEVER
        self._level(again=again)
        self._send_all()

    def _level(self, *, again: bool = True) -> None:
        """Say that it is, where it is and was not."""
        if self._away_since is not None and self._catching_up.level:
            self._observer.connected(_monotonic() - self._away_since, again=again)
            self._away_since = None

    # Events of rooms

    def _note(self, event: wire.RoomEvent, *, replayed: bool) -> None:
        name, room, seq, journal, now = event.event, event.room, event.seq, self.journal, _monotonic() + _WALL_S
        if (name == "joined" and event.user == self.user) or (event.change == "created" and event.by == self.user):
            journal.watch(room, after=seq - 1)
        if name == "message":
            called = posted(event.author, event.id)
            due = _due(event.text)
            if due is not None:
                self._observer.delivered(now - due, replayed=replayed)
        else:
            called = f"{name} {event.author or event.user or event.by} {event.id} {event.at}"
        at = now if now * 1000 <= self.expires_at else self._earliest + _WALL_S  # nobody else is to blame for our own delay
        journal.saw(room, seq, called, at=int(at * 1000), expires_at=self.expires_at)
        if name == "left" and event.user == self.user:
            journal.unwatch(room, until=seq)

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
        if answer.error is not None and answer.error.code in _AGAIN:
            self._alarms.refill = _monotonic() + self._pause.after(_hint_s(answer))
        else:
            self._step(room, self._catching_up.answered(room, answer))

    # Commands

    def _command(self, name: str, payload: dict[str, Any], heard: Callable[[wire.Answer], None]) -> None:
        """Give a command once; nobody hears of an answer that does not come. Raises `Gone`."""
        assert self._link is not None
        self._number += 1
        self._waiting[self._number] = heard
        self._link.send(wire.command(self._number, name, payload))

    def _asked(self, name: str, payload: dict[str, Any]) -> wire.Answer | None:
        """The answer to a command that is given once, as soon as there is a connection; None where it was lost."""
        while self._welcomed_at is None:
            self._turn(NEVER)
        link, limit, answers = self._link, _monotonic() + ANSWER_S, list[wire.Answer]()
        try:
            self._command(name, payload, answers.append)
        except Gone:
            return None  # which the next turn finds, too
        while not answers and self._link is link and _monotonic() < limit:
            self._turn(limit)
        return answers[0] if answers else None

    def _renew(self) -> None:
        try:
            token = self._mint(self.user)
        except TokenUnavailable:
            self._observer.refused("renew", "token_unavailable")
            self._alarms.renew = _monotonic() + self._pause.next()
        else:
            self._command("auth:refresh", {"token": token}, partial(self._renewed, _monotonic()))

    def _renewed(self, began: float, answer: wire.Answer) -> None:
        if answer.error is None:
            self.expires_at = answer.expires_at
            self._observer.renewed(_monotonic() - began)
            return
        self._observer.refused("renew", answer.error.code)
        if not final(answer.error.code, _seconds(answer.error.retry_after)):
            self._alarms.renew = _monotonic() + self._pause.after(_hint_s(answer))

    # Messages

    def _send_all(self) -> None:
        for outgoing in list(self._outbox.values()):
            if not outgoing.sent:
                self._send(outgoing)

    def _send(self, outgoing: Outgoing) -> None:
        outgoing.sent = True
        message = {"room": outgoing.room, "id": outgoing.id, "text": outgoing.text}
        self._command("message:send", message, partial(self._said, outgoing))

    def _said(self, outgoing: Outgoing, answer: wire.Answer) -> None:
        if answer.error is not None and answer.error.code in (*_AGAIN, "token_expired"):
            outgoing.sent = False
            self._alarms.resend = _monotonic() + self._pause.after(_hint_s(answer))
            return
        del self._outbox[outgoing.id]
        self._pause.reset()
        if answer.error is not None:
            self._observer.refused("message:send", answer.error.code)
            return
        self.journal.acked(outgoing.room, answer.seq, posted(self.user, outgoing.id))
        self._observer.acked(_monotonic() - outgoing.due)


def _ignored(answer: wire.Answer) -> None:
    pass


def _due(text: str) -> float | None:
    """When a message of a load test was due, by the wall clock; None for anybody else's."""
    try:
        return float(text.partition(" ")[0])
    except ValueError:
        return None


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _hint_s(answer: wire.Answer | None) -> float:
    """What a refused answer asks to wait."""
    return 0.0 if answer is None or answer.error is None or answer.error.retry_after is None else answer.error.retry_after / 1000
