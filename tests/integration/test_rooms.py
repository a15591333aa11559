"""`welcome`, and every command on rooms, over real sockets on two nodes: the shapes of acks and events, and who may do what."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.client import chat_client, error, ok
from tests.support.nodes import Cluster
from tests.support.pair import pair, recent
from tests.support.tokens import at, token

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes as they come. Every test has rooms and users of its own."""
    with Cluster(tmp_path_factory.mktemp("rooms"), count=2) as cluster:
        yield cluster


# Welcome


async def test_welcome(cluster: Cluster) -> None:
    """What a session is told at its beginning."""
    expires_at = int(time.time()) * 1000 + 600_000
    async with chat_client(cluster[0].url, at("wendy", expires_at)) as wendy:
        ok(await wendy.ask("room:create", {"room": "welcome", "title": "Welcome!"}))
    async with chat_client(cluster[1].url, at("wendy", expires_at)) as wendy:
        welcome = wendy.named("welcome")[0]
        assert set(welcome) == {
            *("session", "node", "user", "expires_at", "refresh_at", "server_time", "resumed", "ticket", "rooms")
        }
        assert (welcome["node"], welcome["user"], welcome["expires_at"]) == ("n2", "wendy", expires_at)
        assert expires_at - 60_000 <= welcome["refresh_at"] < expires_at
        assert recent(welcome["server_time"])
        assert welcome["resumed"] is False
        assert all(isinstance(welcome[name], str) and welcome[name] for name in ("session", "ticket"))
        assert welcome["rooms"] == [
            {"room": "welcome", "title": "Welcome!", "kind": "public", "role": "owner", "seq": 1, "read": 0}
        ]


# Rooms


async def test_room_create(cluster: Cluster) -> None:
    """The ack has the room and its first seq, the creator hears of it; a name is taken once in the cluster."""
    async with chat_client(cluster[0].url, token("ann")) as ann, chat_client(cluster[1].url, token("bob")) as bob:
        assert ok(await ann.ask("room:create", {"room": "created", "title": "A title"})) == {"room": "created", "seq": 1}
        told = await ann.expect("room")
        assert recent(told.pop("at"))
        assert told == {"room": "created", "seq": 1, "title": "A title", "kind": "public", "change": "created", "by": "ann"}
        taken = error(await bob.ask("room:create", {"room": "created"}))
        assert (taken["code"], taken["field"]) == ("room_exists", "room")


async def test_one_of_many_creates_wins(cluster: Cluster) -> None:
    """Two nodes are asked for the same name at once: one is told it has it, the other that it exists."""
    async with chat_client(cluster[0].url, token("ann")) as ann, chat_client(cluster[1].url, token("bob")) as bob:
        for number in range(5):
            answers = await asyncio.gather(*(one.ask("room:create", {"room": f"race-{number}"}) for one in (ann, bob)))
            assert sorted(answer["ok"] for answer in answers) == [False, True]
            assert [answer["error"]["code"] for answer in answers if not answer["ok"]] == ["room_exists"]


async def test_join_and_leave(cluster: Cluster) -> None:
    """Both are heard by all members, who goes included; joining twice changes nothing."""
    async with pair(cluster, "come-and-go") as (ann, bob):
        assert ok(await bob.ask("room:join", {"room": "come-and-go"})) == {"seq": 2}
        assert ok(await bob.ask("room:leave", {"room": "come-and-go"})) == {"seq": 3}
        for client in (ann, bob):
            left = await client.expect("left")
            assert recent(left.pop("at"))
            assert left == {"room": "come-and-go", "seq": 3, "user": "bob-come-and-go"}
        assert error(await bob.ask("message:send", {"room": "come-and-go", "text": "?"}))["code"] == "not_a_member"
        assert error(await bob.ask("room:leave", {"room": "come-and-go"}))["code"] == "not_a_member"
        assert ok(await bob.ask("room:join", {"room": "come-and-go"})) == {"seq": 4}
        joined = await ann.expect("joined")
        assert recent(joined.pop("at"))
        assert joined == {"room": "come-and-go", "seq": 4, "user": "bob-come-and-go"}


