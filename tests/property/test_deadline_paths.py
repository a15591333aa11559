"""No path around a deadline: connects, renewals, withdrawals, set clocks and late timers, in any order, against a whole node.

The clock moves between any two turns of the event loop, also in the middle of what the node does; timers are late as long as the
loop's own time stands still, which is always but in `time_passes`. What must hold is in `Watch`: no packet is handed to a transport,
and no event to the log, for a session that has ended by the clock of that moment.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from node.core.limits import Limits
from tests.support.deadline_drive import ROOM, Drive, Meanwhile
from tests.support.deadline_watch import OPERATOR, Session, Token
from tests.support.in_process import PollingLine, SocketLine, World, free_node

START = 1_800_000_000_000
FAR = START + 10**10  # later than any clock here
LIMITS = Limits(commands_per_second=1e6, commands_burst=1_000_000, outbox_bytes=1_500)
MOST_LINES = 6
MOST_RENEWALS = 10  # of one session without a pause
USERS = ("ann", "bob")

picks = st.integers(0, 20)
lives = st.sampled_from([250, 1_000, 3_000, 20_000, 600_000, 7_200_000])
spans = st.sampled_from([1, 40, 124, 125, 249, 1_000, 2_999, 20_000, 600_000, 7_200_000])
turns = st.sampled_from([*[0] * 8, *range(1, 17)])
meanwhiles = st.none() | st.tuples(turns, st.sampled_from([-1, -1, 0, 0, 1, 1, 5_000, "revoke", "revoke first"]))


class Paths(Drive, RuleBasedStateMachine):
    """One node, two users on any number of lines, and an operator whose own token lasts."""

    def __init__(self) -> None:
        RuleBasedStateMachine.__init__(self)
        self.folder = TemporaryDirectory()
        Drive.__init__(self, World(Path(self.folder.name), START, free_node(limits=LIMITS, two_step_seconds=5.0)))

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
        return [(one.principal.expires_at, one.refresh_at) for one in self.world.gateway.roster.sessions if one.id == session.id]

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


Paths.TestCase.settings = settings(max_examples=50, stateful_step_count=50, deadline=None)
TestPaths = Paths.TestCase


ACTS: dict[str, Callable[..., object]] = {
    "connect": lambda machine, meanwhile: machine.connect("bob", 1_000, {"socket"}, True, meanwhile),
    "connect by polling": lambda machine, meanwhile: machine.connect("bob", 1_000, set(), True, meanwhile),
    "connect in two steps": lambda machine, meanwhile: machine.connect("bob", 1_000, {"socket", "two steps"}, True, meanwhile),
    "resume": lambda machine, meanwhile: machine.connect("ann", 1_000, {"socket", "resume"}, True, meanwhile),
    "besides": lambda machine, meanwhile: machine.connect_besides(0, 1_000, meanwhile),
    "speak": lambda machine, meanwhile: machine.speak(0, meanwhile),
    **{
        f"renew: {kind}": partial(Paths.renew, pick=0, kind=kind, life=3_000)
        for kind in ("good", "other", "late", "narrow", "revoked")
    },
    **{name: partial(Paths.command, pick=0, name=name) for name in ("message:send", "read", "typing", "history")},
}


@pytest.mark.parametrize("socket", [True, False], ids=["websocket", "polling"])
@pytest.mark.parametrize("what", ACTS)
def test_at_every_turn(what: str, socket: bool) -> None:
    """The clock comes to the end, or access is withdrawn, in the middle of it: before it, and at each turn that the node takes for it."""
    machine = Paths()
    try:
        machine.furnish([])
        for turns in range(17):
            for comes in (-1, 0, "revoke", "revoke first"):
                machine.begin(machine.line(socket), "/", machine.mint("ann", machine.world.now + 1_000))
                ACTS[what](machine, meanwhile=(turns, comes))
                machine.forecast()
                machine.clock_steps_on(3_000)
                machine.time_passes(300)
                assert machine.guests() == []
    finally:
        machine.teardown()


def test_a_client_that_reads_on_past_the_end() -> None:
    """What has waited for it since before is not sent any more."""
    machine = Paths()
    try:
        machine.furnish([("ann", True, 20_000)])
        (session,) = machine.guests()
        machine.stop_or_go_on_reading(0)
        for name in ("history", "message:send"):
            machine.command(0, name, None)
        machine.speak(0, None)
        machine.clock_steps_to_an_end(0, 0)
        before = len(session.events)
        machine.stop_or_go_on_reading(0)
        machine.time_passes(300)
        assert [name for name, _ in session.events[before:]] == ["auth:expired"]
    finally:
        machine.teardown()
