"""Coming back and keeping up: resume, replay and its pages, the slow socket, and how much one may ask."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from loadtest.checker import Ack, History, Sight, Watch, check, posted
from tests.support.client import Client, ConnectRefused, chat_client, error, ok, raw_client
from tests.support.http import bearer, fetch, metric
from tests.support.nodes import Cluster
from tests.support.tokens import token
from tests.support.wait import wait_until

pytestmark = pytest.mark.anyio

REPLAY = 10  # events in one replay
OUTBOX = 120_000  # bytes
TEXT = 50_000  # characters: some hundred such messages are more than the kernel keeps for a socket
SENDERS_SHARE = 50  # messages on their way at once: fewer than what one session may have waiting


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes with small limits, on which users may ask quickly."""
    settings = {
        "replay_events": str(REPLAY),
        "page": "5",
        "outbox_bytes": str(OUTBOX),
        "text_chars": str(TEXT),
        "commands_per_second": "100000",
        "commands_burst": "100000",
    }
    with Cluster(tmp_path_factory.mktemp("resume"), settings, count=2) as cluster:
        yield cluster


def live(client: Client) -> list[dict[str, Any]]:
    """What a client was sent live, as a replay would have it."""
    return [{"event": name, **payload} for name, payload in client.events if "seq" in payload and name != "read"]


async def test_replay_is_what_was_sent_live(cluster: Cluster) -> None:
    """Every kind of event, in pages of the limit, the same as it was; `complete` once there is no more."""
    async with chat_client(cluster[0].url, token("ann")) as ann, chat_client(cluster[1].url, token("bob")) as bob:
        ok(await ann.ask("room:create", {"room": "replayed", "title": "All"}))
        ok(await bob.ask("room:join", {"room": "replayed"}))
        for number in range(6):
            ok(await ann.ask("message:send", {"room": "replayed", "text": f"{number}", "id": f"m{number}"}))
        ok(await ann.ask("message:edit", {"room": "replayed", "id": "m1", "text": "one"}))
        ok(await ann.ask("message:delete", {"room": "replayed", "id": "m2"}))
        ok(await ann.ask("message:react", {"room": "replayed", "id": "m3", "emoji": "+", "on": True}))
        ok(await ann.ask("room:role", {"room": "replayed", "user": "bob", "role": "moderator"}))
        ok(await ann.ask("room:kick", {"room": "replayed", "user": "bob"}))
        ok(await bob.ask("room:join", {"room": "replayed"}))
        await wait_until(lambda: len(live(ann)) == 14, 5, "everything arrives")
        first = ok(await bob.ask("replay", {"room": "replayed", "after": 0}))
        assert (len(first["events"]), first["complete"]) == (REPLAY, False)
        second = ok(await bob.ask("replay", {"room": "replayed", "after": REPLAY}))
        assert second["complete"] is True
        assert first["events"] + second["events"] == live(ann)
        assert ok(await bob.ask("replay", {"room": "replayed", "after": 14})) == {"events": [], "complete": True}
        assert ok(await bob.ask("replay", {"room": "replayed", "after": 3, "limit": 2}))["events"] == live(ann)[3:5]


async def missed(cluster: Cluster, room: str, count: int) -> tuple[Client, dict[str, Any], list[dict[str, Any]]]:
    """`bob` leaves the second node and misses `count` messages: his resume, and what he missed."""
    async with chat_client(cluster[0].url, token("ann")) as ann:
        async with chat_client(cluster[1].url, token("bob")) as bob:
            ok(await ann.ask("room:create", {"room": room}))
            ok(await bob.ask("room:join", {"room": room}))
            resume = {"session": bob.named("welcome")[0]["session"], "cursors": {room: 2}}
        for number in range(count):
            ok(await ann.ask("message:send", {"room": room, "text": f"{number}"}))
        await wait_until(lambda: len(live(ann)) == 2 + count, 5, "everything arrives")
        return ann, resume, live(ann)[2:]


async def test_resume_on_another_node(cluster: Cluster) -> None:
    """After `welcome` and before anything live: every event missed, once, in order."""
    _, resume, events = await missed(cluster, "resumed", 5)
    async with chat_client(cluster[0].url, token("bob"), resume=resume) as bob:
        assert bob.events[0][0] == "welcome"
        assert bob.events[0][1]["resumed"] is True
        assert bob.events[0][1]["session"] != resume["session"]
        replay = await bob.expect("replay")
        assert replay == {"room": "resumed", "after": 2, "to": 7, "complete": True, "events": events}
        sent = ok(await bob.ask("message:send", {"room": "resumed", "text": "back"}))
        await bob.expect("message", seq=sent["seq"])
        assert [name for name, _ in bob.events if name != "presence"] == ["welcome", "replay", "message"]


