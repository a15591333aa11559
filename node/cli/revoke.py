"""`tidegate revoke`: withdraws tokens, or a session."""

import time
from typing import Annotated

from node.auth.configured import token_life
from node.cli.flags import Command, Takes
from node.cli.moments import TIME, Moment, written
from node.cli.withdrawing import BY, ID, USER, withdraw
from node.config import ConfigurationError, Settings
from node.config_values import quoted
from node.core.events import TokensRevoked
from node.core.forgetting import with_until
from node.flow.ids import id_maker


def revoke(
    settings: Settings,
    user: Annotated[
        str | None, Takes(meaning="all tokens of this user that were issued before the moment", shown="USER", kind=USER)
    ] = None,
    jti: Annotated[
        str | None, Takes(meaning="the token with this `jti`, and sessions that ever had it", shown="JTI", kind=ID)
    ] = None,
    session: Annotated[
        str | None, Takes(meaning="this session, which cannot be resumed either", shown="SESSION", kind=ID)
    ] = None,
    before: Annotated[
        Moment | None, Takes(meaning=f"with --user, the moment: {TIME.takes} (default: now)", shown="TIME", kind=TIME)
    ] = None,
) -> int:
    """Withdraw tokens or a session, for good: by user, by token or by session.

    It is appended to the log: nodes that run end the sessions that are touched within a second, the others know when they start.
    A token without `iat` counts as issued before any moment, one of a whole second as issued at its start. Where
    TIDEGATE_JWT_MAX_TTL_SECONDS is set, which has to be what the nodes have, it is forgotten when no token that it touches can be left.
    """
    given = [flag for flag, value in (("--user", user), ("--jti", jti), ("--session", session)) if value is not None]
    problems = []
    if len(given) != 1:
        problems.append(f"`tidegate revoke`: takes one of --user, --jti and --session, got {' and '.join(given) or 'none'}")
    if before is not None and user is None:
        problems.append("--before: takes a time with --user, got one without")
    if problems:
        raise ConfigurationError(problems)
    at = time.time_ns() // 1_000_000
    moment = before.ms if before is not None else at
    event = TokensRevoked(id=id_maker()(), at=at, by=BY, before=moment, user=user, jti=jti, session=session)
    event = with_until(event, token_life(settings), None)
    if user is not None:
        done = f"the tokens of {quoted(user)} that were issued before {written(moment)}"
    elif jti is not None:
        done = f"the token {quoted(jti)}, and every session that ever had it"
    else:
        done = f"the session {quoted(session or '')}"
    return withdraw(settings, event, f"withdrawn: {done}")


COMMAND = Command(run=revoke, settings=("log", "data", "jwt_max_ttl_seconds", "jwt_leeway_seconds"))
