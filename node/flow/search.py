"""What is asked of the search index."""

import sqlite3
from collections.abc import Iterable

_SEQ_MASK = (1 << 32) - 1
_NEWEST = "SELECT rowid FROM search WHERE search MATCH ? AND rowid BETWEEN ? AND ? ORDER BY rowid DESC LIMIT ?"


def matching(text: str) -> str:
    """An FTS5 query for all words of `text`, none of them read as an operator; the last one as a beginning."""
    words = ["".join(char for char in word if char not in '"\0') for word in text.split()[:64]]
    quoted = [f'"{word}"' for word in words if any(char.isalnum() for char in word)]
    return " ".join(quoted) + "*" if quoted else ""


def newest(connection: sqlite3.Connection, query: str, rooms: Iterable[int], limit: int) -> list[int]:
    """The ids of the newest `limit` messages of each room that match; `rooms` are the ids before the rooms' first."""
    return [row[0] for low in rooms for row in connection.execute(_NEWEST, (query, low, low | _SEQ_MASK, limit))]
