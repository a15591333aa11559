"""Before a token is looked at: whether this request may begin a session now."""

import time
from urllib.parse import parse_qs

from node.auth.admission import Admission
from node.auth.tickets import Tickets


class Door:
    """Admission as the handshake meets it: the ticket in the query, the clocks."""

    def __init__(self, admission: Admission, tickets: Tickets) -> None:
        self._admission, self.tickets = admission, tickets

    def ask(self, query: str, now: int) -> int | None:
        """None: come in. Else the seconds for `Retry-After`. `query` may have a ticket; `now` is in ms."""
        given = parse_qs(query).get("ticket", [""])[0] if "ticket=" in query else ""
        resuming = bool(given) and self.tickets.good(given, now)
        wait_s = self._admission.ask(resuming=resuming, now=time.monotonic())
        if wait_s is None and resuming:
            self.tickets.use(given)
        return wait_s

    def look(self, lag_s: float) -> None:
        """The event loop is late by so much; called by it, in its thread, a few times a second."""
        self._admission.look(now=time.monotonic(), cpu_s=time.thread_time(), lag_s=lag_s)

    def capacity(self) -> float:
        """Handshakes a second that are let in now."""
        return self._admission.rate
