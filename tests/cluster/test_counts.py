"""The counts of the nodes against what their clients and the log saw, to the unit, after a storm in which one of them is killed.

The counters of a process end with it. So the book of the node that is killed in the middle is closed unread, and a new one is begun for the
process that takes its place; every other process is held to its book, and to the part of the log that is its own.
"""

import asyncio
import contextlib
import itertools
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from node.core.events import Event, NodeStarted, SessionClosed, SessionOpened, SessionRenewed
from tests.support.books import Away, Book, Visit, scraped, series
from tests.support.client import ConnectRefused, ok
from tests.support.crowd import UNHURRIED
from tests.support.http import async_http, bearer
from tests.support.nodes import Cluster, NodeProcess
from tests.support.recorded import recorded
from tests.support.tokens import at, token
from tests.support.wait import Late, wait_until
from tests.support.ways_in import carried, line

pytestmark = pytest.mark.anyio
ALL_S = 60.0
ROOMS = ("red", "green", "blue")
TALKERS, EACH = 27, 60  # and messages of each
PAUSE_S = 0.05  # between two of them
EXPIRING = 6
EXPIRE_MS = 5_000


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Three nodes; one of them is soon full."""
    settings = UNHURRIED | {"handshake_rate": "1000", "handshake_burst": "1000", "token_sources": "auth,header"}
    with Cluster(tmp_path, settings, own={"n3": {"max_sessions": "13"}}) as cluster:
        yield cluster


class Storm:
    """Everybody, and the book of each process that is there."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.books = {node.url: Book(node.url) for node in cluster}
        self.acked = self.entered = 0
        self.over = asyncio.Event()

    def book(self, place: int) -> Book:
        return self.books[self.cluster[place].url]

    def kill(self, node: NodeProcess) -> None:
        """What it had counted is gone, and what was seen of it is no measure of anything."""
        node.kill()
        self.books[node.url] = Book(node.url)

    async def talk(self, user: str, room: str, first: int) -> None:
        """Be in a room and say what there is to say, wherever a node takes one, until the storm is over."""
        said, cursor, session = 0, 0, ""
        for place in itertools.islice(itertools.count(first), 300):
            book = self.book(place % 3)
            resume = {"session": session, "cursors": {room: cursor}} if session else None
            try:
                async with book.visit(token(user), resume=resume) as visit:
                    try:
                        if not session:
                            await self._enter(book, visit, room)
                        session = visit.welcome["session"]
                        ok(await book.ask(visit, "typing", {"room": room, "on": True}))
                        while said < EACH:
                            ok(await book.ask(visit, "message:send", {"room": room, "text": "hi", "id": f"{user}-{said}"}))
                            said, self.acked = said + 1, self.acked + 1
                            await asyncio.sleep(PAUSE_S)
                        await wait_until(lambda visit=visit: self.over.is_set() or visit.client.closed, ALL_S, "the end")  # type: ignore[misc]
                    finally:
                        cursor = max(cursor, visit.cursor(room))
            except Away:
                await asyncio.sleep(0.1)  # nobody is there, or there is no room: the next one
            if self.over.is_set():
                return
        raise AssertionError(f"{user} found no node")

    async def _enter(self, book: Book, visit: Visit, room: str) -> None:
        """Be in the room, once it is known here."""
        await wait_until(lambda: self._joins(book, visit, room), ALL_S, f"{room} is there")
        self.entered += 1

    @staticmethod
    async def _joins(book: Book, visit: Visit, room: str) -> bool:
        return bool((await book.ask(visit, "room:join", {"room": room}))["ok"])

    async def expire(self, number: int, expires_at: int) -> None:
        """Listen until the token ends with all others of its kind, and come back at once with what was seen."""
        user, room, book = f"expiring-{number}", ROOMS[number % 3], self.book(0)
        async with book.visit(at(user, expires_at)) as visit:
            await self._enter(book, visit, room)
            assert await visit.client.wait_closed(ALL_S) == 4001
            book.ended("token_expired")
        resume = {"session": visit.welcome["session"], "cursors": {room: visit.cursor(room)}}
        async with book.visit(token(user), resume=resume) as visit:
            assert visit.welcome["resumed"]
            await self.over.wait()

    async def come_and_go(self, place: int) -> None:
        """Sessions that end in every other way, renewals, and handshakes that are refused, on a node that stays."""
        book = self.book(place)
        async with book.visit(token(f"leaver-{place}")) as visit:
            await visit.client.send("41")
            await visit.client.wait_closed()
        book.ended("client")
        async with book.visit(token("root", scope="admin"), namespace="/admin"):
            pass
        book.ended("transport")
        async with book.visit(token(f"renewer-{place}")) as visit:
            for subject in (f"renewer-{place}", "another", f"renewer-{place}"):
                await book.ask(visit, "auth:refresh", {"token": token(subject)})
            assert not (await book.ask(visit, "history", {"room": "nowhere"}))["ok"]
        book.ended("transport")
        async with book.visit(token(f"withdrawn-{place}")) as visit:
            async with async_http() as http:
                url, asks = f"{self.cluster[2 - place].url}/api/revoke", bearer(token("root", scope="admin"))
                assert (await http.post(url, headers=asks, json={"session": visit.welcome["session"]})).status_code == 200
            self.book(2 - place).answered("revoke", "ok")
            await visit.client.wait_closed()
        book.ended("revoked")
        await self._refused(book)
        await self._over_http(book, place)
        await self._poll(book, token(f"poller-{place}"))
        await self._poll(book, token("nobody", ttl=-1))

    @staticmethod
    async def _refused(book: Book) -> None:
        bad = (("", "/"), (token("x", ttl=-1), "/"), (token("x", secret="y" * 40), "/"), (token("x"), "/admin"), ("a.b", "/"))
        for text, namespace in bad:
            with pytest.raises(ConnectRefused):
                async with book.visit(text, namespace=namespace):
                    pass

    @staticmethod
    async def _over_http(book: Book, place: int) -> None:
        """Commands that are refused there, each by something else; one whose token is refused is none."""
        async with async_http(base_url=book.url) as http:
            path, asks = "/api/rooms/nowhere/messages", bearer(token(f"poster-{place}", scope="chat publish"))
            for command, outcome, answer in (
                ("message:send", "room_not_found", await http.post(path, headers=asks, json={"text": "hi"})),
                ("message:send", "bad_request", await http.post(path, headers=asks, content=b"[")),
                ("history", "bad_request", await http.get(path, headers=asks, params={"limit": "many"})),
            ):
                assert answer.json()["error"]["code"] == outcome
                book.answered(command, outcome)
            assert (await http.post(path, json={"text": "hi"})).status_code == 401

    @staticmethod
    async def _poll(book: Book, bearer: str) -> None:
        """A session by long-polling, from its token in the header to its close packet."""
        async with aiohttp.ClientSession() as http, line(book.url, "polling", carried("header", bearer, ""), http) as polling:
            await polling.send("40")
            verdict = (await polling.verdict()).code
        if verdict == "accepted":
            book.handshake("accepted", transport="polling", source="header")
            book.ended("client")
        else:
            book.handshake("refused", verdict, transport="polling")


