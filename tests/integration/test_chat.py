"""Every command of PROTOCOL section 6 over real sockets on two nodes: the shapes of acks and events, and who may do what."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support.client import Client, chat_client, error, ok
from tests.support.nodes import Cluster
from tests.support.tokens import at, token

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes as they come. Every test has rooms and users of its own."""
    with Cluster(tmp_path_factory.mktemp("chat"), count=2) as cluster:
        yield cluster


@asynccontextmanager
async def pair(cluster: Cluster, room: str, **fields: Any) -> AsyncIterator[tuple[Client, Client]]:
    """`ann-ROOM` on the first node owns the room, `bob-ROOM` on the second has joined it; both have heard of that."""
    async with chat_client(cluster[0].url, token(f"ann-{room}")) as ann, chat_client(cluster[1].url, token(f"bob-{room}")) as bob:
        ok(await ann.ask("room:create", {"room": room, **fields}))
        ok(await bob.ask("room:join", {"room": room}))
        for client in (ann, bob):
            await client.expect("joined", user=f"bob-{room}")
        yield ann, bob


async def both_hear(clients: tuple[Client, Client], name: str, payload: dict[str, Any], **fields: Any) -> None:
    """Both are sent this event, exactly so."""
    for client in clients:
        assert await client.expect(name, **fields) == payload


def recent(at: Any) -> bool:
    return isinstance(at, int) and abs(time.time() * 1000 - at) < 10_000


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


# Messages


async def test_message_send(cluster: Cluster) -> None:
    """Acked with id, seq and time; sent to all members, the sender included, as it was said; a reply names its message."""
    async with pair(cluster, "talking") as (ann, bob):
        sent = ok(await ann.ask("message:send", {"room": "talking", "text": "Hello <b>ünïcode</b> 👋\n", "id": "first"}))
        assert set(sent) == {"id", "seq", "at"}
        assert (sent["id"], sent["seq"]) == ("first", 3)
        assert recent(sent["at"])
        message = {"room": "talking", "from": "ann-talking", "text": "Hello <b>ünïcode</b> 👋\n", **sent}
        await both_hear((ann, bob), "message", message)
        answered = ok(await bob.ask("message:send", {"room": "talking", "text": "Hi", "reply_to": "first"}))
        reply = {"room": "talking", "from": "bob-talking", "text": "Hi", "reply_to": "first", **answered}
        assert answered["id"]
        await both_hear((ann, bob), "message", reply)
        nothing = error(await bob.ask("message:send", {"room": "talking", "text": "Hi", "reply_to": "no such"}))
        assert (nothing["code"], nothing["field"]) == ("message_not_found", "reply_to")


async def test_message_repeated(cluster: Cluster) -> None:
    """The same author, room and id again gives the first one's seq, on any node, and nobody hears it twice."""
    async with pair(cluster, "repeating") as (ann, bob), chat_client(cluster[1].url, token("ann-repeating")) as elsewhere:
        wish = {"room": "repeating", "text": "once", "id": "x"}
        first = ok(await ann.ask("message:send", wish))
        assert ok(await ann.ask("message:send", wish)) == first | {"duplicate": True}
        await bob.expect("message", id="x")
        assert ok(await elsewhere.ask("message:send", wish)) == first | {"duplicate": True}
        others = ok(await bob.ask("message:send", wish))
        assert others["seq"] == first["seq"] + 1
        for client in (ann, bob):
            await client.expect("message", seq=others["seq"])
            assert [message["seq"] for message in client.named("message")] == [first["seq"], others["seq"]]


async def test_a_repeat_that_overtakes_the_first(cluster: Cluster) -> None:
    """The same message through both nodes at once is one message."""
    async with pair(cluster, "overtaking") as (ann, _), chat_client(cluster[1].url, token("ann-overtaking")) as elsewhere:
        for number in range(10):
            wish = {"room": "overtaking", "text": "once", "id": f"x{number}"}
            answers = [
                ok(one) for one in await asyncio.gather(ann.ask("message:send", wish), elsewhere.ask("message:send", wish))
            ]
            assert answers[0]["seq"] == answers[1]["seq"] == 3 + number
            assert sorted(answer.get("duplicate", False) for answer in answers) == [False, True]


