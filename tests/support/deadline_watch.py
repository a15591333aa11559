"""What must hold of a node whose sessions end: a small model of them, and what the node wrote held against it.

A session lives until its token's `exp`, or until it is withdrawn.
"""

import math
import re
from collections import defaultdict
from typing import Any

import msgspec

from node.core.events import MessagePosted, ReadMarked, SessionOpened, SessionRenewed, TokensRevoked
from tests.support.in_process import Kept, Line, SocketLine, World, Wrote
from tests.support.tokens import token as signed

LATEST_S = 0.25  # PROTOCOL section 5: what an end may take, where timers run
LEEWAY_MS = 5_000
OPERATOR = "boss"  # whose own token lasts
_PACKET = re.compile(r"4(\d)(?:(/\w+),?)?(\d*)(.*)", re.DOTALL)


class Token(msgspec.Struct, frozen=True):
    """What the model knows of a token."""

    user: str
    exp: int
    iat: int
    jti: str
    scope: str
    text: str


def exact(ms: int) -> int:
    """The first moment from `ms` on that a token's seconds have to the ms."""
    return next(one for one in range(ms, ms + 1_000) if math.floor(one / 1000 * 1000) == one)


class Session:
    """A session as it should be. `reached`: the clock has stood at its end or behind it, so that the node may have ended it."""

    def __init__(self, line: Line, namespace: str, token: Token, now: int) -> None:
        self.line, self.namespace = line, namespace
        self.prefix = "" if namespace == "/" else f"{namespace},"
        self.id = self.welcomed = ""  # by the log, and by what it was sent
        self.root = ""  # of the chain of resumes that it is in
        self.lineage: list[tuple[int, Token]] = []  # with the moment from which each was held
        self.offered: dict[int, Token] = {}  # by the id of the ack
        self.acks: dict[int, Any] = {}
        self.events: list[tuple[str, Any]] = []
        self.refused: str | None = None
        self.ended: str | None = None
        self.withdrawn = False
        self.due_since: float | None = None
        self.stands_on(token, now)

    @property
    def told_of_the_end(self) -> bool:
        return any(name in ("auth:expired", "auth:revoked") for name, _ in self.events)

    def renewed(self, token: Token, now: int) -> None:
        if token is not self.token:
            self.stands_on(token, now)

    def stands_on(self, token: Token, now: int) -> None:
        since = max([now, *(at for at, _ in self.lineage[-1:])])
        self.lineage = [(at, one) for at, one in self.lineage if one.exp > since] + [(since, token)]
        self.token, self.reached = token, now >= token.exp


