"""A user of a cluster for load tests: one connection at a time, everything noted, as little memory and time as can be.

Whoever has a `Client` drives it from one greenlet: `serve(until)` keeps the connection and takes in what comes. It has no greenlet,
timer or thread of its own. What arrives is noted as it arrives: what the server leaves out, repeats or mixes up is never mended, so
that the checker hears of it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import gevent
import msgspec

from loadtest import wire
from loadtest.alarms import NEVER, Alarms
from loadtest.clock import monotonic
from loadtest.commands import Commands, hint_s
from loadtest.conversation import Conversation
from loadtest.credentials import Credentials
from loadtest.journal import Journal
from loadtest.link import Gone, Link, Refused, open_link
from loadtest.observer import Observer, Pulse
from loadtest.outbox import AGAIN
from loadtest.reception import Over, Reception
from loadtest.route import Backoff, End, Route, final
from loadtest.session import Session
from loadtest.stock import OPEN_S as STOCK_OPEN_S
from loadtest.stock import StockRoute
from loadtest.tokens import Token
from loadtest.whereabouts import Away, Whereabouts

OPEN_S = 10.0  # for the transport; and again from there to `welcome`
ANSWER_S = 10.0  # for an ack
_KNOCK_S = 1.5  # after which one who was put out tries the withdrawn token: it has to be refused everywhere by then
_LOOK_S = 0.5  # who is away looks so often whether that is over


class Barred(Exception):
    """The cluster will not have this user; the text is the code."""


class Client:
    """One user. `serve`, `ask`, `say` and `mark_read` are for one greenlet; the first two raise `Barred`.

    It has the connections, one after the other, and their alarms. What is said, heard and noted over them is its parts', which know nothing
    of it: `reception` takes the packets, and gives what concerns them to `commands`, `session` and `conversation`.
    """

    __slots__ = (
        "_alarms",
        "_asking",
        "_commands",
        "_conversation",
        "_draw",
        "_link",
        "_observer",
        "_reception",
        "_retry_at",
        "_session",
        "_whereabouts",
        "barred",
        "credentials",
        "journal",
        "packets",
        "route",
        "user",
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
        stock = isinstance(route, StockRoute)
        self.user, self.journal, self.route, self._observer, self._draw = user, journal, route, observer, draw
        self.credentials = Credentials(tokens, renews=renews and not stock, resumes=not stock)
        self.barred: str | None = None
        self.packets = 0  # that came
        self._alarms, self._commands = Alarms(silence_s=OPEN_S), Commands(draw)
        self._session = Session(journal, observer, pulse, self._alarms)
        self._whereabouts = Whereabouts(observer, away)
        self._conversation = Conversation(
            user,
            journal,
            observer,
            session=self._session,
            commands=self._commands,
            whereabouts=self._whereabouts,
            alarms=self._alarms,
            stock=stock,
        )
        self._reception = Reception(
            journal,
            observer,
            credentials=self.credentials,
            session=self._session,
            commands=self._commands,
            conversation=self._conversation,
            alarms=self._alarms,
        )
        self._link: Link | None = None  # the one of `_commands`, at hand where each event comes by
        self._retry_at, self._asking = 0.0, False

    # What its user does, and what is to be seen of it

    @property
    def here(self) -> bool:
        """Whether it is connected, and has been sent what it missed."""
        return self._session.since is not None and self._conversation.level

    @property
    def away(self) -> bool:
        """Whether it is to have no connection now."""
        return self._whereabouts.away

    @property
    def idle(self) -> bool:
        """Whether it waits for no answer."""
        return not self._conversation.unacked and not self._asking

    @property
    def unacked(self) -> int:
        """Messages that are not known to be in the log."""
        return self._conversation.unacked

    @property
    def forgotten(self) -> int:
        """Messages that were under way when a connection ended, and not sent again (a stock client's)."""
        return self._conversation.forgotten

    @property
    def ends_at(self) -> int:
        """When (ms) the right to its session ends, or to the last one ended; 0 before the first."""
        return self._session.ends_at

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

    def _asked(self, name: str, payload: dict[str, Any]) -> wire.Answer | None:
        """The answer to a command that is given once, as soon as there is a connection; None where it was lost."""
        while self._session.since is None:
            self._turn(NEVER)
        link, limit, answers = self._link, monotonic() + ANSWER_S, list[wire.Answer]()
        try:
            self._commands.give(name, payload, answers.append)
        except Gone:
            return None  # which the next turn finds, too
        while not answers and self._link is link and monotonic() < limit:
            self._turn(limit)
        return answers[0] if answers else None

    def say(self, room: str, id: str, text: str, *, due: float) -> None:
        """Send a message under one id, now or once there is a connection, until the log has it. `due`: when it should have been."""
        self._conversation.say(room, id, text, due=due)

    def mark_read(self, room: str) -> None:
        """Tell that all is read that has come; once, whatever becomes of it."""
        self._conversation.mark_read(room)

    def close(self) -> None:
        """End the connection; idempotent. The journal stays."""
        if self._link is not None:
            self._link.close()
        self._session.end()
        self._commands.forget()
        self._link = None

    # What is done to it by others: none of this waits

    def stay(self) -> None:
        """There is to be a connection from now on. Who comes back only because of this is not told as one who waited."""
        self._whereabouts.stay(connected=self._link is not None)

    def being_withdrawn(self) -> int:
        """Its tokens are being withdrawn: it has to be put out, and to be refused with the token that it has.

        Returns the moment (ms) before which they were issued, by the token's own word where it gives one: who withdraws no others, however
        often it is asked for, leaves alone what this one fetches from here on.
        """
        return self.credentials.being_withdrawn()

    def withdrawn(self) -> None:
        """They have been: from a second later on nothing is to come any more."""
        self.credentials.withdrawn()
        if self._session.since is not None:
            self._session.right_ends(min(self._session.ends_at, self.credentials.ends_at))

    # Connections, one after the other

    def _turn(self, until: float) -> None:
        """Wait for what comes, at most once and never past `until` (but for a connection that is being opened), and act on it."""
        if self.barred is not None:
            raise Barred(self.barred)
        now, link, away = monotonic(), self._link, self._whereabouts.next
        if away is not None:
            if away.begins <= now:
                self._be_away(away, until)
                return
            until = min(until, away.begins)
        if link is None:
            if now < self._retry_at:
                gevent.sleep(max(0.0, min(until, self._retry_at) - now))
            else:
                self._open()
            return
        try:
            packets = link.receive(max(0.0, min(until, self._alarms.next) - now), self._note_at_once)
            self._session.read(link)
            if packets:
                self.packets += len(packets)
                self._alarms.silent = monotonic() + self._alarms.silence_s
                self._reception.take(packets)
            if self._alarms.next <= monotonic():
                self._look_at_alarms()
        except Gone:
            self._session.read(link)
            self._ended(self._reception.cause or End(code="lost", opened=True))
        except Refused as refused:
            self._not_let_in(refused.code, refused.retry_after_s, opened=True)
        except Over as over:
            self._ended(over.end)
        except wire.Malformed:
            self._ended(End(code="malformed", opened=True))

    def _note_at_once(self, packets: list[bytes]) -> list[bytes] | None:
        """Note the events that are only to be noted, as far as nothing else is among them: for each of the others there is a turn, which
        takes as long as all that is done here. See `Link.receive`.
        """
        link = self._link
        assert link is not None
        self._session.read(link)
        left = self._conversation.note_at_once(packets)
        self.packets += len(packets) - len(left)
        if left:
            return left
        now, alarms = monotonic(), self._alarms
        alarms.silent = now + alarms.silence_s
        return [] if alarms.outstayed <= now else None  # the only one that others may have moved since this wait began

    def _be_away(self, away: Away, until: float) -> None:
        now = monotonic()
        if self._link is not None:
            if not away.said:
                self._link.cut()
            if self._session.since is not None:
                self._observer.lost("client")
                self._whereabouts.leaves()
            self._break_off()
        if now < away.ends:
            gevent.sleep(max(0.0, min(until, away.ends, now + _LOOK_S) - now))
        else:
            self._whereabouts.back(away)
            self._retry_at, self.credentials.stale = 0.0, away.stale

    def _open(self) -> None:
        self._whereabouts.tries()
        self._observer.tried()
        timeout_s = STOCK_OPEN_S if isinstance(self.route, StockRoute) else OPEN_S
        try:
            link = open_link(self.route.url, self.credentials.query, timeout_s=timeout_s)
        except Refused as refused:
            self._not_let_in(refused.code, refused.retry_after_s, opened=False)
        except Gone:
            self._not_let_in("lost", None, opened=False)
        else:
            self._link = self._commands.link = link
            self._alarms.begin(monotonic() + OPEN_S)

    def _look_at_alarms(self) -> None:
        """Do what is due on the open connection. Raises `Gone`, and `Over` where the node does not close it."""
        now, alarms = monotonic(), self._alarms
        if self._link is None:
            return
        if self._reception.cause is not None and alarms.close <= now:
            raise Over(End(code="not_closed", opened=True))
        if min(alarms.close, alarms.silent, alarms.outstayed) <= now:
            raise Gone("too late")
        self._reception.look_at_alarms(now)

    def _not_let_in(self, code: str, retry_after_s: float | None, *, opened: bool) -> None:
        if not self._whereabouts.called:
            self._observer.refused("connect", code)
        self._ended(End(code=code, retry_after_s=retry_after_s, opened=opened))

    def _ended(self, end: End) -> None:
        """The connection, or the try, is over: whether there is another, where and when."""
        now, since = monotonic(), self._session.since
        if since is not None:
            end = msgspec.structs.replace(end, lasted_s=now - since)
            self._session.lost(end.code, told=self._reception.cause is not None)
            self._whereabouts.lost(end.code)
        self._break_off()
        expected = self.credentials.ended(end.code, session=since is not None)
        if final(end.code, end.retry_after_s) and not expected:
            self.barred = end.code
        else:
            self._retry_at = now + (_KNOCK_S if self.credentials.stale else self.route.after(end))

    def _break_off(self) -> None:
        self.close()
        self._reception.break_off()