async def test_resume_over_the_limit(cluster: Cluster) -> None:
    """`complete` is false, and the client pages on from where the replay ended."""
    _, resume, events = await missed(cluster, "far-behind", REPLAY + 7)
    async with chat_client(cluster[0].url, token("bob"), resume=resume) as bob:
        replay = await bob.expect("replay")
        assert (replay["after"], replay["to"], replay["complete"]) == (2, 2 + REPLAY, False)
        rest = ok(await bob.ask("replay", {"room": "far-behind", "after": replay["to"]}))
        assert replay["events"] + rest["events"] == events
        assert rest["complete"] is True


async def test_resume_that_knows_too_much_or_nothing(cluster: Cluster) -> None:
    """A session that was not one's own is not resumed; rooms one is not in bring nothing; a cursor past the end neither."""
    _, resume, _ = await missed(cluster, "odd", 1)
    cursors = {"odd": 99, "no-such-room": 0}
    async with chat_client(cluster[1].url, token("bob"), resume={"session": "made-up", "cursors": cursors}) as bob:
        assert bob.events[0][1]["resumed"] is False
        assert await bob.expect("replay") == {"room": "odd", "after": 3, "to": 3, "complete": True, "events": []}
    async with chat_client(cluster[1].url, token("eve"), resume=resume) as eve:
        assert eve.events[0][1]["resumed"] is False
        ok(await eve.ask("room:list", {}))
        assert eve.named("replay") == []


@pytest.mark.parametrize("resume", [1, [], {"cursors": []}, {"cursors": {"r": "1"}}, {"cursors": {"r": -1}}, {"session": 5}])
async def test_resume_of_the_wrong_shape(cluster: Cluster, resume: Any) -> None:
    """Refused, with a code of its own: the token was not at fault."""
    async with raw_client(cluster[0].url) as client:
        with pytest.raises(ConnectRefused) as refused:
            await client.join_namespace({"token": token("bob"), "resume": resume})
        assert refused.value.code == "bad_request"


def outboxes(cluster: Cluster) -> dict[str, Any]:
    """What the second node tells of the first, to an operator."""
    answer = fetch(f"{cluster[1].url}/api/cluster", headers=bearer(token("boss", scope="admin")))
    state: dict[str, Any] = answer.json()["nodes"]["n1"]
    return state


async def test_slow_socket(cluster: Cluster) -> None:
    """Who does not read is named, sent no more past the limit, and told where to replay from; nobody else waits; nothing is lost."""
    room, count, text = "slow", 150, "x" * TEXT
    async with (
        chat_client(cluster[0].url, token("ann")) as ann,
        raw_client(cluster[0].url, receive_buffer=4_096) as bob,
    ):
        ok(await ann.ask("room:create", {"room": room}))
        await bob.join_namespace({"token": token("bob")})
        ok(await bob.ask("room:join", {"room": room}))
        bob.stop_reading()
        for begun in range(0, count, SENDERS_SHARE):
            sends = (
                ann.ask("message:send", {"room": room, "text": text, "id": f"m{number}"})
                for number in range(begun, begun + SENDERS_SHARE)
            )
            for answer in await asyncio.gather(*sends):
                ok(answer)
        await wait_until(lambda: len(ann.named("message")) == count, 5, "the others have everything")
        await wait_until(lambda: outboxes(cluster)["slow_sockets"] == 1, 5, "the other node's operator sees a slow socket")
        named, *_ = outboxes(cluster)["fullest"]  # a busy sender may have something unsent, for a moment
        assert (named["session"], named["user"]) == (bob.named("welcome")[0]["session"], "bob")
        assert named["slow"] is True and outboxes(cluster)["outbox_bytes"] >= named["unsent"] >= OUTBOX
        bob.read_again()
        resync = await bob.expect("resync", room=room)
        assert set(resync) == {"room", "after"}
        kept = live(bob)
        assert kept[-1]["seq"] == resync["after"] < 2 + count
        pages: list[dict[str, Any]] = []
        complete = False
        while not complete:
            page = ok(await bob.ask("replay", {"room": room, "after": resync["after"] + len(pages)}))
            pages, complete = pages + page["events"], page["complete"]
        sent = ok(await ann.ask("message:send", {"room": room, "text": "live again", "id": "last"}))
        await bob.expect("message", seq=sent["seq"])
        seen = [*kept, *pages, live(bob)[-1]]
        history = History(
            client="bob",
            acks=[Ack(room=room, seq=message["seq"], event=posted("ann", message["id"])) for message in ann.named("message")],
            sights=[Sight(room=room, seq=e["seq"], event=posted(e["from"], e["id"])) for e in seen if e["event"] == "message"],
            watches=[Watch(room=room, after=2)],
        )
        verdict = check([history])
        assert verdict.faults == ()
        assert verdict.acked >= count


