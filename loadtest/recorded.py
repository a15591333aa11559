"""The sessions of a real log, as `tidegate sessions --json` prints them, and whom they make in a storm. Pure but for the reading.

A person is a chain of sessions of which each resumes the one before: one page of one user, over its connections. Nobody's name is kept.
"""

import math
from collections.abc import Iterable
from pathlib import Path

import msgspec

MOST_PEOPLE = 100_000
NAMESPACE = "/"
_SERVER_ENDS_S = 0.5  # that the cluster gets to end a session by itself, before its person goes for good


class Unreadable(Exception):
    """The file is no list of sessions; one line."""


class _Token(msgspec.Struct):
    expires_at: int


class _Session(msgspec.Struct):
    """What is looked at of a line."""

    session: str
    node: str
    namespace: str
    opened_at: int
    expires_at: int
    root: str = ""
    lineage: list[_Token] = []
    renewals: int = 0
    closed_at: int | None = None
    reason: str | None = None


class Stay(msgspec.Struct, frozen=True, kw_only=True):
    """One connection, in seconds from the start. `closes_s` None: as long as it can be had."""

    opens_s: float
    closes_s: float | None
    ended_by_cluster: bool  # at the end of its token, by a drain or a node's loss: not by its own person
    first_token_s: float  # when the token that it opened with ends
    last_token_s: float  # and the last that took its place
    renews: bool


class Away(msgspec.Struct, frozen=True, kw_only=True):
    """From when to when somebody has no connection, in seconds from the start of the log: from the first on where `begins_s` is -inf,
    for good where `ends_s` is None.
    """

    begins_s: float
    ends_s: float | None
    said: bool  # the connection was closed, not lost


class Someone(msgspec.Struct, frozen=True, kw_only=True):
    """A person: at which node they were first (a number), and their stays in order."""

    node: int
    stays: tuple[Stay, ...]

    def at(self, now_s: float) -> Stay:
        """The stay that is under way, or the first."""
        return next((stay for stay in reversed(self.stays) if stay.opens_s <= now_s + _SERVER_ENDS_S), self.stays[0])

    def absences(self) -> list[Away]:
        """Before the stays, between and behind them."""
        found, since, said = [], -math.inf, True
        for stay in self.stays:
            if stay.opens_s > since:
                found.append(Away(begins_s=since, ends_s=stay.opens_s, said=said))
            if stay.closes_s is None:
                return found
            since = stay.closes_s + (_SERVER_ENDS_S if stay.ended_by_cluster else 0.0)
            said = not stay.ended_by_cluster
        return [*found, Away(begins_s=since, ends_s=None, said=said)]


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """All of them."""

    people: tuple[Someone, ...]
    lasted_s: float


def read_sessions(path: Path, *, speed: float) -> Recorded:
    """The people of a file with one session a line; `speed` 2 has everything in half the time. Raises `Unreadable`."""
    try:
        sessions = msgspec.json.Decoder(_Session).decode_lines(path.read_bytes())
    except OSError as error:
        raise Unreadable(f"a file that can be read, got {str(path)!r}: {error.strerror}") from None
    except msgspec.MsgspecError as error:
        raise Unreadable(f"sessions, one JSON object a line, got {str(path)!r}: {error}") from None
    chat = [session for session in sessions if session.namespace == NAMESPACE]
    if not chat:
        raise Unreadable(f"a file with sessions of the namespace {NAMESPACE}, got none in {str(path)!r}")
    return recorded(chat, speed=speed)


def recorded(sessions: Iterable[_Session], *, speed: float) -> Recorded:
    """The people of these sessions."""
    all_of = sorted(sessions, key=lambda session: session.opened_at)
    begins, nodes = all_of[0].opened_at, sorted({session.node for session in all_of})

    def at(ms: int) -> float:
        return (ms - begins) / 1000 / speed

    chains: dict[str, list[_Session]] = {}
    for session in all_of:
        chains.setdefault(session.root or session.session, []).append(session)
    people = tuple(
        Someone(
            node=nodes.index(chain[0].node),
            stays=tuple(
                Stay(
                    opens_s=at(one.opened_at),
                    closes_s=None if one.closed_at is None else at(one.closed_at),
                    ended_by_cluster=one.reason not in (None, "client", "transport", "timeout"),
                    first_token_s=at(one.lineage[0].expires_at if one.lineage else one.expires_at),
                    last_token_s=at(one.expires_at),
                    renews=one.renewals > 0,
                )
                for one in chain
            ),
        )
        for chain in list(chains.values())[:MOST_PEOPLE]
    )
    moments = [moment for someone in people for stay in someone.stays for moment in (stay.opens_s, stay.closes_s or stay.opens_s)]
    return Recorded(people=people, lasted_s=max(moments))