class Watch:
    """The sessions of a `World` as they should be, and the judge of what it does."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.sessions: list[Session] = []
        self.on: dict[Line, dict[str, Session]] = {}  # the last one of each namespace
        self.asked: dict[tuple[str, str | int], list[Session]] = defaultdict(list)  # what may come into the log, and for whom
        self.seq = 0  # of the room
        self.minted: dict[str, list[Token]] = defaultdict(list)
        self.before: dict[str, int] = {}
        self.suspended: dict[str, int] = {}
        self.revoked: set[str] = set()  # tokens, by `jti`, and chains of resumes, by the first session's id
        self._read_to = 0  # in the journal

    # What is, and what is done to it

    def mint(self, user: str, exp: int, scope: str = "chat admin") -> Token:
        jti, iat, exp = f"t{len(self.minted[user])}-{user}", exact(max(self.world.now, self.before.get(user, 0))), exact(exp)
        token = Token(user, exp, iat, jti, scope, signed(user, iat=iat / 1000, exp=exp / 1000, jti=jti, scope=scope))
        self.minted[user].append(token)
        return token

    def fault(self, token: Token, namespace: str | None = None) -> str | None:
        """Why a token is not accepted now; in a namespace, where one is named."""
        now = self.world.now
        if now >= token.exp:
            return "token_expired"
        if now + LEEWAY_MS < token.iat:
            return "token_not_yet_valid"
        if now < self.suspended.get(token.user, 0):
            return "user_suspended"
        if token.iat < self.before.get(token.user, 0) or token.jti in self.revoked:
            return "token_revoked"
        scope = {"/": "chat", "/admin": "admin"}.get(namespace or "")
        return "scope_missing" if scope is not None and scope not in token.scope.split() else None

    def open(self, line: Line | None = None) -> list[Session]:
        """The open sessions; on one line, or all."""
        found = self.sessions if line is None else self.on.get(line, {}).values()
        return [one for one in found if one.ended is None]

    def guests(self) -> list[Session]:
        return [one for one in self.open() if one.token.user != OPERATOR]

    def alive(self, session: Session) -> bool:
        """Whether anything may be done for it now."""
        return session.ended is None and self.world.now < session.token.exp

    def sound(self, line: Line) -> bool:
        """Whether nothing on it is due to end, and the client reads: then each thing has one outcome."""
        reads = not isinstance(line, SocketLine) or line.reading.is_set()
        return reads and not line.over and all(self.alive(one) for one in self.open(line))

    def set_clock(self, now: int) -> None:
        self.world.now = now
        for one in self.open():
            one.reached = one.reached or now >= one.token.exp

    def withdraw(self, user: str) -> dict[str, Any]:
        """The fields of a `revoke` of all that was issued to a user until now; the model knows."""
        theirs = [one for one in self.open() if one.token.user == user]
        before = self.before[user] = max([self.before.get(user, 0), self.world.now, *(one.token.iat for one in theirs)]) + 1
        self.ends(theirs)
        return {"user": user, "before": before}

    def ends(self, sessions: list[Session]) -> None:
        for one in sessions:
            one.withdrawn = True

    # What the node does

    def look(self) -> None:
        self.set_clock(self.world.now)
        self.read_journal()
        self.compare()

    def read_journal(self) -> None:
        """Judge each packet by the clock at which the transport got it, and each event by the clock at which the log did."""
        journal = self.world.journal
        while self._read_to < len(journal):
            entry = journal[self._read_to]
            self._read_to += 1
            if isinstance(entry, Wrote):
                self.judge_packet(entry)
            else:
                self.judge_event(entry)

    def judge_packet(self, entry: Wrote) -> None:
        found = _PACKET.match(entry.packet)
        if found is None:
            return  # Engine.IO's own
        session = self.on.get(entry.line, {}).get(found[2] or "/")
        if session is None:
            assert found[1] == "0", f"written to nobody: {entry.packet}"
            return
        kind, data = found[1], msgspec.json.decode(found[4] or "{}")
        if kind == "2":
            final = self.take_event(session, *data)
        elif kind == "3":
            final = not self.take_ack(session, int(found[3]), data[0], entry.at)["ok"]
        else:
            final = kind != "0"
            session.refused = data["data"]["code"] if kind == "4" else session.refused
        past = entry.at - session.token.exp
        assert final or past < 0, f"written {past} ms past the end: {entry.packet[:60]}"

    def take_event(self, session: Session, name: str, payload: dict[str, Any]) -> bool:
        """Whether it may be sent past the end."""
        assert not session.told_of_the_end, f"{name} after the end"
        session.events.append((name, payload))
        if name == "welcome":
            session.welcomed = payload["session"]
        elif name == "unauthorized":
            session.refused = payload["data"]["code"]
        elif name == "auth:expired":
            assert any(one.reached for one in self.on[session.line].values()), "told of its end too early"
        return name in ("auth:expired", "auth:revoked", "unauthorized")

    def take_ack(self, session: Session, ack: int, answer: dict[str, Any], at: int) -> dict[str, Any]:
        assert not session.told_of_the_end, "an ack after the end"
        session.acks[ack] = answer
        if answer["ok"] and ack in session.offered:
            session.renewed(session.offered[ack], at)
        return answer

    def judge_event(self, entry: Kept) -> None:
        match entry.event:
            case SessionOpened(session=id):
                one = self.sessions[-1]
                assert one.id == "", "a session that nobody asked for"
                one.id, one.root = id, one.root or id
            case SessionRenewed(session=id, jti=jti):  # whose ack may never be sent
                one = next(one for one in self.sessions if one.id == id)
                one.renewed(next(token for token in one.offered.values() if token.jti == jti), entry.at)
            case MessagePosted(by=user, message=key) | ReadMarked(by=user, seq=key) | TokensRevoked(by=user, jti=str(key)):
                self.seq += isinstance(entry.event, MessagePosted)
                asked = self.asked[user, key] if user != OPERATOR else self.sessions[:1]
                assert any(one.ended is None and entry.at < one.token.exp for one in asked), "carried out for one that had ended"

    def compare(self) -> None:
        """The open sessions are the model's, but for those that the node may have ended by now; nothing is ended too late."""
        there = {one.id for one in self.world.gateway.roster.sessions}
        ended = [one for one in self.open() if one.id and one.id not in there]
        for one in ended:
            due = one.withdrawn or any(other.reached for other in self.open(one.line))
            assert due, f"ended {one.token.exp - self.world.now} ms before its end"
        for one in ended:
            one.ended = "withdrawn" if one.withdrawn else "expired"
        left = [other for one in ended if one.ended == "expired" for other in self.open(one.line) if other.id]
        assert not left, "a connection has outlived the first end on it"
        assert there == {one.id for one in self.open() if one.id}, "a session is there that has ended"
        for one in self.open():
            assert not one.withdrawn or not one.id, "withdrawn, and open"
            late = self.world.now >= one.token.exp
            one.due_since = (one.due_since if one.due_since is not None else self.world.loop.now) if late else None
            assert one.due_since is None or self.world.loop.now - one.due_since < LATEST_S, "not ended in time"
