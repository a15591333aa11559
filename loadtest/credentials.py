"""What a user of a load test signs in with."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from loadtest.clock import monotonic, wall_ms
from loadtest.tokens import Token

WITHDRAWN_MS = 1_000  # that the cluster has to end the sessions of withdrawn tokens


class _Withdrawal(msgspec.Struct):
    """Of the token that one had when it was asked for (monotonic). `ends_at`: of all right, in ms; 0 until the cluster has answered."""

    token: Token | None
    asked: float
    ends_at: int = 0


class Credentials:
    """The last token that was brought and where fresh ones come from; the session and the ticket to come back with.

    A token that is being withdrawn is brought once more (`stale`) by who is put out: it has to be refused. Until one has signed in with a
    fresh one behind that, to be told that it is withdrawn is what was to happen.
    """

    __slots__ = ("_resumes", "_session", "_ticket", "_tokens", "_withdrawal", "renews", "stale", "token")

    def __init__(self, tokens: Callable[[bool], Token], *, renews: bool, resumes: bool) -> None:
        """`tokens(renewal)` gives a fresh one, or raises `TokenUnavailable`. Without `resumes` each connection is the first."""
        self._tokens, self.renews, self._resumes = tokens, renews, resumes
        self._session = self._ticket = ""
        self._withdrawal: _Withdrawal | None = None
        self.token: Token | None = None  # the last that was brought
        self.stale = False  # it is to be brought again, whatever has become of it

    # To sign in

    @property
    def query(self) -> Mapping[str, str]:
        """For the transport of the next connection."""
        return {"ticket": self._ticket} if self._ticket and self._resumes else {}

    @property
    def resuming(self) -> bool:
        """Whether the next CONNECT asks for what was missed since the last session, or this one's has."""
        return bool(self._session) and self._resumes

    def auth(self, cursors: Mapping[str, int]) -> dict[str, Any]:
        """For CONNECT; `cursors`: the last `seq` that was seen, by room. Raises `TokenUnavailable`."""
        token = self.token if self.stale and self.token is not None else self.fetch()
        auth: dict[str, Any] = {"token": token.text}
        if self.resuming:
            auth["resume"] = {"session": self._session, "cursors": cursors}
        return auth

    def fetch(self) -> Token:
        """A fresh token, which is the last from now on. Raises `TokenUnavailable`."""
        self.token = self._tokens(False)
        if self._withdrawal is not None and self._withdrawal.ends_at:
            self._withdrawal = None
        return self.token

    def renewal(self) -> Token:
        """A token to renew an open session with: the last as soon as the node has taken it (`token`). Raises `TokenUnavailable`."""
        return self._tokens(True)

    def welcomed(self, session: str, ticket: str) -> None:
        """A session has begun."""
        self._session, self._ticket = session, ticket

    @property
    def ends_at(self) -> int:
        """When (ms) the right to a session with the last token ends: with the token, or with its withdrawal. There has to be one."""
        assert self.token is not None
        withdrawal = self._withdrawal
        if withdrawal is None or withdrawal.token is not self.token or not withdrawal.ends_at:
            return self.token.ends_at
        return min(self.token.ends_at, withdrawal.ends_at)

    # To be withdrawn

    def being_withdrawn(self) -> int:
        """The last token is being withdrawn. Returns the moment (ms) before which it was issued, by its own word where it gives one."""
        self._withdrawal = _Withdrawal(self.token, monotonic())
        return wall_ms() if self.token is None or self.token.issued_at is None else self.token.issued_at + 1

    def withdrawn(self) -> None:
        """It has been."""
        if self._withdrawal is not None:
            self._withdrawal.ends_at = wall_ms() + WITHDRAWN_MS

    @property
    def withdrawing_since(self) -> float | None:
        """When (monotonic) the withdrawal was asked for that is under way; None: none is."""
        return None if self._withdrawal is None else self._withdrawal.asked

    def ended(self, code: str, *, session: bool) -> bool:
        """A try, or a session, has ended by this code; returns whether it was to: by a withdrawal that is under way."""
        withdrawn = self._withdrawal is not None and code == "token_revoked"
        self.stale = withdrawn and session
        return withdrawn
