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
from node.core.view import FOR_EVER, Revoked, Session, Token, View, Withdrawals, jti_revoked, root_of, session_revoked

_replace = msgspec.structs.replace


def apply_control(view: View, event: ControlEvent) -> list[Effect]:
    """As `apply.apply`, for the control partition's events."""
    match event:
        case NodeStarted():
            lost = [one for one in view.open_sessions() if one.node == event.by]
            for one in lost:
                view.put_session(_replace(one, closed_at=event.at, reason="node_lost"))
            return [UserSessionsChanged(user, "node_lost") for user in dict.fromkeys(one.user for one in lost)]
        case SessionOpened():
            return _open(view, event)
        case SessionRenewed():
            session = view.session(event.session)
            return _renew(view, session, event) if session is not None and session.closed_at is None else []
        case SessionClosed():
            session = view.session(event.session)
            if session is None or session.closed_at is not None:
                return []
            view.put_session(_replace(session, closed_at=event.at, reason=event.reason))
            return [UserSessionsChanged(session.user, event.reason)]
        case TokensRevoked():
            return _revoke(view, event)
        case UserSuspended():
            return _suspend(view, event)
        case _:
            assert_never(event)


def _open(view: View, event: SessionOpened) -> list[Effect]:
    if view.session(event.session) is not None:
        return []
    session = Session(
        session=event.session,
        user=event.by,
        node=event.node,
        namespace=event.namespace,
        transport=event.transport,
        opened_at=event.at,
        expires_at=event.expires_at,
        issued_at=event.issued_at,
        jti=event.jti,
        lineage=(Token(since=event.at, expires_at=event.expires_at, issued_at=event.issued_at, jti=event.jti),),
        resumes=event.resumes,
        root=root_of(view, event.resumes) if event.resumes is not None else event.session,
    )
    view.put_session(session)
    return [UserSessionsChanged(event.by), *_end_if_withdrawn(view, session, event.at), *_end_with_chain(view, session, event.at)]


def _renew(view: View, before: Session, event: SessionRenewed) -> list[Effect]:
    since = max(event.at, before.lineage[-1].since)  # the clocks of two nodes may differ, the log's order holds
    token = Token(since=since, expires_at=event.expires_at, issued_at=event.issued_at, jti=event.jti)
    valid = [one for one in before.lineage if one.expires_at > since]
    session = before.standing_on([*valid, token], renewals=before.renewals + 1)
    view.put_session(session)
    return _end_if_withdrawn(view, session, event.at)


def _end_if_withdrawn(view: View, session: Session, now: int) -> list[Effect]:
    """What was opened or renewed while its withdrawal was on its way stands behind it in the log, and ends all the same."""
    withdrawals = view.withdrawals(session.user)
    code = withdrawals.code(session.issued_at, now) if withdrawals is not None else None
    if code is None and any(jti_revoked(view, one.jti, now) for one in session.lineage):
        code = "token_revoked"
    return [_end((session.session,), code, now)] if code is not None else []


def _end_with_chain(view: View, session: Session, now: int) -> list[Effect]:
    """The same where its chain was withdrawn; a session that was, before it was known, takes along the chain that it turns out to be of."""
    root, until = root_of(view, session.session), view.revoked_session(session.session)
    if until is not None and now < until and root != session.session:
        view.put_revoked_session(root, _later(until, view.revoked_session(root)))
    return _end_chain(view, session.user, root, now) if session_revoked(view, root, now) else []


def _end_chain(view: View, user: str, root: str, at: int) -> list[Effect]:
    ended = tuple(one.session for one in view.open_sessions_of(user) if root_of(view, one.session) == root)
    return [_end(ended, "token_revoked", at)] if ended else []


def _revoke(view: View, event: TokensRevoked) -> list[Effect]:
    until = FOR_EVER if event.until is None else event.until
    ended: list[str] = []
    effects: list[Effect] = []
    if event.user is not None:
        before = view.withdrawals(event.user) or Withdrawals()
        view.put_withdrawals(event.user, before.with_revoked(Revoked(before=event.before, until=until)))
        ended += [s.session for s in view.open_sessions_of(event.user) if s.issued_at is None or s.issued_at < event.before]
    if event.jti is not None:
        view.put_revoked_jti(event.jti, _later(until, view.revoked_jti(event.jti)))
        ended += [s.session for s in view.open_sessions() if any(one.jti == event.jti for one in s.lineage)]
    if event.session is not None:
        effects += _revoke_chain(view, event.session, event.at, until)
    return [*([_end(tuple(dict.fromkeys(ended)), "token_revoked", event.at)] if ended else []), *effects]


def _revoke_chain(view: View, session: str, at: int, until: int) -> list[Effect]:
    """Withdraw the chain of a session: on the row of its root, for good; one that is not known may be on its way, on a token of now."""
    known, root = view.session(session), root_of(view, session)
    first = view.session(root)
    if first is not None:
        view.put_session(_replace(first, revoked=True))
    else:
        view.put_revoked_session(root, _later(until, view.revoked_session(root)))
    return _end_chain(view, known.user, root, at) if known is not None else []


def _later(until: int, known: int | None) -> int:
    return until if known is None else max(until, known)


def _suspend(view: View, event: UserSuspended) -> list[Effect]:
    before = view.withdrawals(event.user) or Withdrawals()
    until = FOR_EVER if event.until is None else event.until
    holds = event.at < until
    view.put_withdrawals(event.user, _replace(before, suspended_until=until if holds else None))
    ended = tuple(s.session for s in view.open_sessions_of(event.user)) if holds else ()
    return [_end(ended, "user_suspended", event.at)] if ended else []


def _end(sessions: tuple[str, ...], code: str, at: int) -> EndSessions:
    return EndSessions(sessions=sessions, reason="revoked", code=code, asked_at=at)
