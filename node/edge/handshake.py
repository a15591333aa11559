"""Judging a CONNECT: from the packet's payload and the HTTP request to a principal and a resume, or a denial."""

from collections.abc import Callable
from typing import Any

import msgspec

from node.auth.denied import Denied
from node.auth.sources import find_token
from node.auth.verifier import Verifier
from node.core.identity import Principal
from node.core.view import View, jti_revoked, session_revoked

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
    """Holds a handshake to the configuration, the keys and what has been withdrawn.

    Its methods wait only for a token whose key is not held (see `Verifier.verify`): what they return holds for the moment of return.
    """

    MOST_CURSORS = 10_000  # rooms one client may resume: a bound on what one packet can make us read

    def __init__(
        self,
        *,
        verifier: Verifier,
        sources: tuple[str, ...],
        view: View,
        clock: Callable[[], int],
        own_page: Callable[[dict[str, Any]], bool],
    ) -> None:
        self._verifier, self._sources, self._view, self._clock = verifier, sources, view, clock
        self._own_page = own_page  # whether a request comes from a page that may use our cookies

    async def connect(self, namespace: str, auth: Any, environ: dict[str, Any]) -> Accepted | Denied:
        """Judge a CONNECT to `namespace`."""
        found = find_token(auth, environ, self._sources, cookies=self._own_page(environ))
        if isinstance(found, Denied):
            return found
        token, source = found
        principal = await self.token(token, scope=SCOPES[namespace])
        if isinstance(principal, Denied):
            return principal
        resume = self._resume(auth)
        if isinstance(resume, Resume) and session_revoked(self._view, resume.session, self._clock()):
            return Denied("token_revoked", "this session has been withdrawn")
        return resume if isinstance(resume, Denied) else Accepted(principal=principal, source=source, resume=resume)

    async def request(self, environ: dict[str, Any]) -> Accepted | Denied:
        """Judge an HTTP request by itself, without what its packets may hold; for any scope."""
        sources = [source for source in self._sources if source != "auth"]
        found = find_token(None, environ, sources, cookies=self._own_page(environ))
        if isinstance(found, Denied):
            return found
        principal = await self.token(found[0], scope=None)
        return principal if isinstance(principal, Denied) else Accepted(principal=principal, source=found[1], resume=None)

    async def token(self, token: str, *, scope: str | None) -> Principal | Denied:
        """Judge a bare token that is to do what `scope` allows; None asks for nothing."""
        principal = await self._verifier.verify(token)
        if isinstance(principal, Denied):
            return principal
        withdrawn = self._withdrawn(principal, self._clock())
        if withdrawn is not None:
            self._verifier.forget(token)
            return withdrawn
        if scope is not None and not principal.allows(scope):
            return Denied("scope_missing", f"the token does not have the scope {scope}")
        return principal

    async def refresh(self, token: Any, current: Principal, *, scope: str) -> Principal | Denied:
        """Judge the token that is to take the place of an open session's."""
        if not isinstance(token, str) or not token:
            return Denied("token_missing" if token in (None, "") else "token_malformed", "a refresh takes a token")
        principal = await self.token(token, scope=scope)
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
        if jti_revoked(self._view, principal.jti, now):
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
