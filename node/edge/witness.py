"""What is told of sessions: each event of their life is counted, timed, and said in a line of the journal. One place for all of it.

The lines have the session and its lineage (the first session of the chain that it resumes), and the id of the event that tells the same in
the log of events. In a storm a few lines of each kind stand for all, and one line a second says how many were left out. What was refused or
ended for another reason is another kind: a storm of one code hides no other.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

import structlog

from node.auth.denied import Denied
from node.core import view
from node.core.effects import EndSessions
from node.core.events import EndReason
from node.edge.handshake import Accepted
from node.edge.session import CHAT, Session
from node.line_rate import LineRate
from node.metrics import Metrics

LINES_PER_S, LINES_BURST = 10.0, 50  # of each kind
_WITH = ": "  # between a line and its code, in the name of a kind


class Witness:
    """Sees what happens to the sessions of one node. Nothing here waits or raises."""

    def __init__(self, metrics: Metrics, clock: Callable[[], int], trace: Callable[[], str] = str) -> None:
        """`trace` gives the id of the trace that what happens now is part of, if any."""
        self.metrics, self._clock, self._trace = metrics, clock, trace
        self._rate = LineRate(per_s=LINES_PER_S, burst=LINES_BURST)
        self._log = structlog.get_logger().bind()  # made once: a lazy one is made anew at each line, written or not
        self._tells, self._tells_commands = self._log.is_enabled_for(logging.INFO), self._log.is_enabled_for(logging.DEBUG)

    # Handshakes

    def judged(self, namespace: str, transport: str, verdict: Accepted | Denied, began_s: float, lineage: str = "") -> None:
        """A handshake was answered that began at `began_s` (`time.perf_counter`)."""
        seconds = time.perf_counter() - began_s
        if isinstance(verdict, Denied):
            self.metrics.handshake(namespace, transport, ("refused", verdict.code, ""), seconds)
            self._say("session refused", code=verdict.code, namespace=namespace, transport=transport, why=verdict.message)
        else:
            source = verdict.source.partition(":")[0]  # of a cookie's name a label has no need
            self.metrics.handshake(namespace, transport, ("accepted", "", source), seconds, lineage)

    def turned_away(self, code: str, transport: str, began_s: float, why: str) -> None:
        """A request that would have begun a connection was refused for load, before anything else was looked at."""
        self.metrics.handshake(CHAT, transport, ("busy", code, ""), time.perf_counter() - began_s)
        self._say("session refused", code=code, transport=transport, why=why)

    # A session's life

    def opened(self, session: Session, before: view.Session | None, event: str) -> None:
        """A session has begun, perhaps in the place of another one of its user's."""
        now, principal = session.opened_at, session.principal
        self.metrics.token_ttl_seconds.observe((principal.expires_at - now) / 1000, session.lineage)
        if before is not None and before.closed_at is not None and before.reason is not None:
            gap_s = max(0, now - before.closed_at) / 1000
            self.metrics.reconnect_gap.labels(before.reason).observe(gap_s, session.lineage)
        self._say(
            "session opened",
            session,
            id=event,
            namespace=session.namespace,
            transport=session.connection.transport,
            expires_at=principal.expires_at,
            resumes=before.session if before is not None else None,
        )

    def replayed(self, replay: dict[str, Any]) -> None:
        """What was missed in one room was sent."""
        self.metrics.replayed.inc(len(replay["events"]))

    def resumed(self, *, complete: bool) -> None:
        """A client that came back has been sent all that it missed, or has to ask for the rest of it."""
        self.metrics.resumes.labels("complete" if complete else "partial").inc()

    def renewed(self, session: Session, event: str) -> None:
        """A session stands on a new token."""
        self.metrics.expiries.labels("refreshed").inc()
        self._say("session renewed", session, id=event, expires_at=session.principal.expires_at)

    def asked_to_renew(self, session: Session, code: str) -> None:
        """An `auth:refresh` was answered; `code` is empty where it was accepted."""
        self.metrics.refreshes.labels("refused" if code else "accepted", code).inc()
        if code:
            self._say("renewal refused", session, code=code)

    def answered(
        self,
        session: Session | None,
        command: str,
        outcome: str,
        seconds: float,
        *,
        trace: str,
        ack: int | None = None,
        user: str = "",
    ) -> None:
        """A command was answered after so long: one of a session, under the client's number `ack`, or one of `user` over HTTP."""
        self.metrics.commands.labels(command, outcome).inc()
        self.metrics.command_seconds.labels(command).observe(seconds, trace or (session.lineage if session is not None else ""))
        if self._tells_commands and self._rate.take(f"command{_WITH}{outcome}", time.monotonic()):
            of = {"user": user} if session is None else _of(session) | {"ack": ack}
            fields = of | {"command": command, "outcome": outcome, "ms": round(1000 * seconds, 1)}
            self._log.debug("command", **fields, **({"trace": trace} if trace else {}))

    def withdrawn(self, session: Session, effect: EndSessions) -> None:
        """A session has ended since it, its token or its user was withdrawn."""
        self.metrics.revocation_seconds.observe(max(0, self._clock() - effect.asked_at) / 1000, session.lineage)

    def ended(self, session: Session, reason: EndReason, event: str, because: dict[str, str]) -> None:
        """A session has ended; `because` has the code and the event of a withdrawal, where it was one."""
        now = self._clock()
        self.metrics.session_ends.labels(reason).inc()
        late_ms = now - session.principal.expires_at
        if reason == "token_expired" and late_ms >= 0:  # else it was another namespace's token, on the same connection
            self.metrics.expiries.labels("closed").inc()
            self.metrics.expiry_lateness.observe(late_ms / 1000, session.lineage)
        self._say("session ended", session, id=event, reason=reason, lasted_ms=now - session.opened_at, **because)

    # Lines

    def tell_left_out(self) -> None:
        """Say how many lines were left out since the last time, if any were, and how many of each code; now and then."""
        counts: dict[str, int] = {}
        for kind, count in self._rate.dropped().items():
            line, _, code = kind.partition(_WITH)
            self.metrics.lines_dropped.labels(line).inc(count)
            name = line.replace(" ", "_")
            counts[name] = counts.get(name, 0) + count
            if code:
                counts[f"{name}_{code}"] = count
        if counts:
            self._log.info("lines were left out", **counts)

    def _say(self, line: str, session: Session | None = None, **fields: Any) -> None:
        if not self._tells:
            return
        code = fields.get("code") or fields.get("reason") or ""
        if not self._rate.take(f"{line}{_WITH}{code}", time.monotonic()):
            return
        if session is not None:
            fields = _of(session) | fields
        if trace := self._trace():
            fields["trace"] = trace
        self._log.info(line, **{name: value for name, value in fields.items() if value is not None})


def _of(session: Session) -> dict[str, Any]:
    return {"session": session.id, "lineage": session.lineage, "user": session.principal.user}