async def test_who_does_not_read_his_answers_waits_for_them(cluster: Cluster) -> None:
    """Past the limit no further command of his is carried out until he has read; then each is answered, in order."""
    room, asked = "unread", 60
    async with (
        chat_client(cluster[0].url, token("ann")) as ann,
        raw_client(cluster[0].url, receive_buffer=4_096) as bob,
    ):
        ok(await ann.ask("room:create", {"room": room}))
        for number in range(5):
            ok(await ann.ask("message:send", {"room": room, "text": "x" * TEXT, "id": f"m{number}"}))
        await bob.join_namespace({"token": token("bob")})
        ok(await bob.ask("room:join", {"room": room}))
        bob.stop_reading()
        acks = [await bob.begin_ask("history", {"room": room}) for _ in range(asked)]
        ok(await ann.ask("message:send", {"room": room, "text": "bob hears nothing of it", "id": "m5"}))
        assert outbox_bytes(cluster) < OUTBOX + 6 * TEXT
        bob.read_again()
        await wait_until(lambda: bob.acked(acks[-1]) is not None, 5, "the last answer")
        assert [len(answer[0]["messages"]) for ack in acks if (answer := bob.acked(ack)) is not None] == [5] * asked


@pytest.mark.parametrize("packet", ['4299["auth:refresh",{"token":"x"}]', "40/nowhere,"])
async def test_what_is_refused_waits_for_who_does_not_read_too(cluster: Cluster, packet: str) -> None:
    """However many renewals or CONNECTs he sends past what he may, his outbox does not grow by their answers."""
    room = f"flood-{len(packet)}"
    async with (
        chat_client(cluster[0].url, token("ann")) as ann,
        raw_client(cluster[0].url, receive_buffer=4_096) as bob,
    ):
        ok(await ann.ask("room:create", {"room": room}))
        await bob.join_namespace({"token": token("bob")})
        ok(await bob.ask("room:join", {"room": room}))
        bob.stop_reading()
        before = await stuck_outbox(cluster, ann, room)
        for _ in range(5_000):
            await bob.send(packet)
        for _ in range(20):  # the node has time to read them
            ok(await ann.ask("room:list", {}))
        assert outbox_bytes(cluster) < before + 50_000


async def stuck_outbox(cluster: Cluster, ann: Client, room: str) -> float:
    """Have so much said in a room that nothing more of it goes to who does not read; returns the bytes that wait for him."""
    for _ in range(60):
        before = outbox_bytes(cluster)
        await asyncio.gather(*(ann.ask("message:send", {"room": room, "text": "x" * TEXT}) for _ in range(10)))
        if before == outbox_bytes(cluster) >= OUTBOX:
            return before
    raise AssertionError("whatever is said goes on to who does not read")


