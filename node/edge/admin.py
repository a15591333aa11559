"""What an operator may do on `/admin` (PROTOCOL section 6): look at the cluster and its sessions, withdraw tokens, drain a node."""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, assert_never

import msgspec

from node.core.commands import Limit, Seq, UserName
from node.core.errors import Refused
from node.core.events import ControlEvent, TokensRevoked, UserSuspended
from node.core.forgetting import TokenLife, with_until
from node.core.identity import Principal
from node.core.view import Session, View, root_of
from node.edge import wire

MOST_SESSIONS = 1_000  # in one answer, the newest; who needs all of a large cluster's reads the log
_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=8_192)]


class _Asked(msgspec.Struct, frozen=True, kw_only=True):
    pass


class Revoke(_Asked, frozen=True, kw_only=True):
    user: UserName | None = None
    jti: _Id | None = None
    session: _Id | None = None
    before: Seq | None = None


class Suspend(_Asked, frozen=True, kw_only=True):
    user: UserName
    until: Seq | None = None


class CloseSession(_Asked, frozen=True, kw_only=True):
    session: _Id


class ListSessions(_Asked, frozen=True, kw_only=True):
    """What is given has to hold of each: its user, a token that it ever had, the chain of a session, its node, part of the user's name."""

    at: Seq | None = None
    user: UserName | None = None
    jti: _Id | None = None
    session: _Id | None = None
    node: _Id | None = None
    query: _Id | None = None
    limit: Limit | None = None


class Drain(_Asked, frozen=True, kw_only=True):
    node: _Id


AdminCommand = Revoke | Suspend | CloseSession | ListSessions | Drain

#: The event name of each command on the wire.
ADMIN_NAMES: dict[str, type[AdminCommand]] = {
    "revoke": Revoke,
    "suspend": Suspend,
    "session:close": CloseSession,
    "sessions": ListSessions,
    "drain": Drain,
}


class AdminFace(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator's commands need of their node; filled by the composition root."""

    clock: Callable[[], int]
    new_id: Callable[[], str]
    withdraw: Callable[[ControlEvent], Awaitable[Refused | None]]  # returns once it is applied here
    life: TokenLife
    view: View
    sessions: Callable[[int | None], Awaitable[list[Session]]]  # open now, or at a past moment (ms), oldest first
    drain: Callable[[str], Awaitable[Refused | None]]  # returns once the node drains
    stats: Callable[[], dict[str, Any]]  # the payload of `stats`


class Admin:
    """Carries out the commands of `/admin`. Who connects there has the scope `admin`."""

    def __init__(self, face: AdminFace) -> None:
        self._face = face

    def stats(self) -> dict[str, Any]:
        """What every admin session is sent each second."""
        return self._face.stats()

    async def carry_out(self, name: Any, arguments: list[Any], principal: Principal) -> dict[str, Any] | Refused:
        """The fields that the ack adds to `ok`."""
        command = wire.decode_arguments(name, arguments, ADMIN_NAMES)
        match command:
            case Refused():
                return command
            case Revoke():
                return await self._revoke(command, principal)
            case Suspend(user=user, until=until):
                event = UserSuspended(id=self._face.new_id(), at=self._face.clock(), by=principal.user, user=user, until=until)
                return await self._withdraw(event)
            case CloseSession(session=session):
                return await self._revoke(Revoke(session=session), principal)
            case ListSessions():
                return await self._list(command)
            case Drain(node=node):
                return await self._face.drain(node) or {}
            case _:
                assert_never(command)

    async def _list(self, asked: ListSessions) -> dict[str, Any]:
        found = self._asked_for(asked, await self._face.sessions(asked.at))
        limit = min(asked.limit or MOST_SESSIONS, MOST_SESSIONS)
        answer = {
            "sessions": found[-limit:],
            "more": len(found) > limit,
            "total": len(found),
            "nodes": dict(sorted(Counter(session.node for session in found).items())),
        }
        return answer if asked.user is None else {**answer, "suspended_until": self._suspended_until(asked.user)}

    def _asked_for(self, asked: ListSessions, sessions: list[Session]) -> list[Session]:
        view, part = self._face.view, (asked.query or "").casefold()
        root = None if asked.session is None else root_of(view, asked.session)
        return [
            session
            for session in sessions
            if asked.user in (None, session.user)
            and asked.node in (None, session.node)
            and part in session.user.casefold()
            and (asked.jti is None or any(token.jti == asked.jti for token in session.lineage))
            and (root is None or root_of(view, session.session) == root)
        ]

    def _suspended_until(self, user: str) -> int | None:
        withdrawals = self._face.view.withdrawals(user)
        until = None if withdrawals is None else withdrawals.suspended_until
        return until if until is not None and until > self._face.clock() else None

    async def _revoke(self, command: Revoke, principal: Principal) -> dict[str, Any] | Refused:
        if sum(one is not None for one in (command.user, command.jti, command.session)) != 1:
            return Refused("bad_request", "exactly one of user, jti and session is revoked")
        now = self._face.clock()
        before = now if command.before is None else command.before
        event = TokensRevoked(
            id=self._face.new_id(),
            at=now,
            by=principal.user,
            before=before,
            user=command.user,
            jti=command.jti,
            session=command.session,
        )
        event = with_until(event, self._face.life, self._face.view)
        return await self._withdraw(event) if command.user is None else _with_before(await self._withdraw(event), before)

    async def _withdraw(self, event: ControlEvent) -> dict[str, Any] | Refused:
        failed = await self._face.withdraw(event)
        return {} if failed is None else failed


def _with_before(answer: dict[str, Any] | Refused, before: int) -> dict[str, Any] | Refused:
    return answer if isinstance(answer, Refused) else {"before": before}
