"""Every command on messages, over real sockets on two nodes: the shapes of acks and events, and who may do what."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.client import Client, chat_client, error, ok
from tests.support.nodes import Cluster
from tests.support.pair import both_hear, pair, recent
from tests.support.tokens import token

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes as they come. Every test has rooms and users of its own."""
    with Cluster(tmp_path_factory.mktemp("chat"), count=2) as cluster:
        yield cluster


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
