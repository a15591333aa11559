"""The commands of a session, carried out one after the other in the order in which they came, each answered once."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractContextManager
from typing import Any, Protocol

import structlog

from node.core import view
from node.core.commands import NAMES, Command, Query, Typing
from node.core.effects import Applied
from node.core.errors import Refused
from node.core.events import ControlEvent
from node.core.identity import Principal
from node.edge import wire
from node.edge.admin import ADMIN_NAMES, Admin
from node.edge.quota import Quota
from node.edge.session import ADMIN, Session
from node.edge.witness import Witness
from node.spans import Spans

REFRESH = "auth:refresh"
RENEWALS_PER_S, RENEWALS_BURST = 1.0, 10  # of one session: each is an event in the log, and a token has one renewal in its life
MOST_QUEUED = 64  # commands of one session that wait: a burst and half of one more; then its socket is not read
RETRY_MS = 500
OVER_QUOTA_S = 0.02  # after each refusal for the quota: a flood gets fifty a second, and waits in its own buffers
_NOT_HERE = frozenset({"room_not_found", "not_a_member", "message_not_found"})  # which may only be so by what this node knows
_NOT_YET = Refused("unavailable", "this node has not read yet what this client has seen: send it again", retry_after=RETRY_MS)
_KNOWN = {*NAMES, *ADMIN_NAMES, REFRESH}
_UNTRACED = contextlib.nullcontext("")
_log = structlog.get_logger()


class Chat(Protocol):
    """What carries a client's wish out: the flow behind one face."""

    async def submit(self, command: Command, principal: Principal) -> Applied | Refused:
        """Carry out a command; returns once it is applied here."""
        ...

    async def answer(self, query: Query, principal: Principal) -> dict[str, Any] | Refused:
        """Read the view."""
        ...

    async def is_behind(self, cursors: dict[str, int]) -> bool:
        """Whether a returning client has seen more than this node knows of."""
        ...

    async def reach(self, cursors: dict[str, int]) -> None:
        """Return once this node knows all that the client has seen, or that there is no such thing."""
        ...

    async def replays(self, user: str, cursors: dict[str, int]) -> list[dict[str, Any]]:
        """The `replay` payloads for a returning client."""
        ...

    def typing(self, notice: Typing, principal: Principal) -> Refused | None:
        """Pass a typing notice on, here and to the other nodes."""
        ...

    def welcome_rooms(self, user: str) -> list[dict[str, Any]]:
        """The rooms of `welcome`."""
        ...

    def session_of(self, session: str, user: str) -> view.Session | None:
        """The session, where it was the user's."""
        ...

    def record(self, event: ControlEvent) -> None:
        """Put the life of a session into the log, without waiting."""
        ...

    def new_id(self) -> str:
        """A unique, time-ordered id."""
        ...


