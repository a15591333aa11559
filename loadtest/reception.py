"""What is done about each packet that comes to a user of a load test: signing in, renewing, being told to go. Nothing here waits."""

from functools import partial

from loadtest import wire
from loadtest.alarms import NEVER, Alarms
from loadtest.clock import monotonic
from loadtest.commands import Commands
from loadtest.conversation import Conversation
from loadtest.credentials import Credentials
from loadtest.journal import Journal
from loadtest.link import Gone, Link, Refused
from loadtest.observer import Observer
from loadtest.route import End, final
from loadtest.session import Session
from loadtest.tokens import Token, TokenUnavailable

_COMES_BACK = frozenset({"token_expired", "draining"})  # codes of what a server says before it closes the transport alone
CLOSE_S = 5.0  # for the server to close, after it said that it will


class Over(Exception):
    """The connection is over, whatever may still come; `end` says how."""

    def __init__(self, end: End) -> None:
        super().__init__(end.code)
        self.end = end


class Reception:
    """Of one connection after the other, from its first packet on: answers go to `commands`, the events of rooms to `conversation`.

    Its own are the session's events: it signs in with `credentials`, begins the `session`, renews it, and keeps what is said about its end.
    """

    __slots__ = ("_alarms", "_commands", "_conversation", "_credentials", "_journal", "_observer", "_session", "cause")

    def __init__(
        self,
        journal: Journal,
        observer: Observer,
        *,
        credentials: Credentials,
        session: Session,
        commands: Commands,
        conversation: Conversation,
        alarms: Alarms,
    ) -> None:
        """Of the `alarms`, `renew`, `close` and how long a silence may be are set here."""
        self._journal, self._observer, self._alarms = journal, observer, alarms
        self._credentials, self._session, self._commands, self._conversation = credentials, session, commands, conversation
        self.cause: End | None = None  # what the node has said why it is going to close

    def take(self, packets: list[bytes]) -> None:
        """Act on each, one after the other.

        Raises `Refused` where nobody is let in, `Over` and `wire.Malformed`, each at its packet; and `Gone`, but behind the last: what has
        come has come, though an answer to one of them cannot be sent any more.
        """
        gone: Gone | None = None
        for packet in packets:
            try:
                self._take(wire.parse(packet))
            except Gone as error:
                gone = gone or error
        if gone is not None and self._commands.link is not None:
            raise gone

    def look_at_alarms(self, now: float) -> None:
        """Do what is due in the session. Raises `Gone`."""
        if self._alarms.renew <= now:
            self._alarms.renew = NEVER
            self._renew()
        self._conversation.look_at_alarms(now)

    def break_off(self) -> None:
        """The connection has ended: nothing is under way any more."""
        self.cause = None
        self._conversation.break_off()

    def _take(self, packet: wire.Packet) -> None:
        link = self._commands.link
        if link is None:
            return  # it was closed by others, while an answer to the packet before this one waited to be sent
        match packet:
            case wire.Event():
                self._event(packet)
            case wire.Acked():
                self._commands.answered(packet)
            case wire.Ping():
                link.send(wire.PONG)
            case wire.Opened():
                self._alarms.silence_s = (packet.ping_interval + packet.ping_timeout) / 1000
                self._connect(link)
            case wire.Refusal():
                raise Refused(packet.code, _seconds(packet.retry_after))
            case wire.Closed():
                raise Gone("closed with a packet")
            case wire.Disconnected():  # behind which no stock client comes back: right for who is put out for good, and for nobody else
                put_out = self.cause is not None and self.cause.code not in _COMES_BACK
                raise Over(self.cause if self.cause is not None and put_out else End(code="disconnected", opened=True))
            case wire.Connected():
                pass  # `welcome` says it all

    def _connect(self, link: Link) -> None:
        try:
            auth = self._credentials.auth(self._journal.cursors)
        except TokenUnavailable:
            raise Refused("token_unavailable", None) from None
        link.send(wire.connect(auth))

    def _event(self, event: wire.Event) -> None:
        match event.payload:
            case wire.RoomEvent() | wire.Replay() | wire.Resync() as heard:
                self._conversation.hear(heard)
            case wire.Welcome() as welcome:
                self._welcomed(welcome)
            case wire.Revoked() as revoked:
                asked = self._credentials.withdrawing_since
                if asked is not None:
                    self._observer.revoked(monotonic() - asked)
                self._closing(End(code=revoked.code, opened=True))
            case wire.Draining() as draining:
                self._closing(End(code="draining", retry_after_s=_seconds(draining.retry_after), opened=True))
            case _ if event.name == "auth:expiring" and self._credentials.renews:
                self._renew()
            case _ if event.name == "auth:expired":
                self._session.expired()
                self._closing(End(code="token_expired", opened=True))
            case _:
                pass  # presence, typing and read marks are not counted on

    def _welcomed(self, welcome: wire.Welcome) -> None:
        credentials = self._credentials
        assert credentials.token is not None
        resumed = credentials.resuming
        credentials.welcomed(welcome.session, welcome.ticket)
        self._alarms.close = NEVER
        self._session.begin(credentials.token.ends_at, credentials.ends_at)
        self._conversation.begin({at.room: at.seq for at in welcome.rooms}, resumed=resumed)

    def _closing(self, cause: End) -> None:
        self.cause, self._alarms.close = cause, monotonic() + CLOSE_S

    def _renew(self) -> None:
        try:
            token = self._credentials.renewal()
        except TokenUnavailable:
            self._observer.refused("renew", "token_unavailable")
            self._alarms.renew = monotonic() + self._commands.pause.next()
        else:
            self._commands.give("auth:refresh", {"token": token.text}, partial(self._renewed, token, monotonic()))

    def _renewed(self, token: Token, asked: float, answer: wire.Answer) -> None:
        if answer.error is None:
            self._credentials.token = token
            self._session.renewed(token.ends_at, asked=asked)
            return
        self._observer.refused("renew", answer.error.code)
        if not final(answer.error.code, _seconds(answer.error.retry_after)):
            self._alarms.renew = self._commands.again_at(answer)


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