async def test_who_asks_on_and_never_reads_is_closed(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What he asks waits, in his own buffers in the end; when he does not come to answer a ping, the connection ends as `slow`."""
    settings = {"outbox_bytes": str(OUTBOX), "text_chars": str(TEXT), "ping_interval_seconds": "1", "ping_timeout_seconds": "1"}
    with Cluster(tmp_path_factory.mktemp("silent"), settings, count=1) as cluster:
        async with (
            chat_client(cluster[0].url, token("ann")) as ann,
            raw_client(cluster[0].url, receive_buffer=4_096) as bob,
        ):
            ok(await ann.ask("room:create", {"room": "unread"}))
            for number in range(10):
                ok(await ann.ask("message:send", {"room": "unread", "text": "x" * TEXT, "id": f"m{number}"}))
            await bob.join_namespace({"token": token("bob")})
            ok(await bob.ask("room:join", {"room": "unread"}))
            bob.stop_reading()
            with pytest.raises(ConnectionClosed):
                await ask_for_ever(bob)
            await wait_until(lambda: slow_ends(cluster) == 1, 5, "the session ends")
            assert outbox_bytes(cluster) == 0


async def ask_for_ever(client: Client) -> None:
    for _ in range(50_000):  # ten times what it takes
        await client.begin_ask("history", {"room": "unread", "pad": "x" * 2_000})


def outbox_bytes(cluster: Cluster) -> float:
    return sum(metric(node.url, "tidegate_outbox_bytes") for node in cluster)


def slow_ends(cluster: Cluster) -> float:
    return metric(cluster[0].url, "tidegate_session_ends_total", 'reason="slow"')


async def test_rate_limit(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A burst, and then so many a second, of all of a user's sockets on a node; `retry_after` says when, and is right."""
    settings = {"commands_per_second": "5", "commands_burst": "10"}
    with Cluster(tmp_path_factory.mktemp("rate"), settings, count=1) as cluster:
        url = cluster[0].url
        async with (
            chat_client(url, token("ann")) as one,
            chat_client(url, token("ann")) as two,
            chat_client(url, token("bob")) as bob,
        ):
            answers = await asyncio.gather(*(client.ask("room:list", {}) for client in (one, two) for _ in range(10)))
            refused = [error(answer) for answer in answers if not answer["ok"]]
            assert 8 <= len(refused) <= 10  # a second of a busy machine may let a few more pass
            assert all(one["code"] == "rate_limited" and 0 < one["retry_after"] <= 1_000 for one in refused)
            ok(await bob.ask("room:list", {}))
            limited = await one.ask("room:list", {})
            while not limited["ok"]:
                await asyncio.sleep(limited["error"]["retry_after"] / 1000)
                limited = await one.ask("room:list", {})
            ok(await bob.ask("room:list", {}))


async def test_renewals_have_a_quota_of_their_own(cluster: Cluster) -> None:
    """Ten at once, then one a second, for each session, since each is an event in the log; a refused one changes nothing."""
    async with chat_client(cluster[0].url, token("ann")) as ann, chat_client(cluster[0].url, token("ann")) as other:
        answers = [await ann.ask("auth:refresh", {"token": token("ann")}) for _ in range(20)]
        assert all(answer["ok"] for answer in answers[:10])
        refused = [error(answer) for answer in answers[10:] if not answer["ok"]]
        assert refused
        assert all(one["code"] == "rate_limited" and 0 < one["retry_after"] <= 1_000 for one in refused)
        ok(await ann.ask("room:list", {}))
        ok(await other.ask("auth:refresh", {"token": token("ann")}))


WRONG: list[tuple[str, dict[str, Any], str, str | None]] = [
    ("message:send", {"room": "errors"}, "bad_request", "text"),
    ("message:send", {"text": "x"}, "bad_request", "room"),
    ("message:send", {"room": "errors", "text": 5}, "bad_request", "text"),
    ("message:send", {"room": "errors", "text": ""}, "bad_request", "text"),
    ("message:send", {"room": "errors", "text": "x" * (TEXT + 1)}, "too_large", "text"),
    ("message:send", {"room": "errors", "text": "x", "id": ""}, "bad_request", "id"),
    ("message:send", {"room": "errors", "text": "x", "id": "y" * 129}, "too_large", "id"),
    ("message:send", {"room": "No Name", "text": "x"}, "bad_request", "room"),
    ("message:send", {"room": "x" * 65, "text": "x"}, "bad_request", "room"),
    ("message:send", {"room": "nowhere", "text": "x"}, "room_not_found", "room"),
    ("message:edit", {"room": "errors", "id": "nothing", "text": "x"}, "message_not_found", "id"),
    ("message:react", {"room": "errors", "id": "m", "emoji": "x" * 33, "on": True}, "too_large", "emoji"),
    ("message:react", {"room": "errors", "id": "m", "emoji": "x", "on": "yes"}, "bad_request", "on"),
    ("room:create", {"room": "errors-2", "kind": "secret"}, "bad_request", "kind"),
    ("room:create", {"room": "errors-2", "title": "x" * 201}, "too_large", "title"),
    ("room:role", {"room": "errors", "user": "bob", "role": "king"}, "bad_request", "role"),
    ("history", {"room": "errors", "limit": 0}, "bad_request", "limit"),
    ("history", {"room": "errors", "before": -1}, "bad_request", "before"),
    ("replay", {"room": "errors"}, "bad_request", "after"),
    ("search", {"query": ""}, "bad_request", "query"),
    ("read", {"room": "errors", "seq": 1.5}, "bad_request", "seq"),
    ("typing", {"room": "errors"}, "bad_request", "on"),
]


@pytest.mark.parametrize(("name", "payload", "code", "field"), WRONG, ids=lambda value: json.dumps(value)[:40])
async def test_refusals(cluster: Cluster, name: str, payload: dict[str, Any], code: str, field: str | None) -> None:
    """Each has its code, the field at fault, and a message for people."""
    async with chat_client(cluster[1].url, token("bob")) as bob:
        made = await bob.ask("room:create", {"room": "errors"})
        assert made["ok"] or made["error"]["code"] == "room_exists"
        ok(await bob.ask("message:send", {"room": "errors", "text": "x", "id": "m"}))
        refused = error(await bob.ask(name, payload))
        assert (refused["code"], refused.get("field")) == (code, field)
        assert refused["message"]
