"""Judging a CONNECT: from the packet's payload and the HTTP request to a principal and a resume, or a denial. Pure but for its inputs."""

from typing import Any

import msgspec

from node.auth.denied import Denied
from node.auth.keys import KeyRing
from node.auth.sources import find_token
from node.auth.tokens import Policy, verify
from node.core.identity import Principal
from node.core.view import View

SCOPES = {"/": "chat", "/admin": "admin"}


class Resume(msgspec.Struct, frozen=True, kw_only=True):
    """What a returning client says: the session it had, and for each room the last `seq` it has."""

    session: str = ""
    cursors: dict[str, int] = {}


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """A judged handshake."""

    principal: Principal
    source: str
    resume: Resume | None


class Judge:
    """Holds a handshake to the configuration, the keys and what has been withdrawn."""

    MOST_CURSORS = 10_000  # rooms one client may resume: a bound on what one packet can make us read

    def __init__(self, *, keys: KeyRing, policy: Policy, sources: tuple[str, ...], view: View) -> None:
        self._keys, self._policy, self._sources, self._view = keys, policy, sources, view

    def connect(self, namespace: str, auth: Any, environ: dict[str, Any], *, now: int) -> Accepted | Denied:
        """Judge a CONNECT to `namespace` at `now` (ms)."""
        found = find_token(auth, environ, self._sources)
        if isinstance(found, Denied):
            return found
        token, source = found
        principal = self.token(token, scope=SCOPES[namespace], now=now)
        if isinstance(principal, Denied):
            return principal
        resume = self._resume(auth)
        if isinstance(resume, Resume) and self._view.revoked_session(resume.session):
            return Denied("token_revoked", "this session has been withdrawn")
        return resume if isinstance(resume, Denied) else Accepted(principal=principal, source=source, resume=resume)

    def token(self, token: str, *, scope: str, now: int) -> Principal | Denied:
        """Judge a bare token that is to do what `scope` allows."""
        principal = verify(token, self._keys, self._policy, now=now)
        if isinstance(principal, Denied):
            return principal
        withdrawn = self._withdrawn(principal, now)
        if withdrawn is not None:
            return withdrawn
        if not principal.allows(scope):
            return Denied("scope_missing", f"the token does not have the scope {scope}")
        return principal

    def refresh(self, token: Any, current: Principal, *, scope: str, now: int) -> Principal | Denied:
        """Judge the token that is to take the place of an open session's."""
        if not isinstance(token, str) or not token:
            return Denied("token_missing" if token in (None, "") else "token_malformed", "a refresh takes a token")
        principal = self.token(token, scope=scope, now=now)
        if isinstance(principal, Principal) and principal.user != current.user:
            return Denied("subject_mismatch", "a session keeps its subject")
        return principal

    def _withdrawn(self, principal: Principal, now: int) -> Denied | None:
        withdrawals = self._view.withdrawals(principal.user)
        if withdrawals is not None:
            code = withdrawals.code(principal.issued_at, now)
            if code is not None:
                what = "this user is suspended" if code == "user_suspended" else "this token has been withdrawn"
                return Denied(code, what)
        if principal.jti is not None and self._view.revoked_jti(principal.jti):
            return Denied("token_revoked", "this token has been withdrawn")
        return None

    def _resume(self, auth: Any) -> Resume | None | Denied:
        asked = auth.get("resume") if isinstance(auth, dict) else None
        if asked is None:
            return None
        try:
            resume = msgspec.convert(asked, Resume)
        except msgspec.ValidationError:
            return Denied("bad_request", "resume takes {session, cursors: {room: seq}}")
        if len(resume.cursors) > self.MOST_CURSORS or any(seq < 0 for seq in resume.cursors.values()):
            return Denied("bad_request", f"resume takes up to {self.MOST_CURSORS} cursors, each a seq")
        return resume
