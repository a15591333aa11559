"""Who acts: what the rest of the node knows of a verified token."""

import msgspec


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """A verified token's bearer. Times are milliseconds since the Unix epoch."""

    user: str
    expires_at: int
    issued_at: int | None = None
    jti: str | None = None
    scopes: frozenset[str] | None = None  # None: the token has no `scope` claim

    def allows(self, scope: str) -> bool:
        """Whether the token carries `scope`; a token without a `scope` claim carries `chat` and nothing else."""
        return scope == "chat" if self.scopes is None else scope in self.scopes
