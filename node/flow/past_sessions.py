"""The sessions that were open at a past moment: as the file has them, and what is on its way into it."""

import sqlite3
from collections.abc import Mapping

import msgspec

from node.core.view import Session, Token
from node.flow import store_sql
from node.flow.store_sql import Batch

_TOKENS = "SELECT number, value FROM tokens WHERE session = ? AND since <= ?"
_sessions = msgspec.json.Decoder(Session)
_tokens = msgspec.json.Decoder(Token)


class Unwritten(msgspec.Struct, frozen=True):
    """Sessions, and tokens by session and number, as the tables are about to have them."""

    sessions: Mapping[str, tuple[int, int | None, bytes]]
    tokens: Mapping[str, Mapping[int, tuple[int, bytes]]]


def unwritten(*batches: Batch) -> Unwritten:
    """What these batches, the oldest first, have of sessions; a copy, for another thread."""
    sessions: dict[str, tuple[int, int | None, bytes]] = {}
    tokens: dict[str, dict[int, tuple[int, bytes]]] = {}
    for batch in batches:
        sessions |= batch.sessions
        for (session, number), token in batch.tokens.items():
            tokens.setdefault(session, {})[number] = token
    return Unwritten(sessions, tokens)


def sessions_at(connection: sqlite3.Connection, at: int, new: Unwritten) -> list[Session]:
    """The sessions that were open at `at` (ms), oldest first, each on the token that it had then."""
    found = [session for session in store_sql.sessions_at(connection, at) if session.session not in new.sessions]
    for name, (opened_at, closed_at, value) in new.sessions.items():
        if opened_at > at or (closed_at is not None and closed_at <= at):
            continue
        then = {number: _tokens.decode(token) for number, token in connection.execute(_TOKENS, (name, at))}
        then |= {number: _tokens.decode(token) for number, (since, token) in new.tokens.get(name, {}).items() if since <= at}
        if then and then[max(then)].expires_at > at:
            found.append(_sessions.decode(value).standing_on([then[number] for number in sorted(then)], renewals=max(then)))
    return sorted(found, key=lambda session: (session.opened_at, session.session))
