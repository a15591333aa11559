"""A user of a cluster for load tests: one connection at a time, everything noted, as little memory and time as can be.

Whoever has a `Client` drives it from one greenlet: `serve(until)` keeps the connection and takes in what comes. It has no greenlet,
timer or thread of its own. What arrives is noted as it arrives: what the server leaves out, repeats or mixes up is never mended, so
that the checker hears of it.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gevent
import msgspec

from loadtest import wire
from loadtest.alarms import NEVER, Alarms
from loadtest.catching_up import CatchingUp
from loadtest.checker import OUTSTAYED_MS
from loadtest.clock import monotonic, monotonic_at, wall, wall_ms, wall_of
from loadtest.conversation import Conversation, hint_s, ignored
from loadtest.journal import Journal
from loadtest.link import Gone, Link, Refused, open_link
from loadtest.observer import Observer, Pulse
from loadtest.outbox import AGAIN
from loadtest.route import Backoff, End, Route, final
from loadtest.stock import OPEN_S as STOCK_OPEN_S
from loadtest.stock import StockRoute
from loadtest.tokens import Token, TokenUnavailable

_COMES_BACK = frozenset({"token_expired", "draining"})  # codes of what a server says before it closes the transport alone
OPEN_S = 10.0  # for the transport; and again from there to `welcome`
ANSWER_S = 10.0  # for an ack
CLOSE_S = 5.0  # for the server to close, after it said that it will
WITHDRAWN_MS = 1_000  # that the cluster has to end the sessions of withdrawn tokens
_KNOCK_S = 1.5  # after which one who was put out tries the withdrawn token: it has to be refused everywhere by then
_LONG_MS = OUTSTAYED_MS + 1_000  # past its end a session is left: the server does not end it
_LOOK_S = 0.5  # who is away looks so often whether that is over


class Barred(Exception):
    """The cluster will not have this user; the text is the code."""


class Away(msgspec.Struct, frozen=True):
    """From when to when (monotonic) there is to be no connection; `stale`: back with the token of before, whatever has become of it.

    `said`: the server is told, as when a page is closed.
    """

    begins: float
    ends: float
    stale: bool = False
    said: bool = False


class _Withdrawal(msgspec.Struct):
    """Of the token that one had when it was asked for (monotonic). `ends_at`: of all right, in ms; 0 until the cluster has answered."""

    token: Token | None
    asked: float
    ends_at: int = 0


class Client(Conversation):
    """One user. `serve`, `ask`, `say` and `mark_read` are for one greenlet; the first two raise `Barred`."""

    __slots__ = (
        "_asking",
        "_cause",
        "_goes",
        "_pulse",
        "_renews",
        "_retry_at",
        "_route",
        "_session",
        "_silence_s",
        "_stale",
        "_stock",
        "_ticket",
        "_token",
        "_tokens",
        "_withdrawal",
        "barred",
        "packets",
    )

    def __init__(
        self,
        *,
        user: str,
        tokens: Callable[[bool], Token],
        route: Route | StockRoute,
        journal: Journal,
        observer: Observer,
        pulse: Pulse,
        renews: bool,
        draw: Callable[[], float],
        away: Sequence[Away] = (),
    ) -> None:
        """`tokens(renewal)` gives a fresh one, or raises `TokenUnavailable`; `renews`: when `auth:expiring` says so, or never.

        With a `StockRoute` it does what socket.io-client does by itself: no resume, no renewal, nothing sent a second time.
        """
        self._stock = isinstance(route, StockRoute)
        super().__init__(user, journal, observer, draw, stock=self._stock)
        self._route, self._tokens, self._pulse, self._goes = route, tokens, pulse, list(away)
        self._renews = renews and not self._stock
        self.barred: str | None = None
        self.packets = 0  # that came
        self._token: Token | None = None  # the last that was brought
        self._stale = False  # it is to be brought again
        self._withdrawal: _Withdrawal | None = None  # until one has signed in anew
        self._session = self._ticket = ""
        self._retry_at = 0.0
        self._cause: End | None = None  # what the server said before it closes
        self._silence_s = OPEN_S
        self._asking = False

    # What its user does

    @property
    def here(self) -> bool:
        """Whether it is connected, and has been sent what it missed."""
        return self._welcomed_at is not None and self._catching_up.level

    @property
    def away(self) -> bool:
        """Whether it is to have no connection now."""
        return bool(self._goes) and self._goes[0].begins <= monotonic()

    @property
    def idle(self) -> bool:
        """Whether it waits for no answer."""
        return not self._outbox and not self._asking

    def serve(self, until: float) -> None:
        """Keep the connection and take in what comes, until this moment of the monotonic clock; at least what is there already."""
        while True:
            self._turn(until)
            if monotonic() >= until:
                return

    def ask(self, name: str, payload: dict[str, Any]) -> wire.Answer:
        """Give a command again and again until it is carried out, or refused for good: one that may be repeated."""
        pause, self._asking = Backoff(self._draw), True
        try:
            while True:
                answer = self._asked(name, payload)
                if answer is not None and (answer.error is None or answer.error.code not in AGAIN):
                    return answer
                self.serve(monotonic() + pause.after(hint_s(answer)))
        finally:
            self._asking = False

    def close(self) -> None:
        """End the connection; idempotent. The journal stays."""
        if self._link is not None:
            self._link.close()
        self._leave()

    # What is done to it by others: none of this waits

    def stay(self) -> None:
        """There is to be a connection from now on. Who comes back only because of this is not told as one who waited."""
        now = monotonic()
        over = [away for away in self._goes if away.ends <= now]  # it is about to come back from these by itself
        self._called = self.away and not over and self._link is None
        self._goes[:] = over

    def being_withdrawn(self) -> int:
        """Its tokens are being withdrawn: it has to be put out, and to be refused with the token that it has.

        Returns the moment (ms) before which they were issued, by the token's own word where it gives one: who withdraws no others, however
        often it is asked for, leaves alone what this one fetches from here on.
        """
        token = self._token
        self._withdrawal = _Withdrawal(token, monotonic())
        return wall_ms() if token is None or token.issued_at is None else token.issued_at + 1

    def withdrawn(self) -> None:
        """They have been: from a second later on nothing is to come any more."""
        if self._withdrawal is not None:
            self._withdrawal.ends_at = wall_ms() + WITHDRAWN_MS
            if self._welcomed_at is not None and self._token is self._withdrawal.token:
                self._right_ends(min(self.ends_at, self._withdrawal.ends_at))

    # Connections, one after the other

    def _turn(self, until: float) -> None:
        """Wait for what comes, at most once and never past `until` (but for a connection that is being opened), and act on it."""
        if self.barred is not None:
            raise Barred(self.barred)
        now, link = monotonic(), self._link
        if self._goes:
            if self._goes[0].begins <= now:
                self._be_away(until)
                return
            until = min(until, self._goes[0].begins)
        if link is None:
            if now < self._retry_at:
                gevent.sleep(max(0.0, min(until, self._retry_at) - now))
            else:
                self._open()
            return
        try:
            packets = link.receive(max(0.0, min(until, self._alarms.next) - now), self._note_at_once)
            self._was_read(link)
            if packets:
                self.packets += len(packets)
                self._alarms.silent = monotonic() + self._silence_s
                self._take_all(packets)
            if self._alarms.next <= monotonic():
                self._look_at_alarms()
        except Gone:
            self._was_read(link)
            self._ended(self._cause or End(code="lost", opened=True))
        except wire.Malformed:
            self._ended(End(code="malformed", opened=True))

    def _note_at_once(self, packets: list[bytes]) -> list[bytes] | None:
        """Note the events that are only to be noted, as far as nothing else is among them: for each of the others there is a turn, which
        takes as long as all that is done here. See `Link.receive`.
        """
        link = self._link
        assert link is not None
        self._was_read(link)
        for at, packet in enumerate(packets):
            event = wire.parse(packet) if packet.startswith(wire.EVENT) else None
            if isinstance(event, wire.Event) and isinstance(event.payload, wire.RoomEvent):
                for one in self._catching_up.live(event.payload):
                    self._note(one, replayed=False)
            elif not isinstance(event, wire.Event) or event.name not in wire.PASSING:
                self.packets += at
                return packets[at:]
        now, alarms = monotonic(), self._alarms
        self.packets += len(packets)
        alarms.silent = now + self._silence_s
        return [] if alarms.outstayed <= now else None  # the only one that others may have moved since this wait began

    def _be_away(self, until: float) -> None:
        away, now = self._goes[0], monotonic()
        if self._link is not None:
            if not away.said:
                self._link.cut()
            if self._welcomed_at is not None:
                self._observer.lost("client")
                self._lost_by = "client"
            self.close()
            self._cause, self._catching_up = None, CatchingUp()
            self._forget_answers()
        if now < away.ends:
            gevent.sleep(max(0.0, min(until, away.ends, now + _LOOK_S) - now))
        elif self._goes and self._goes[0] is away:
            del self._goes[0]
            self._away_since, self._retry_at, self._stale = away.ends, 0.0, away.stale

    def _open(self) -> None:
        if self._away_since is None:
            self._away_since = monotonic()
        self._observer.tried()
        query = {"ticket": self._ticket} if self._ticket and not self._stock else {}
        try:
            self._link = open_link(self._route.url, query, timeout_s=STOCK_OPEN_S if self._stock else OPEN_S)
        except Refused as refused:
            self._not_let_in(refused.code)
            self._ended(End(code=refused.code, retry_after_s=refused.retry_after_s))
        except Gone:
            self._not_let_in("lost")
            self._ended(End(code="lost"))
        else:
            now = monotonic()
            self._alarms = Alarms(close=now + OPEN_S, silent=now + OPEN_S)

    def _was_read(self, link: Link) -> None:
        """Tell how long what has just been read may have waited for this process: since the event loop last looked in vain, while this
        waited for it, or else since all had been read that was there.
        """
        before = self._pulse.before
        self._earliest = max(before, link.came_after) if before > link.waited_from else link.came_after

    def _look_at_alarms(self) -> None:
        """Do what is due on the open connection. Raises `Gone`."""
        now, alarms = monotonic(), self._alarms
        if self._link is None:
            return
        if self._cause is not None and alarms.close <= now:
            self._ended(End(code="not_closed", opened=True))
            return
        if min(alarms.close, alarms.silent, alarms.outstayed) <= now:
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

    def _not_let_in(self, code: str) -> None:
        if not self._called:
            self._observer.refused("connect", code)

    def _ended(self, end: End) -> None:
        """The connection, or the try, is over: whether there is another, where and when."""
        now = monotonic()
        if self._welcomed_at is not None:
            end = msgspec.structs.replace(end, lasted_s=now - self._welcomed_at)
            self._observer.lost(end.code)
            if self._cause is None and wall_ms() > self.ends_at:  # it was told of no end, and there was one
                self._observer.expired(wall() - self.ends_at / 1000)
            if self._away_since is None:
                self._away_since, self._lost_by = now, end.code
        self.close()
        self._cause, self._catching_up = None, CatchingUp()
        self._forget_answers()
        expected = self._withdrawal is not None and end.code == "token_revoked"
        self._stale = expected and end.lasted_s is not None
        if final(end.code, end.retry_after_s) and not expected:
            self.barred = end.code
        else:
            self._retry_at = now + (_KNOCK_S if self._stale else self._route.after(end))

    def _leave(self) -> None:
        if self._welcomed_at is not None:
            self.journal.left(at=self._came_at(self.ends_at))
        self._link = self._welcomed_at = None

    # Packets

    def _take_all(self, packets: list[bytes]) -> None:
        """Raises `Gone`, behind the last: what has come has come, though an answer to one of them cannot be sent any more."""
        gone: Gone | None = None
        for packet in packets:
            try:
                self._take(wire.parse(packet))
            except Gone as error:
                gone = gone or error
        if gone is not None and self._link is not None:
            raise gone

    def _take(self, packet: wire.Packet) -> None:
        """Raises `Gone`."""
        if self._link is None:
            return  # the packet before this one has ended the connection
        match packet:
            case wire.Event():
                self._event(packet)
            case wire.Acked():
                heard = self._waiting.pop(packet.number, None)
                if heard is not None:
                    heard(packet.answer)
            case wire.Ping():
                self._link.send(wire.PONG)
            case wire.Opened():
                self._silence_s = (packet.ping_interval + packet.ping_timeout) / 1000
                self._connect(self._link)
            case wire.Refusal():
                self._not_let_in(packet.code)
                self._ended(End(code=packet.code, retry_after_s=_seconds(packet.retry_after), opened=True))
            case wire.Closed():
                raise Gone("closed with a packet")
            case wire.Disconnected():  # behind which no stock client comes back: right for who is put out for good, and for nobody else
                put_out = self._cause is not None and self._cause.code not in _COMES_BACK
                self._ended(self._cause if self._cause is not None and put_out else End(code="disconnected", opened=True))
            case wire.Connected():
                pass  # `welcome` says it all

    def _connect(self, link: Link) -> None:
        if not self._stale or self._token is None:
            try:
                self._token = self._tokens(False)
            except TokenUnavailable:
                self._not_let_in("token_unavailable")
                self._ended(End(code="token_unavailable", opened=True))
                return
            if self._withdrawal is not None and self._withdrawal.ends_at:
                self._withdrawal = None
        auth: dict[str, Any] = {"token": self._token.text}
        if self._session and not self._stock:
            auth["resume"] = {"session": self._session, "cursors": self.journal.cursors}
        link.send(wire.connect(auth))

    def _event(self, event: wire.Event) -> None:
        match event.payload:
            case wire.RoomEvent() as happened:
                for one in self._catching_up.live(happened):
                    self._note(one, replayed=False)
            case wire.Welcome() as welcome:
                self._welcomed(welcome)
            case wire.Replay() as replay:
                self._step(replay.room, self._catching_up.replayed(replay))
            case wire.Resync() as resync if not self._stock:
                self._step(resync.room, ([], self._catching_up.resync(resync.room, resync.after)))
            case wire.Revoked() as revoked:
                if self._withdrawal is not None:
                    self._observer.revoked(monotonic() - self._withdrawal.asked)
                self._closing(End(code=revoked.code, opened=True))
            case wire.Draining() as draining:
                self._closing(End(code="draining", retry_after_s=_seconds(draining.retry_after), opened=True))
            case _ if event.name == "auth:expiring" and self._renews:
                self._renew()
            case _ if event.name == "auth:expired":
                self.journal.expired(at=wall_ms())  # as it is read: our delay makes no end an early one
                self._observer.expired(wall() - self.ends_at / 1000)
                self._closing(End(code="token_expired", opened=True))
            case _:
                pass  # presence, typing and read marks are not counted on

    def _closing(self, cause: End) -> None:
        self._cause, self._alarms.close = cause, monotonic() + CLOSE_S

    def _welcomed(self, welcome: wire.Welcome) -> None:
        assert self._token is not None
        rooms = {at.room: at.seq for at in welcome.rooms}
        self._catching_up = CatchingUp(rooms.keys() & self.journal.cursors.keys() if self._session and not self._stock else ())
        for room, seq in rooms.items():
            self.journal.watch(room, after=seq)
        self._session, self._ticket = welcome.session, welcome.ticket
        self._welcomed_at, self._alarms.close = monotonic(), NEVER
        self._observer.welcomed()
        self.journal.entered(at=self._came_at(self._token.ends_at), ends_at=0)
        withdrawn = self._withdrawal is not None and self._withdrawal.token is self._token and self._withdrawal.ends_at
        self._right_ends(min(self._token.ends_at, withdrawn or self._token.ends_at))
        self._level()
        if self._stock:  # a page that finds itself out of its rooms goes in again
            for room in self.journal.cursors.keys() - rooms.keys():
                self._command("room:join", {"room": room}, ignored)
        self._send_all()

    def _right_ends(self, ends_at: int) -> None:
        """The right to the open session ends at another time, in ms."""
        self.ends_at = ends_at
        self.journal.stays_until(ends_at)
        self._alarms.outstayed = monotonic_at((ends_at + _LONG_MS) / 1000)

    # Commands

    def _asked(self, name: str, payload: dict[str, Any]) -> wire.Answer | None:
        """The answer to a command that is given once, as soon as there is a connection; None where it was lost."""
        while self._welcomed_at is None:
            self._turn(NEVER)
        link, limit, answers = self._link, monotonic() + ANSWER_S, list[wire.Answer]()
        try:
            self._command(name, payload, answers.append)
        except Gone:
            return None  # which the next turn finds, too
        while not answers and self._link is link and monotonic() < limit:
            self._turn(limit)
        return answers[0] if answers else None

    def _renew(self) -> None:
        try:
            token = self._tokens(True)
        except TokenUnavailable:
            self._observer.refused("renew", "token_unavailable")
            self._alarms.renew = monotonic() + self._pause.next()
        else:
            self._command("auth:refresh", {"token": token.text}, partial(self._renewed, token, monotonic()))

    def _renewed(self, token: Token, began: float, answer: wire.Answer) -> None:
        if answer.error is None:
            if wall_of(began) * 1000 < self.ends_at:
                self.journal.renewed(self.ends_at, token.ends_at)
            self._token = token
            self._right_ends(token.ends_at)
            self._observer.renewed(monotonic() - began)
            return
        self._observer.refused("renew", answer.error.code)
        if not final(answer.error.code, _seconds(answer.error.retry_after)):
            self._alarms.renew = monotonic() + self._pause.after(hint_s(answer))


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
