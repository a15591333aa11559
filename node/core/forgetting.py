"""Until when a withdrawal has a say: longer than any token that it touches can be valid."""

import msgspec

from node.core.events import TokensRevoked
from node.core.view import FOR_EVER, View


class TokenLife(msgspec.Struct, frozen=True, kw_only=True):
    """How long this cluster lets a token live. In ms."""

    max_ttl_ms: int  # from its `iat`, which it has to have then; 0: for ever
    leeway_ms: int  # that its `iat` may lie ahead of our clock


def with_until(event: TokensRevoked, life: TokenLife, view: View | None) -> TokensRevoked:
    """The withdrawal with its `until`; None where it touches tokens whose end nobody knows.

    A user's tokens were issued before `before`, those with one `jti` and those of one session before now. Without a cap a `jti` ends with
    the token that an open session of `view` brought under it: an id is one token's (RFC 7519, section 4.1.7).
    """
    until: int | None = None
    if life.max_ttl_ms:
        until = (event.before if event.user is not None else event.at) + life.max_ttl_ms + life.leeway_ms
    elif event.jti is not None and view is not None:
        lineages = (token for session in view.open_sessions() for token in session.lineage)
        until = max((token.expires_at + life.leeway_ms for token in lineages if token.jti == event.jti), default=None)
    return msgspec.structs.replace(event, until=until if until is not None and until < FOR_EVER else None)
