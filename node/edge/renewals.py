"""The tokens that open sessions stand on: renewed in place, warned of their end, and ended with it."""

from collections.abc import Callable
from typing import Any

from node.auth.deadlines import Kind, Schedule, Ticker
from node.auth.denied import Denied
from node.core.events import SessionRenewed
from node.edge import wire
from node.edge.commands import Chat
from node.edge.connection import Connection
from node.edge.engine import Refusal
from node.edge.handshake import SCOPES, Judge
from node.edge.roster import Roster
from node.edge.session import Session
from node.edge.witness import Witness


class Renewals:
    """The deadlines of the sessions in the roster. `remember` is told what a connection is answered that polls on past its end."""

    def __init__(
        self,
        schedule: Schedule,
        *,
        judge: Judge,
        roster: Roster,
        chat: Chat,
        witness: Witness,
        clock: Callable[[], int],
        remember: Callable[[Connection, Refusal], None],
    ) -> None:
        self._judge, self._roster, self._chat, self._witness = judge, roster, chat, witness
        self._clock, self._remember = clock, remember
        self._ticker = Ticker(schedule, clock, self._due)

    async def refresh(self, session: Session, arguments: list[Any]) -> dict[str, Any]:
        """Judge the token of an `auth:refresh`; the answer to it. A refused one changes nothing."""
        token = arguments[0].get("token") if len(arguments) == 1 and isinstance(arguments[0], dict) else None
        renewed = await self._judge.refresh(token, session.principal, scope=SCOPES[session.namespace])
        now = self._clock()
        if not session.alive(now):  # it ended while the token's key was fetched
            renewed = Denied("token_expired", "the session has ended")
        if isinstance(renewed, Denied):
            return {"ok": False, "error": {"message": renewed.message, **wire.denial_data(renewed)}}
        session.principal, event = renewed, self._chat.new_id()
        self.place(session, now)
        self._witness.renewed(session, event)
        self._chat.record(
            SessionRenewed(
                id=event,
                at=now,
                by=renewed.user,
                session=session.id,
                expires_at=renewed.expires_at,
                issued_at=renewed.issued_at,
                jti=renewed.jti,
            )
        )
        return {"ok": True, "expires_at": renewed.expires_at, "refresh_at": session.refresh_at}

    def place(self, session: Session, now: int) -> None:
        """Have a session warned and ended in time."""
        principal = session.principal
        session.refresh_at = self._ticker.place(
            session.id, now=now, issued_at=principal.issued_at, expires_at=principal.expires_at
        )

    def drop(self, session: Session) -> None:
        """A session has ended: it has no deadlines any more."""
        self._ticker.drop(session.id)

    def close(self) -> None:
        """Stop the timers; idempotent."""
        self._ticker.close()

    def _due(self, kind: Kind, session_id: str) -> None:
        session = self._roster.find(session_id)
        if session is None:
            return
        if kind == "refresh":
            session.send("auth:expiring", {"expires_at": session.principal.expires_at, "refresh_at": session.refresh_at})
            return
        self._remember(session.connection, Refusal(401, "token_expired", "the session's token has expired"))
        session.send("auth:expired", {"code": "token_expired"}, last=True)
        session.connection.close("token_expired", code=4001)
