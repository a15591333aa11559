"""What clients see of each node, kept as the node itself should have counted it: under the names of its own samples."""

import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from tests.support.client import Client, ConnectRefused, Payload, raw_client
from tests.support.http import fetch
from tests.support.nodes import NodeProcess

DELIVERED = {"message", "edited", "deleted", "reacted", "joined", "left", "room", "read", "typing", "presence"}
TIMED = DELIVERED - {"typing", "presence"}  # what has been accepted at a moment
#: What is compared: of these every sample counts, those that are not expected too.
KEPT = tuple(
    f"tidegate_{name}"
    for name in (
        *("handshakes_total", "handshake_seconds_count", "token_ttl_seconds_count", "session_ends_total", "token_expiries_total"),
        *("expiry_lateness_seconds_count", "token_refreshes_total", "resumes_total", "replayed_events_total", "commands_total"),
        *("command_seconds_count", "deliveries_total", "delivery_seconds_count", "sessions{", "revocation_seconds_count"),
        *("slow_sockets_total", "sessions_overdue"),
    )
)


class Away(Exception):
    """The node takes nobody now, or is not there."""


def series(name: str, **labels: str) -> str:
    """A sample as a scraper writes it."""
    written = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
    return f"tidegate_{name}{{{written}}}" if written else f"tidegate_{name}"


def scraped(node: NodeProcess) -> Counter[str]:
    """What the node has counted, but for zeros."""
    lines = (line.rpartition(" ") for line in fetch(f"{node.url}/metrics").text.splitlines() if line.startswith(KEPT))
    return Counter({name: round(float(value)) for name, _, value in lines if float(value)})


class Book:
    """What clients saw of one node process."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.counts = Counter[str]()
        self._visits: list[Visit] = []

    def totals(self) -> Counter[str]:
        """All that was seen until now, but for zeros."""
        totals = Counter(self.counts)
        for visit in self._visits:
            totals += visit.seen()
        return totals

    def handshake(
        self, outcome: str, code: str = "", *, namespace: str = "/", transport: str = "websocket", source: str = ""
    ) -> None:
        """A handshake was answered so."""
        labels = {"namespace": namespace, "outcome": outcome, "code": code, "transport": transport, "source": source}
        self.counts[series("handshakes_total", **labels)] += 1
        self.counts[series("handshake_seconds_count", outcome=outcome)] += 1
        if outcome == "accepted":
            self.counts[series("token_ttl_seconds_count")] += 1

    def ended(self, reason: str) -> None:
        """A session has ended."""
        self.counts[series("session_ends_total", reason=reason)] += 1
        if reason == "token_expired":
            self.counts[series("token_expiries_total", result="closed")] += 1
            self.counts[series("expiry_lateness_seconds_count")] += 1
        if reason == "revoked":
            self.counts[series("revocation_seconds_count")] += 1

    def answered(self, command: str, outcome: str) -> None:
        """A command was answered, over a socket or over HTTP."""
        self.counts[series("commands_total", command=command, outcome=outcome)] += 1
        self.counts[series("command_seconds_count", command=command)] += 1

    async def ask(self, visit: "Visit", command: str, payload: Payload) -> Payload:
        """A command, and how it was answered. Raises `Away` where the connection ended instead."""
        try:
            answer = await visit.client.ask(command, payload)
        except ConnectionClosed:
            raise Away from None
        except AssertionError:
            if not visit.client.closed:
                raise
            raise Away from None
        outcome = "ok" if answer["ok"] else answer["error"]["code"]
        self.answered(command, outcome)
        if command == "auth:refresh":
            labels = {"outcome": "accepted", "code": ""} if outcome == "ok" else {"outcome": "refused", "code": outcome}
            self.counts[series("token_refreshes_total", **labels)] += 1
            if outcome == "ok":
                self.counts[series("token_expiries_total", result="refreshed")] += 1
        return answer

    @asynccontextmanager
    async def visit(self, token: str, *, resume: Payload | None = None, namespace: str = "/") -> AsyncIterator["Visit"]:
        """A session on this node; who leaves the block leaves it. Raises `Away`, `ConnectRefused`."""
        try:
            async with raw_client(self.url) as client:
                auth: Payload = {"token": token} | ({"resume": resume} if resume else {})
                try:
                    welcome = await client.join_namespace(auth, namespace)
                except ConnectRefused as refused:
                    self.handshake("refused", refused.code, namespace=namespace)
                    raise
                self.handshake("accepted", namespace=namespace, source="auth")
                visit = Visit(client, welcome, resumes=resume is not None)
                self._visits.append(visit)
                yield visit
        except InvalidStatus as status:
            self.handshake("busy", json.loads(status.response.body)["error"]["code"])
            raise Away from None
        except (OSError, InvalidMessage):
            raise Away from None


class Visit:
    """One session, as its client sees it."""

    def __init__(self, client: Client, welcome: Payload, *, resumes: bool) -> None:
        self.client, self.welcome, self._resumes = client, welcome, resumes

    def seen(self) -> Counter[str]:
        """What has come, and whether the session is there."""
        names = Counter(name for name, _ in self.client.events)
        counts = Counter({series("deliveries_total"): sum(names[name] for name in DELIVERED)})
        counts[series("delivery_seconds_count")] = sum(names[name] for name in TIMED)
        replays = self.client.named("replay")
        counts[series("replayed_events_total")] = sum(len(replay["events"]) for replay in replays)
        if self._resumes:
            outcome = "complete" if all(replay["complete"] for replay in replays) else "partial"
            counts[series("resumes_total", outcome=outcome)] = 1
        counts[series("sessions", transport="websocket")] = int(not self.client.closed)
        return +counts

    def cursor(self, room: str) -> int:
        """The last event of the room that was seen here, live or replayed."""
        live = [seen["seq"] for name, seen in self.client.events if name in TIMED and seen["room"] == room and name != "read"]
        replayed = [
            event["seq"] for replay in self.client.named("replay") if replay["room"] == room for event in replay["events"]
        ]
        return max([0, *live, *replayed])
