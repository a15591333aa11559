"""Clients of a node in the test's own process: what they do is done in full, and held to the model, before the next thing is."""

from typing import Any, Literal

import msgspec

from tests.support.deadline_watch import Session, Token, Watch
from tests.support.in_process import Line, PollingLine, SocketLine, World

ROOM = "hall"
# What comes in the middle, after so many turns of the loop: the clock is set to so many ms behind an end, or the user is withdrawn;
# "first": the operator's wish is so many turns ahead.
Meanwhile = tuple[int, int | Literal["revoke", "revoke first", "revoking"]]


class Drive(Watch):
    """Anyone's clients, and an operator who is there for good."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.count = 0  # of commands
        self.operator: Session  # on `/admin`

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