async def test_edit_delete_and_react(cluster: Cluster) -> None:
    """Each is an event with a seq of its own; history shows the message as it reads now."""
    room = "changing"
    async with pair(cluster, room) as (ann, bob):
        ids = ("edited", "deleted", "liked")
        seqs = {
            name: ok(await ann.ask("message:send", {"room": room, "text": f"to be {name}", "id": name}))["seq"] for name in ids
        }
        await bob.expect("message", id="liked")
        by_ann, by_bob = {"room": room, "from": "ann-changing"}, {"room": room, "from": "bob-changing"}

        assert ok(await ann.ask("message:edit", {"room": room, "id": "edited", "text": "better"})) == {"seq": 6}
        at = (await ann.expect("edited"))["at"]
        await both_hear_after(ann, bob, "edited", {**by_ann, "seq": 6, "id": "edited", "of": 3, "text": "better", "at": at})
        assert ok(await ann.ask("message:delete", {"room": room, "id": "deleted"})) == {"seq": 7}
        deleted_at = (await ann.expect("deleted"))["at"]
        await both_hear_after(ann, bob, "deleted", {**by_ann, "seq": 7, "id": "deleted", "of": 4, "at": deleted_at})
        assert ok(await bob.ask("message:react", {"room": room, "id": "liked", "emoji": "👍🏽", "on": True})) == {"seq": 8}
        reacted_at = (await ann.expect("reacted"))["at"]
        reaction = {**by_bob, "seq": 8, "id": "liked", "of": 5, "emoji": "👍🏽", "on": True, "at": reacted_at}
        await both_hear_after(ann, bob, "reacted", reaction)

        messages = ok(await bob.ask("history", {"room": room}))["messages"]
        assert [message.pop("at") > 0 for message in messages] == [True] * 3
        assert messages == [
            {**by_ann, "seq": seqs["edited"], "id": "edited", "text": "better", "edited_at": at},
            {**by_ann, "seq": seqs["deleted"], "id": "deleted", "text": "", "deleted": True}
            | {"deleted_at": deleted_at, "deleted_by": "ann-changing"},
            {**by_ann, "seq": seqs["liked"], "id": "liked", "text": "to be liked", "reactions": {"👍🏽": ["bob-changing"]}},
        ]
        ok(await bob.ask("message:react", {"room": room, "id": "liked", "emoji": "👍🏽", "on": False}))
        assert "reactions" not in ok(await bob.ask("history", {"room": room}))["messages"][-1]


async def both_hear_after(ann: Client, bob: Client, name: str, payload: dict[str, Any]) -> None:
    """Ann has been sent this event just now, and Bob is."""
    assert ann.named(name)[-1] == payload
    assert await bob.expect(name) == payload


async def test_whose_message_it_is(cluster: Cluster) -> None:
    """Only its author edits; its author and those above delete; what is deleted is gone."""
    room = "whose"
    async with pair(cluster, room) as (ann, bob):
        for client, name in ((ann, "hers"), (bob, "his")):
            ok(await client.ask("message:send", {"room": room, "text": "mine", "id": name}))
        await bob.expect("message", id="his")
        await ann.expect("message", id="his")
        assert error(await ann.ask("message:edit", {"room": room, "id": "his", "text": "yours"}))["code"] == "forbidden"
        assert error(await bob.ask("message:delete", {"room": room, "id": "hers"}))["code"] == "forbidden"
        ok(await ann.ask("message:delete", {"room": room, "id": "his"}))
        await bob.expect("deleted")
        changes: list[tuple[str, dict[str, Any]]] = [
            ("edit", {"text": "x"}),
            ("delete", {}),
            ("react", {"emoji": "x", "on": True}),
        ]
        for name, fields in changes:
            gone = error(await bob.ask(f"message:{name}", {"room": room, "id": "his", **fields}))
            assert (gone["code"], gone["field"]) == ("message_not_found", "id")


# In passing


async def test_read_marks(cluster: Cluster) -> None:
    """A mark moves forward and is told to the members, without a seq; `welcome` knows it."""
    async with pair(cluster, "reading") as (ann, bob):
        assert await bob.ask("read", {"room": "reading", "seq": 2}) == {"ok": True}
        await both_hear((ann, bob), "read", {"room": "reading", "user": "bob-reading", "seq": 2})
        assert await bob.ask("read", {"room": "reading", "seq": 1}) == {"ok": True}
        beyond = error(await bob.ask("read", {"room": "reading", "seq": 3}))
        assert (beyond["code"], beyond["field"]) == ("bad_request", "seq")
        ok(await bob.ask("message:send", {"room": "reading", "text": "still here"}))
        await ann.expect("message")
        assert len(ann.named("read")) == 1
        async with chat_client(cluster[0].url, token("bob-reading")) as again:
            assert again.named("welcome")[0]["rooms"][0]["read"] == 2