PRIVATE = {"kind": "private"}


async def test_private_room_is_not_there_for_others(cluster: Cluster) -> None:
    """Whatever is asked of it, by who is not in it and not invited: `room_not_found`."""
    async with chat_client(cluster[0].url, token("ann")) as ann, chat_client(cluster[1].url, token("eve")) as eve:
        ok(await ann.ask("room:create", {"room": "hidden", **PRIVATE}))
        sent = ok(await ann.ask("message:send", {"room": "hidden", "text": "psst", "id": "secret"}))
        questions: list[tuple[str, dict[str, Any]]] = [
            ("room:join", {}),
            ("room:leave", {}),
            ("room:members", {}),
            ("room:invite", {"user": "eve"}),
            ("room:kick", {"user": "ann"}),
            ("room:role", {"user": "eve", "role": "owner"}),
            ("message:send", {"text": "hello"}),
            ("message:edit", {"id": "secret", "text": "x"}),
            ("message:delete", {"id": "secret"}),
            ("message:react", {"id": "secret", "emoji": "x", "on": True}),
            ("history", {}),
            ("replay", {"after": 0}),
            ("search", {"query": "psst"}),
            ("read", {"seq": sent["seq"]}),
            ("typing", {"on": True}),
            ("presence", {}),
        ]
        for name, fields in questions:
            refused = error(await eve.ask(name, {"room": "hidden", **fields}))
            assert refused["code"] == "room_not_found", name
        assert ok(await eve.ask("room:list", {"query": "hidden"})) == {"rooms": []}
        assert ok(await eve.ask("search", {"query": "psst"})) == {"messages": []}


async def test_invitation(cluster: Cluster) -> None:
    """Who is invited hears of it, sees the room, and may join; the members see him come."""
    async with chat_client(cluster[0].url, token("ann")) as ann, chat_client(cluster[1].url, token("guest")) as guest:
        ok(await ann.ask("room:create", {"room": "invited", **PRIVATE}))
        assert ok(await ann.ask("room:invite", {"room": "invited", "user": "guest"})) == {"seq": 2}
        told = await guest.expect("room")
        assert recent(told.pop("at"))
        assert told == {
            "room": "invited",
            "seq": 2,
            "title": "invited",
            "kind": "private",
            "change": "invited",
            "by": "ann",
            "user": "guest",
        }
        (listed,) = ok(await guest.ask("room:list", {"query": "invited"}))["rooms"]
        assert (listed["room"], listed["invited"], listed["role"]) == ("invited", True, None)
        assert error(await guest.ask("history", {"room": "invited"}))["code"] == "not_a_member"
        assert ok(await guest.ask("room:join", {"room": "invited"})) == {"seq": 3}
        assert error(await guest.ask("room:invite", {"room": "invited", "user": "eve"}))["code"] == "forbidden"
        assert (await ann.expect("joined"))["user"] == "guest"


async def test_direct_room(cluster: Cluster) -> None:
    """Its members are fixed from the start: all hear of it, none can leave or be added, and nobody else sees it."""
    async with chat_client(cluster[0].url, token("ann")) as ann, chat_client(cluster[1].url, token("dan")) as dan:
        ok(await ann.ask("room:create", {"room": "direct", "kind": "direct", "with": ["dan"]}))
        assert (await dan.expect("room", room="direct"))["kind"] == "direct"
        assert ok(await dan.ask("message:send", {"room": "direct", "text": "hi"}))["seq"] == 2
        assert (await ann.expect("message", room="direct"))["from"] == "dan"
        for name, fields in [("room:leave", {}), ("room:invite", {"user": "eve"}), ("room:kick", {"user": "ann"})]:
            assert error(await dan.ask(name, {"room": "direct", **fields}))["code"] == "forbidden"
        alone = error(await ann.ask("room:create", {"room": "direct-2", "kind": "direct"}))
        assert (alone["code"], alone["field"]) == ("bad_request", "with")


