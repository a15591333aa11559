"""No path around a deadline: connects, renewals, withdrawals, set clocks and late timers, in any order, against a whole node.

The clock moves between any two turns of the event loop, also in the middle of what the node does; timers are late as long as the
loop's own time stands still, which is always but in `time_passes`. What must hold is in `Watch`: no packet is handed to a transport,
and no event to the log, for a session that has ended by the clock of that moment.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from node.core.limits import Limits
from tests.support.deadline_watch import OPERATOR, Session, Token, Watch
from tests.support.in_process import Line, PollingLine, SocketLine, World, free_node

START = 1_800_000_000_000
FAR = START + 10**10  # later than any clock here
LIMITS = Limits(commands_per_second=1e6, commands_burst=1_000_000, outbox_bytes=1_500)
MOST_LINES = 6
MOST_RENEWALS = 10  # of one session without a pause
ROOM = "hall"
USERS = ("ann", "bob")

picks = st.integers(0, 20)
lives = st.sampled_from([250, 1_000, 3_000, 20_000, 600_000, 7_200_000])
spans = st.sampled_from([1, 40, 124, 125, 249, 1_000, 2_999, 20_000, 600_000, 7_200_000])
# What comes in the middle, after so many turns of the loop: the clock is set to so many ms behind an end, or the user is withdrawn;
# "first": the operator's wish is so many turns ahead.
Meanwhile = tuple[int, int | Literal["revoke", "revoke first", "revoking"]]
turns = st.sampled_from([*[0] * 8, *range(1, 17)])
meanwhiles = st.none() | st.tuples(turns, st.sampled_from([-1, -1, 0, 0, 1, 1, 5_000, "revoke", "revoke first"]))


class Paths(Watch, RuleBasedStateMachine):
    """One node, two users on any number of lines, and an operator whose own token lasts."""

    def __init__(self) -> None:
        RuleBasedStateMachine.__init__(self)
        self.folder = TemporaryDirectory()
        Watch.__init__(self, World(Path(self.folder.name), START, free_node(limits=LIMITS, two_step_seconds=5.0)))
        self.count = 0  # of commands

    @initialize(there=st.lists(st.tuples(st.sampled_from(USERS), st.booleans(), lives), min_size=1, max_size=3))
    def furnish(self, there: list[tuple[str, bool, int]]) -> None:
        """A room with everyone in it, and some who are there already."""
        line = SocketLine(self.world)
        self.boss = self.begin(line, "/", self.mint(OPERATOR, FAR))
        self.operator = self.begin(line, "/admin", self.mint(OPERATOR, FAR))
        assert self.ask(self.boss, "room:create", room=ROOM)["ok"]
        for user in USERS:
            guest = self.begin(SocketLine(self.world), "/", self.mint(user, START + 1_000))
            self.seq = self.ask(guest, "room:join", room=ROOM)["seq"]
            self.leave(guest, hang_up=True)
        for user, socket, life in there:
            self.begin(self.line(socket), "/", self.mint(user, START + life))

    def teardown(self) -> None:
        self.world.close()
        self.folder.cleanup()
        assert self.world.faults == []

    # What is done to the node

    def run(self, meanwhile: Meanwhile | None = None, session: Session | None = None) -> None:
        """Let the node do all that can be done without time, and hold it to the model."""
        if meanwhile is not None and session is not None:
            self.turn(meanwhile[0])
            if meanwhile[1] == "revoke":
                self.put(self.operator, "revoke", self.withdraw(session.token.user))
            elif isinstance(meanwhile[1], int):
                self.set_clock(max(self.world.now, session.token.exp + meanwhile[1]))
        self.world.loop.settle()
        self.look()

    def turn(self, turns: int) -> None:
        for _ in range(turns):
            self.world.loop.turn()

    def beforehand(self, meanwhile: Meanwhile | None, token: Token) -> Meanwhile | None:
        """What comes first. A clock that is set before any turn is just set: then each thing has one outcome again."""
        if meanwhile is None:
            return None
        turns, what = meanwhile
        if what == "revoke first":
            self.put(self.operator, "revoke", self.withdraw(token.user))
            self.turn(turns)
            return 0, "revoking"
        if turns == 0 and isinstance(what, int):
            self.set_clock(max(self.world.now, token.exp + what))
            return None
        return meanwhile

    def line(self, socket: bool) -> Line:
        return SocketLine(self.world) if socket else PollingLine(self.world)

    def begin(
        self,
        line: Line,
        namespace: str,
        token: Token,
        *,
        meanwhile: Meanwhile | None = None,
        two_step: bool = False,
        resume: Session | None = None,
    ) -> Session:
        """Connect to a namespace: accepted or refused as the model has it."""
        session = Session(line, namespace, token, self.world.now)
        if two_step:
            line.put(f"40{session.prefix}")
        self.hear(line)  # also what is left from a session before
        self.run()
        self.on.setdefault(line, {})[namespace] = session
        self.sessions.append(session)
        auth: dict[str, Any] = {"token": token.text}
        if resume is not None:  # with so many rooms that the node pauses between them
            session.root = resume.root
            auth["resume"] = {"session": resume.id, "cursors": {f"r{number}": 0 for number in range(150)} | {ROOM: 0}}
        told = msgspec.json.encode(auth).decode()
        meanwhile = self.beforehand(meanwhile, token)
        line.put(f'42{session.prefix}["authenticate",{told}]' if two_step else f"40{session.prefix}{told}")
        fault = self.fault(token, namespace)
        if fault is None and session.root in self.revoked:
            fault = "token_revoked"
        sound = self.sound(line)
        self.hear(line)
        self.run(meanwhile, session)
        if meanwhile is None and sound:
            assert (session.welcomed or None) == (None if fault else session.id), f"{fault}: {session.refused}"
            assert session.refused == fault or line.over
        if not session.id:
            session.ended = "never began"
            if not self.open(line):
                line.hang_up()
                self.run()
        return session

    def put(self, session: Session, name: str, fields: dict[str, Any]) -> int:
        """Send a command; returns the id of its ack."""
        self.count += 1
        session.line.put(f"42{session.prefix}{self.count}" + msgspec.json.encode([name, fields]).decode())
        return self.count

    def hear(self, line: Line) -> None:
        """Have a poll wait on a long-polling line."""
        if isinstance(line, PollingLine) and not line.waiting and not line.over:
            line.poll()

    def ask(
        self, session: Session, name: str, /, *, meanwhile: Meanwhile | None = None, of: Session | None = None, **fields: Any
    ) -> Any:
        """Give a command; its ack, if it came. What comes meanwhile is `of` another session."""
        ack = self.put(session, name, fields)
        return self.answer(session, ack, meanwhile, of)

    def answer(self, session: Session, ack: int, meanwhile: Meanwhile | None = None, of: Session | None = None) -> Any:
        self.hear(session.line)
        self.run(meanwhile, of or session)
        if ack not in session.acks:  # the poll brought what had waited
            self.hear(session.line)
            self.run()
        return session.acks.get(ack)

    def leave(self, session: Session, *, hang_up: bool) -> None:
        line = session.line
        if hang_up or len(self.open(line)) == 1 or not self.sound(line):
            for one in self.open(line):
                one.ended = "left"
            line.hang_up()
        else:
            session.ended = "left"
            line.put(f"41{session.prefix}")
        self.run()

    # Rules

    @precondition(lambda self: len({one.line for one in self.open()}) <= MOST_LINES)
    @rule(
        user=st.sampled_from(USERS),
        life=lives,
        how=st.sets(st.sampled_from(["socket", "admin", "resume", "two steps"])),
        fresh=st.sampled_from([True, True, True, False]),
        meanwhile=meanwhiles,
    )
    def connect(self, user: str, life: int, how: set[str], fresh: bool, meanwhile: Meanwhile | None) -> None:
        """A session begins on a new line, on a fresh token or on any that there was."""
        gone = [one for one in self.sessions if one.ended and one.id and one.token.user == user]
        resume = gone[-1] if "resume" in how and gone else None
        token = self.mint(user, self.world.now + life) if fresh else self.minted[user][life % len(self.minted[user])]
        line, namespace = self.line("socket" in how), "/admin" if "admin" in how else "/"
        self.begin(line, namespace, token, meanwhile=meanwhile, two_step="two steps" in how, resume=resume)

    @precondition(lambda self: self.guests())
    @rule(pick=picks, life=lives, meanwhile=meanwhiles)
    def connect_besides(self, pick: int, life: int, meanwhile: Meanwhile | None) -> None:
        """A connection enters its other namespace, on another token."""
        one = self.picked(pick)
        if len(self.open(one.line)) == 1 and self.sound(one.line):
            token = self.mint(one.token.user, self.world.now + life)
            self.begin(one.line, "/admin" if one.namespace == "/" else "/", token, meanwhile=meanwhile)

    def picked(self, pick: int) -> Session:
        guests = self.guests()
        return guests[pick % len(guests)]

    @precondition(lambda self: self.guests())
    @rule(
        pick=picks,
        kind=st.sampled_from(["good", "good", "good", "good", "old", "late", "other", "narrow", "revoked"]),
        life=lives,
        meanwhile=meanwhiles,
    )
    def renew(self, pick: int, kind: str, life: int, meanwhile: Meanwhile | None) -> None:
        """A good token moves the end; another one changes nothing."""
        one = self.picked(pick)
        if (self.alive(one) and not self.sound(one.line)) or len(one.offered) == MOST_RENEWALS:
            return
        token = self.offer(one, kind, life)
        meanwhile = self.beforehand(meanwhile, one.token)
        code = self.fault(token, one.namespace)
        if code is None and token.user != one.token.user:
            code = "subject_mismatch"
        alive, before = self.alive(one), self.promised(one)
        ack = self.put(one, "auth:refresh", {"token": token.text})
        one.offered[ack] = token
        answer = self.answer(one, ack, meanwhile)
        if not alive:
            assert answer is None or not answer["ok"]
        elif meanwhile is None and self.sound(one.line):
            assert answer["ok"] == (code is None)
            assert answer["ok"] or answer["error"]["code"] == code
            assert answer["ok"] or self.promised(one) == before
            assert not answer["ok"] or answer["expires_at"] == token.exp

    def offer(self, session: Session, kind: str, life: int) -> Token:
        now, user = self.world.now, session.token.user
        match kind:
            case "old":
                return self.minted[user][life % len(self.minted[user])]
            case "late":
                return self.mint(user, now - 1_000)
            case "other":
                return self.mint(USERS[user == USERS[0]], now + life)
            case "narrow":
                return self.mint(user, now + life, "none")
            case "revoked":
                token = self.mint(user, now + life)
                self.revoked.add(token.jti)
                assert self.ask(self.operator, "revoke", jti=token.jti)["ok"]
                return token
            case _:
                return self.mint(user, now + life)

    def promised(self, session: Session) -> list[tuple[int, int]]:
        return [(one.principal.expires_at, one.refresh_at) for one in self.world.gateway.sessions if one.id == session.id]

    @precondition(lambda self: self.guests())
    @rule(pick=picks, name=st.sampled_from(["message:send", "read", "typing", "history"]), meanwhile=meanwhiles)
    def command(self, pick: int, name: str, meanwhile: Meanwhile | None) -> None:
        """Carried out and acked for who is alive; nothing at all for who is not."""
        one = self.picked(pick)
        meanwhile = self.beforehand(meanwhile, one.token)
        sound, alive, user, heard = self.sound(one.line), self.alive(one), one.token.user, len(self.boss.events)
        key: str | int = f"m{self.count}"
        fields: dict[str, Any] = {"room": ROOM}
        if one.namespace == "/admin":
            name, fields = "revoke", {"jti": key}
        elif name == "message:send":
            fields |= {"text": "x" * 1_200, "id": key}
        elif name == "read":
            fields["seq"] = key = self.seq - pick % self.seq
        elif name == "typing":
            fields["on"] = True
        else:
            fields["limit"] = 3
        self.asked[user, key].append(one)
        answer = self.ask(one, name, meanwhile=meanwhile, **fields)
        if not alive:
            assert answer is None or not answer["ok"]
            assert "typing" not in [name for name, _ in self.boss.events[heard:]]
        elif sound and meanwhile is None:
            assert answer["ok"]
            assert name != "typing" or ("typing", {"room": ROOM, "user": user, "on": True}) in self.boss.events[heard:]

    @rule(pick=picks, meanwhile=meanwhiles)
    def speak(self, pick: int, meanwhile: Meanwhile | None) -> None:
        """Another user's message comes to who is alive and listens."""
        of = self.picked(pick) if self.guests() else self.boss
        meanwhile = self.beforehand(meanwhile, of.token) if of is not self.boss else None
        hearers = [one for one in self.guests() if one.namespace == "/" and self.sound(one.line)]
        hearers = [one for one in hearers if not isinstance(one.line, PollingLine) or one.line.waiting]
        key = f"m{self.count}"
        answer = self.ask(self.boss, "message:send", room=ROOM, text="y" * 1_200, id=key, meanwhile=meanwhile, of=of)
        assert answer["ok"]
        for one in hearers:
            if self.sound(one.line) and one.ended is None:
                assert [payload["id"] for name, payload in one.events if name == "message"].count(key) == 1

    @precondition(lambda self: self.guests())
    @rule(pick=picks, by=st.sampled_from(["user", "jti", "session", "suspend"]), span=spans)
    def withdraw_access(self, pick: int, by: str, span: int) -> None:
        """All that it meets ends, whatever the clock says."""
        one, name = self.picked(pick), "revoke"
        fields: dict[str, Any]
        match by:
            case "user":
                fields = self.withdraw(one.token.user)
            case "jti":
                jti = one.lineage[pick % len(one.lineage)][1].jti
                self.ends([other for other in self.open() if jti in [token.jti for _, token in other.lineage]])
                self.revoked.add(jti)
                fields = {"jti": jti}
            case "session":
                self.ends([other for other in self.open() if other.root == one.root])
                self.revoked.add(one.root)
                fields = {"session": one.id}
            case _:
                name, until = "suspend", self.world.now + span
                self.ends([other for other in self.open() if other.token.user == one.token.user])
                self.suspended[one.token.user] = until
                fields = {"user": one.token.user, "until": until}
        told = self.sound(one.line) and isinstance(one.line, SocketLine)
        assert self.ask(self.operator, name, **fields)["ok"]
        assert one.ended
        assert not told or ("auth:revoked" in [name for name, _ in one.events] and (one.line.over or self.open(one.line)))

    @precondition(lambda self: any(isinstance(one.line, PollingLine) for one in self.guests()))
    @rule(pick=picks, kind=st.sampled_from(["none", "good", "old", "late", "other"]), life=lives, post=st.booleans())
    def request(self, pick: int, kind: str, life: int, post: bool) -> None:
        """A request of a long-polling session, with or without a token of its own: each is judged, and a bad one ends the session."""
        polling = [one for one in self.guests() if isinstance(one.line, PollingLine)]
        one = polling[pick % len(polling)]
        line = one.line
        assert isinstance(line, PollingLine)
        if line.waiting and not post:
            return
        token = self.offer(one, kind, life) if kind != "none" else None
        code = None if token is None else self.fault(token)
        if code is None and token is not None and token.user != one.token.user:
            code = "subject_mismatch"
        if not self.sound(line):
            code = "token_expired"
        if code is not None:
            self.ends(self.open(line))
        text = token.text if token is not None else None
        if post:
            line.put("3", token=text)
        else:
            line.poll(text)
        self.run()
        assert line.code == code
        assert bool(self.open(line)) == (code is None)

    @precondition(lambda self: self.guests())
    @rule(pick=picks, hang_up=st.booleans())
    def go(self, pick: int, hang_up: bool) -> None:
        """A client leaves a namespace, or for good."""
        self.leave(self.picked(pick), hang_up=hang_up)

    @precondition(lambda self: self.guests())
    @rule(pick=picks)
    def stop_or_go_on_reading(self, pick: int) -> None:
        """A client lets what it is sent wait; the next time, it takes all, if that is still sent."""
        lines = [line for line in self.on if isinstance(line, SocketLine) and not line.over and line is not self.boss.line]
        if lines:
            line = lines[pick % len(lines)]
            if line.reading.is_set():
                line.reading.clear()
            else:
                line.reading.set()
            self.run()

    @rule(span=spans)
    def clock_steps_on(self, span: int) -> None:
        """As after a sleep of the machine: no timer has fired yet."""
        self.set_clock(self.world.now + span)

    @precondition(lambda self: self.guests())
    @rule(pick=picks, off=st.sampled_from([-1, 0, 1]))
    def clock_steps_to_an_end(self, pick: int, off: int) -> None:
        self.set_clock(max(self.world.now, self.picked(pick).token.exp + off))

    @rule(span=st.integers(1, 5_000))
    def clock_is_set_back(self, span: int) -> None:
        """What has ended stays so; what only was due may go on, as far as the clock can tell."""
        self.set_clock(self.world.now - span)

    @rule(span=st.sampled_from([50, 250, 300, 1_200]))
    def time_passes(self, span: int) -> None:
        """Timers run as they should: whoever is past his end is ended in time, and so is his transport."""
        lines = {one.line for one in self.sessions if one.ended == "expired"}
        self.world.pass_time(span, self.look)
        for line in lines if span >= 250 else ():
            assert line.over or (isinstance(line, PollingLine) and not line.waiting), "a transport is left open"

    @invariant()
    def forecast(self) -> None:
        """What is said to expire is what the model has."""
        ends = [one.token.exp for one in self.open() if one.id]
        for within in (0, 1_000, 5_000, 60_000, 3_600_000, FAR):
            until = self.world.now + within
            assert self.world.gateway.schedule.expiring(until) == sum(end <= until for end in ends)


Paths.TestCase.settings = settings(max_examples=250, stateful_step_count=50, deadline=None)
TestPaths = Paths.TestCase