async def test_typing(cluster: Cluster) -> None:
    """Acked, and passed on to the members on both nodes."""
    async with pair(cluster, "typing") as (ann, bob):
        for on in (True, False):
            assert await bob.ask("typing", {"room": "typing", "on": on}) == {"ok": True}
            assert await ann.expect("typing") == {"room": "typing", "user": "bob-typing", "on": on}
        async with chat_client(cluster[0].url, token("eve")) as eve:
            assert error(await eve.ask("typing", {"room": "typing", "on": True}))["code"] == "not_a_member"


async def test_presence(cluster: Cluster) -> None:
    """Who comes is told at once, who goes after a grace time; both can be asked for."""
    async with pair(cluster, "present") as (ann, bob):
        assert ok(await ann.ask("presence", {"room": "present"})) == {"online": ["ann-present", "bob-present"]}
        await bob.aclose()
        assert await ann.expect("presence", user="bob-present", online=False) == {"user": "bob-present", "online": False}
        assert ok(await ann.ask("presence", {"room": "present"})) == {"online": ["ann-present"]}
        async with chat_client(cluster[1].url, token("bob-present")):
            assert await ann.expect("presence", user="bob-present") == {"user": "bob-present", "online": True}


# Reading


async def test_history_pages(cluster: Cluster) -> None:
    """Newest page first, oldest message of a page first; `before` and `after` go through all of it, once."""
    async with pair(cluster, "pages") as (ann, bob):
        for number in range(7):
            ok(await ann.ask("message:send", {"room": "pages", "text": f"{number}"}))
        await bob.expect("message", text="6")

        async def page(**fields: int) -> tuple[list[str], bool]:
            found = ok(await bob.ask("history", {"room": "pages", **fields}))
            assert set(found) == {"messages", "more"}
            return [message["text"] for message in found["messages"]], found["more"]

        assert await page() == (["0", "1", "2", "3", "4", "5", "6"], False)
        assert await page(limit=3) == (["4", "5", "6"], True)
        assert await page(limit=3, before=7) == (["1", "2", "3"], True)
        assert await page(limit=3, before=4) == (["0"], False)
        assert await page(limit=3, after=0) == (["0", "1", "2"], True)
        assert await page(limit=3, after=5) == (["3", "4", "5"], True)
        assert await page(limit=3, after=6) == (["4", "5", "6"], False)
        assert await page(after=9) == ([], False)
        both = error(await bob.ask("history", {"room": "pages", "before": 5, "after": 3}))
        assert both["code"] == "bad_request"


async def test_search(cluster: Cluster) -> None:
    """Words of messages as they read now, in one's own rooms, newest first; a room narrows it down."""
    async with pair(cluster, "searched") as (ann, bob):
        for number, text in enumerate(["a red apple", "a green apple", "an apple, once", "a pear"]):
            ok(await ann.ask("message:send", {"room": "searched", "text": text, "id": f"s{number}"}))
        ok(await ann.ask("message:edit", {"room": "searched", "id": "s2", "text": "a quince"}))
        ok(await ann.ask("message:delete", {"room": "searched", "id": "s0"}))
        ok(await ann.ask("room:create", {"room": "searched-too"}))
        ok(await ann.ask("message:send", {"room": "searched-too", "text": "apple pie", "id": "s9"}))
        await bob.expect("deleted")

        async def find(client: Client, query: str, **fields: Any) -> list[str]:
            return [message["id"] for message in ok(await client.ask("search", {"query": query, **fields}))["messages"]]

        assert await find(bob, "apple") == ["s1"]
        assert await find(bob, "quince") == ["s2"]
        assert await find(ann, "apple") == ["s9", "s1"]
        assert await find(ann, "apple", limit=1) == ["s9"]
        assert await find(ann, "apple", room="searched") == ["s1"]
        assert await find(ann, 'apple" OR "pear') == []  # the index's own grammar is not the user's
        assert error(await bob.ask("search", {"query": "apple", "room": "searched-too"}))["code"] == "not_a_member"