class CommandQueues:
    """Works off the queue of each session: at most one task a session, none while its queue is empty."""

    def __init__(
        self,
        *,
        chat: Chat,
        admin: Admin,
        quota: Quota,
        refresh: Callable[[Session, list[Any]], Awaitable[dict[str, Any]]],
        witness: Witness,
        clock: Callable[[], int],
        spans: Spans | None = None,
    ) -> None:
        self._chat, self._admin, self._quota, self._refresh = chat, admin, quota, refresh
        self._witness, self._clock, self._spans = witness, clock, spans
        self._renewals = Quota(rate=RENEWALS_PER_S, burst=RENEWALS_BURST)
        self._tasks: set[asyncio.Task[None]] = set()

    async def put(self, session: Session, ack_id: int | None, data: list[Any]) -> None:
        """Queue an event of the client: its name and arguments, and the id to answer under. Returns once there is room for the next.

        A renewal has a lane of its own: what it saves must not wait for what is slow.
        """
        if data[0] == REFRESH:
            if session.renewing:
                busy = Refused("rate_limited", "one renewal at a time", retry_after=100)
                self._answer(session, ack_id, busy, REFRESH, 0.0, "")
                await self._over_quota(session)
                return
            session.renewing = True
            _ = self.start(session, self._renew(session, ack_id, data))
            return
        session.queue.append((ack_id, data))
        if not session.working:
            session.working = True
            _ = self.start(session, self._work_off(session))
        if len(session.queue) >= MOST_QUEUED:
            session.has_room.clear()
            await session.has_room.wait()

    def start(self, session: Session, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do something for a session beside all others; where it fails, the session's connection ends."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._ended(session, done))
        return task

    async def aclose(self) -> None:
        """Drop what waits; idempotent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _work_off(self, session: Session) -> None:
        loop = asyncio.get_running_loop()
        try:
            while session.queue and session.ended is None:
                await session.connection.drained()  # who does not read his answers gets no more of them
                if not session.queue:  # it ended meanwhile
                    return
                ack_id, data = session.queue.popleft()
                session.has_room.set()
                began, label = loop.time(), _label(data[0])
                with self._traced(label, session) as trace:
                    answer = await self._carry_out(session, data[0], data[1:])
                    self._answer(session, ack_id, answer, label, loop.time() - began, trace)
                if isinstance(answer, Refused) and answer.code == "rate_limited":
                    await asyncio.sleep(OVER_QUOTA_S)
        finally:
            session.working = False
            session.has_room.set()

    async def _renew(self, session: Session, ack_id: int | None, data: list[Any]) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            wait_ms = self._renewals.take(session.id, self._clock())
            with self._traced(REFRESH, session) as trace:
                answer: dict[str, Any] | Refused
                if not session.alive(self._clock()):
                    answer = Refused("token_expired", "the session's token has expired")
                elif wait_ms:
                    answer = Refused("rate_limited", "too many renewals", retry_after=wait_ms)
                else:
                    answer = await self._refresh(session, data[1:])
                self._answer(session, ack_id, answer, REFRESH, loop.time() - began, trace)
            if wait_ms:
                await self._over_quota(session)
        finally:
            session.renewing = False

    @staticmethod
    async def _over_quota(session: Session) -> None:
        """Let a flood of renewals wait in its own buffers, and longer where its answers are not read: each is one more in the outbox."""
        await asyncio.sleep(OVER_QUOTA_S)
        await session.connection.drained()

    def _traced(self, label: str, session: Session) -> AbstractContextManager[str]:
        return _UNTRACED if self._spans is None else self._spans.command(label, session.lineage)

    def _ended(self, session: Session, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            # a bug of ours: this connection ends, so that its client comes back and asks again
            _log.error("what was done for a session failed", session=session.id, lineage=session.lineage, exc_info=error)
            session.connection.close("transport", code=1011)

    def _answer(
        self, session: Session, ack_id: int | None, answer: dict[str, Any] | Refused, label: str, seconds: float, trace: str
    ) -> None:
        outcome = answer.code if isinstance(answer, Refused) else "ok" if answer.get("ok") else answer["error"]["code"]
        self._witness.answered(session, label, outcome, seconds, ack=ack_id, trace=trace)
        if label == REFRESH:
            self._witness.asked_to_renew(session, "" if outcome == "ok" else outcome)
        if trace and self._spans is not None:
            self._spans.came_to(outcome)
        if ack_id is not None and session.ended is None:
            payload = wire.refusal(answer) if isinstance(answer, Refused) else answer
            session.connection.put(wire.encode_ack(session.namespace, ack_id, payload), session if outcome == "ok" else None)

    async def _carry_out(self, session: Session, name: Any, arguments: list[Any]) -> dict[str, Any] | Refused:
        now, principal = self._clock(), session.principal
        if not session.alive(now):
            return Refused("token_expired", "the session's token has expired")
        wait_ms = self._quota.take(principal.user, now)
        if wait_ms:
            return Refused("rate_limited", "too many commands", retry_after=wait_ms)
        if session.namespace == ADMIN:
            done = await self._admin.carry_out(name, arguments, principal)
            return done if isinstance(done, Refused) else {"ok": True, **done}
        command = wire.decode_command(name, arguments)
        if isinstance(command, Refused):
            return command
        answer = await self._done(command, principal)
        return _NOT_YET if isinstance(answer, Refused) and answer.code in _NOT_HERE and session.is_ahead else answer

    async def _done(self, command: Command | Query | Typing, principal: Principal) -> dict[str, Any] | Refused:
        if isinstance(command, Typing):
            return self._chat.typing(command, principal) or {"ok": True}
        if isinstance(command, Query):
            found = await self._chat.answer(command, principal)
            return found if isinstance(found, Refused) else {"ok": True, **found}
        applied = await self._chat.submit(command, principal)
        return applied if isinstance(applied, Refused) else wire.applied(command, applied)


def _label(name: Any) -> str:
    """The metric's label: no name that a client made up."""
    return name if isinstance(name, str) and name in _KNOWN else "unknown"