async def test_kick(cluster: Cluster) -> None:
    """The owner may, a member may not; who was kicked hears it with the others, and is out."""
    async with pair(cluster, "kicking") as (ann, bob):
        assert error(await bob.ask("room:kick", {"room": "kicking", "user": "ann-kicking"}))["code"] == "forbidden"
        nobody = error(await ann.ask("room:kick", {"room": "kicking", "user": "nobody"}))
        assert (nobody["code"], nobody["field"]) == ("not_a_member", "user")
        assert ok(await ann.ask("room:kick", {"room": "kicking", "user": "bob-kicking"})) == {"seq": 3}
        for client in (ann, bob):
            left = await client.expect("left")
            assert recent(left.pop("at"))
            assert left == {"room": "kicking", "seq": 3, "user": "bob-kicking", "by": "ann-kicking"}
        assert error(await bob.ask("history", {"room": "kicking"}))["code"] == "not_a_member"
        ok(await ann.ask("message:send", {"room": "kicking", "text": "just us"}))
        await ann.expect("message")
        ok(await bob.ask("room:list", {}))
        assert bob.named("message") == []


async def test_roles(cluster: Cluster) -> None:
    """Only the owner gives them; a moderator may moderate; ownership is handed over."""
    async with pair(cluster, "roles") as (ann, bob):
        wish = {"room": "roles", "user": "bob-roles", "role": "moderator"}
        assert error(await bob.ask("room:role", wish))["code"] == "forbidden"
        assert ok(await ann.ask("room:role", wish)) == {"seq": 3}
        for client in (ann, bob):
            told = await client.expect("room", change="role")
            assert recent(told.pop("at"))
            assert told == {
                "room": "roles",
                "seq": 3,
                "title": "roles",
                "kind": "public",
                "change": "role",
                "by": "ann-roles",
                "user": "bob-roles",
                "role": "moderator",
            }
        sent = ok(await ann.ask("message:send", {"room": "roles", "text": "off topic", "id": "m"}))
        await bob.expect("message", seq=sent["seq"])
        ok(await bob.ask("message:delete", {"room": "roles", "id": "m"}))
        ok(await ann.ask("room:role", wish | {"role": "owner"}))
        await bob.expect("room", role="owner")
        members = ok(await bob.ask("room:members", {"room": "roles"}))["members"]
        assert [(member["user"], member["role"]) for member in members] == [("ann-roles", "moderator"), ("bob-roles", "owner")]


async def test_room_list(cluster: Cluster) -> None:
    """Public rooms and one's own, those one is in first; by name or title, at most as many as asked for."""
    async with pair(cluster, "listing-a", title="Apples and pears") as (ann, _):
        ok(await ann.ask("room:create", {"room": "listing-b", "title": "Plums"}))
        ok(await ann.ask("room:create", {"room": "listing-c", **PRIVATE}))
        listed = ok(await ann.ask("room:list", {"query": "listing-"}))["rooms"]
        assert [room["room"] for room in listed] == ["listing-c", "listing-b", "listing-a"]
        (found,) = ok(await ann.ask("room:list", {"query": "PEARS"}))["rooms"]
        assert found == {
            "room": "listing-a",
            "title": "Apples and pears",
            "kind": "public",
            "role": "owner",
            "seq": 2,
            "read": 0,
            "members": 2,
        }
        assert len(ok(await ann.ask("room:list", {"query": "listing-", "limit": 1}))["rooms"]) == 1


async def test_room_members(cluster: Cluster) -> None:
    """Everybody in it with his role, and whether he is online on any node."""
    async with pair(cluster, "members") as (ann, _):
        assert ok(await ann.ask("room:members", {"room": "members"})) == {
            "members": [
                {"user": "ann-members", "role": "owner", "online": True},
                {"user": "bob-members", "role": "member", "online": True},
            ]
        }
