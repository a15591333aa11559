"""Nodes that die and nodes that take their leave, in the middle of a crowd: nobody misses anything, and they come back the same."""

from collections.abc import Iterator

import pytest

from tests.support.crowd import ALL_S, UNHURRIED, Crowd, history
from tests.support.js import js_clients
from tests.support.nodes import Cluster
from tests.support.wait import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.nodejs]

EACH = 60  # messages of each of 9 users


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes, whose every test leaves them running; each test has a room of its own."""
    with Cluster(tmp_path_factory.mktemp("kill"), UNHURRIED) as cluster:
        yield cluster


async def same_history_everywhere(cluster: Cluster, room: str, count: int) -> None:
    pages = [await history(node, room) for node in cluster]
    assert pages[0] == pages[1] == pages[2]
    assert len(pages[0]) == count


async def test_a_node_is_killed(cluster: Cluster) -> None:
    """Its clients resume on another node; what was acked is there once and in order; started again, it has the same history."""
    victim = cluster[1]
    async with js_clients() as js:
        crowd = Crowd(js, cluster, "killed", per_node=3)
        await crowd.gather()
        crowd.say(EACH)
        await crowd.acked(crowd.sent // 5)
        victim.kill()
        assert js.count("acked") < crowd.sent
        await crowd.acked()
        await crowd.seen()
        await crowd.back(crowd.on(victim))
        verdict = crowd.verdict()
        assert verdict.faults == ()
        assert verdict.acked == crowd.sent
        assert len(crowd.orders()) == 1
        for user in crowd.users:
            first, *later = crowd.welcomes(user)
            assert [again["resumed"] for again in later] == ([True] if user in crowd.on(victim) else [])
            assert all(again["node"] != victim.id and again["session"] != first["session"] for again in later)
        cluster.start([victim])
        await same_history_everywhere(cluster, crowd.room, crowd.sent)


async def test_all_nodes_are_killed_at_once(cluster: Cluster) -> None:
    """The same with nobody left: the clients try until the nodes are back."""
    async with js_clients() as js:
        crowd = Crowd(js, cluster, "all-killed", per_node=3)
        await crowd.gather()
        crowd.say(EACH)
        await crowd.acked(crowd.sent // 5)
        for node in cluster:
            node.kill()
        assert js.count("acked") < crowd.sent
        await wait_until(lambda: js.count("disconnect") == len(crowd.users), ALL_S, "everybody is disconnected")
        cluster.start()
        await crowd.acked()
        await crowd.seen()
        await crowd.back(crowd.users)
        verdict = crowd.verdict()
        assert verdict.faults == ()
        assert verdict.acked == crowd.sent
        assert len(crowd.orders()) == 1
        for user in crowd.users:
            assert [welcome["resumed"] for welcome in crowd.welcomes(user)] == [False, True]
        await same_history_everywhere(cluster, crowd.room, crowd.sent)


async def test_a_node_drains(cluster: Cluster) -> None:
    """SIGTERM: told, its clients' transports are closed, they go on elsewhere by themselves; the process ends well."""
    leaving = cluster[2]
    async with js_clients() as js:
        crowd = Crowd(js, cluster, "drained", per_node=3)
        await crowd.gather()
        await crowd.upgraded()
        crowd.say(EACH)
        await crowd.acked(crowd.sent // 5)
        leaving.terminate()
        await crowd.acked()
        await crowd.seen()
        await crowd.back(crowd.on(leaving))
        assert leaving.wait_ended() == 0
        verdict = crowd.verdict()
        assert verdict.faults == ()
        assert verdict.acked == crowd.sent
        assert len(crowd.orders()) == 1
        for user in crowd.users:
            moved = user in crowd.on(leaving)
            told = [line["payload"] for line in js.of(user, "told", event="draining")]
            assert len(told) == moved
            assert all(set(notice) == {"retry_after"} and notice["retry_after"] > 0 for notice in told)
            assert [line["reason"] for line in js.of(user, "disconnect")] == ["transport close"] * moved
            assert [welcome["resumed"] for welcome in crowd.welcomes(user)] == [False, *[True] * moved]
        cluster.start([leaving])
        await same_history_everywhere(cluster, crowd.room, crowd.sent)
