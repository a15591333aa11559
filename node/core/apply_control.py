"""Fold the life of sessions and the withdrawal of tokens into the state."""

from typing import assert_never

import msgspec

from node.core.effects import Effect, EndSessions, UserSessionsChanged
from node.core.events import (
    ControlEvent,
    NodeStarted,
    SessionClosed,
    SessionOpened,
    SessionRenewed,
    TokensRevoked,
    UserSuspended,
)
from node.core.view import Session, View, Withdrawals

_replace = msgspec.structs.replace


def apply_control(view: View, event: ControlEvent) -> list[Effect]:
    """As `apply.apply`, for the control partition's events."""
    match event:
        case NodeStarted():
            lost = [one for one in view.open_sessions() if one.node == event.by]
            for one in lost:
                view.put_session(_replace(one, closed_at=event.at, reason="node_lost"))
            return [UserSessionsChanged(user) for user in dict.fromkeys(one.user for one in lost)]
        case SessionOpened():
            return _open(view, event)
        case SessionRenewed():
            session = view.session(event.session)
            if session is not None and session.closed_at is None:
                view.put_session(
                    _replace(
                        session,
                        expires_at=event.expires_at,
                        issued_at=event.issued_at,
                        jti=event.jti,
                        renewals=session.renewals + 1,
                        lineage=(*session.lineage, event.jti) if event.jti is not None else session.lineage,
                    )
                )
            return []
        case SessionClosed():
            session = view.session(event.session)
            if session is None or session.closed_at is not None:
                return []
            view.put_session(_replace(session, closed_at=event.at, reason=event.reason))
            return [UserSessionsChanged(session.user)]
        case TokensRevoked():
            return _revoke(view, event)
        case UserSuspended():
            return _suspend(view, event)
        case _:
            assert_never(event)


def _open(view: View, event: SessionOpened) -> list[Effect]:
    if view.session(event.session) is not None:
        return []
    view.put_session(
        Session(
            session=event.session,
            user=event.by,
            node=event.node,
            namespace=event.namespace,
            transport=event.transport,
            opened_at=event.at,
            expires_at=event.expires_at,
            issued_at=event.issued_at,
            jti=event.jti,
            lineage=(event.jti,) if event.jti is not None else (),
            resumes=event.resumes,
        )
    )
    return [UserSessionsChanged(event.by), *_end_if_withdrawn(view, event)]


def _end_if_withdrawn(view: View, event: SessionOpened) -> list[Effect]:
    """A session that was opened while its withdrawal was on its way stands behind it in the log, and ends all the same."""
    withdrawals = view.withdrawals(event.by)
    code = None
    if withdrawals is not None:
        until = withdrawals.suspended_until
        if withdrawals.suspended and (until is None or event.at < until):
            code = "user_suspended"
        elif _issued(event.issued_at) < withdrawals.before:
            code = "token_revoked"
    if event.jti is not None and view.revoked_jti(event.jti):
        code = "token_revoked"
    return [_end((event.session,), code, event.at)] if code else []


def _revoke(view: View, event: TokensRevoked) -> list[Effect]:
    ended: list[str] = []
    if event.user is not None:
        before = view.withdrawals(event.user) or Withdrawals()
        view.put_withdrawals(event.user, _replace(before, before=max(before.before, event.before)))
        ended += [s.session for s in view.open_sessions_of(event.user) if _issued(s.issued_at) < event.before]
    if event.jti is not None:
        view.put_revoked_jti(event.jti, event.at)
        ended += [s.session for s in view.open_sessions() if s.jti == event.jti]
    if event.session is not None:
        view.put_revoked_session(event.session, event.at)
        session = view.session(event.session)
        ended += [session.session] if session is not None and session.closed_at is None else []
    return [_end(tuple(dict.fromkeys(ended)), "token_revoked", event.at)] if ended else []


def _suspend(view: View, event: UserSuspended) -> list[Effect]:
    before = view.withdrawals(event.user) or Withdrawals()
    holds = event.until is None or event.until > event.at
    view.put_withdrawals(event.user, _replace(before, suspended=holds, suspended_until=event.until if holds else None))
    ended = tuple(s.session for s in view.open_sessions_of(event.user)) if holds else ()
    return [_end(ended, "user_suspended", event.at)] if ended else []


def _end(sessions: tuple[str, ...], code: str, at: int) -> EndSessions:
    return EndSessions(sessions=sessions, reason="revoked", code=code, asked_at=at)


def _issued(issued_at: int | None) -> int:
    return -1 if issued_at is None else issued_at