def of_the_log(events: list[Event], node: NodeProcess) -> Counter[str]:
    """What the node's present process should have counted of the life of sessions, by the log; in the order of the control partition."""
    counts, nodes = Counter[str](), dict[str, str]()
    for event in events:
        match event:
            case NodeStarted(by=node.id):
                counts.clear()
            case SessionOpened(session=session, namespace=namespace, transport=transport):
                nodes[session] = event.node
                counts[f"opened {namespace} {transport}"] += event.node == node.id
            case SessionRenewed(session=session):
                counts["renewed"] += nodes[session] == node.id
            case SessionClosed(session=session, reason=reason):
                counts[f"ended {reason}"] += nodes[session] == node.id
    return +counts


def as_the_log_says(counts: Counter[str]) -> Counter[str]:
    """The same, of what a node has counted."""
    found = Counter[str]()
    for name, count in counts.items():
        labels = dict(re.findall(r'(\w+)="([^"]*)"', name))
        if name.startswith("tidegate_handshakes_total") and labels["outcome"] == "accepted":
            found[f"opened {labels['namespace']} {labels['transport']}"] += count
        elif name.startswith("tidegate_session_ends_total"):
            found[f"ended {labels['reason']}"] += count
        elif name == series("token_refreshes_total", outcome="accepted", code=""):
            found["renewed"] += count
    return found


def events_applied(node: NodeProcess) -> Counter[str]:
    """By type, those that each node has seen come: a node's start was there before another one's."""
    found = re.findall(r'tidegate_log_events_total\{type="(\w+)"\} (\S+)', node.metrics())
    return Counter({name: int(float(count)) for name, count in found if name != "node_started" and float(count)})


async def test_the_counts_are_the_truth(cluster: Cluster) -> None:
    """Handshakes by outcome and code, sessions, ends, renewals, expiries, commands, replays and deliveries of every process that lives."""
    storm, victim = Storm(cluster), cluster[1]
    expires_at = int(time.time() * 1000) + EXPIRE_MS
    async with asyncio.TaskGroup() as tasks:
        hosts = [tasks.create_task(host(storm, room)) for room in ROOMS]
        await wait_until(lambda: storm.entered == len(ROOMS), ALL_S, "there are rooms")
        for number in range(TALKERS):
            tasks.create_task(storm.talk(f"talker-{number}", ROOMS[number // 3 % 3], number))
        for number in range(EXPIRING):
            tasks.create_task(storm.expire(number, expires_at))
        busy = [tasks.create_task(storm.come_and_go(place)) for place in (0, 2)]
        await asyncio.gather(*busy)
        await wait_until(lambda: storm.acked > TALKERS * EACH // 4, ALL_S, "all talk")
        storm.kill(victim)
        assert storm.acked < TALKERS * EACH
        await wait_until(lambda: storm.acked >= TALKERS * EACH and time.time() * 1000 > expires_at, ALL_S, "all is said")
        cluster.start([victim])
        tasks.create_task(storm.talk("newcomer", ROOMS[0], 1))
        await wait_until(lambda: storm.acked >= (TALKERS + 1) * EACH, ALL_S, "the newcomer has said it all")
        for node in cluster:
            book = storm.books[node.url]
            with contextlib.suppress(Late):  # what differs is shown below
                await wait_until(lambda n=node, b=book: scraped(n) == b.totals(), 10.0, "they agree")  # type: ignore[misc]
            assert scraped(node) == book.totals()
        events = await recorded(cluster.folder)
        for node in cluster:
            assert as_the_log_says(scraped(node)) == of_the_log(events, node)
        for node in (cluster[0], cluster[2]):
            assert events_applied(node) == Counter(str(e.__struct_config__.tag) for e in events if not isinstance(e, NodeStarted))
        seen = "".join(name for node in cluster for name in scraped(node))
        assert 'outcome="busy"' in seen and 'outcome="complete"' in seen
        assert "other" not in seen and "overdue" not in seen
        storm.over.set()
    assert all(host.done() for host in hosts)


async def host(storm: Storm, room: str) -> None:
    """Who makes a room, and says nothing in it."""
    book = storm.book(0)
    async with book.visit(token(f"host-{room}")) as visit:
        ok(await book.ask(visit, "room:create", {"room": room}))
        storm.entered += 1
        await storm.over.wait()
