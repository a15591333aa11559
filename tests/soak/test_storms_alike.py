"""One storm, run by one process, by two workers of one command, and by two that were started apart: it is the same storm."""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support.client import chat_client, ok
from tests.support.nodes import Cluster, NodeProcess
from tests.support.storms import Done, Storming, storm, workers
from tests.support.tokens import token

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

USERS, ROOMS = 12, 4
FLAGS = (
    *("--users", str(USERS), "--spawn-rate", str(USERS), "--rooms", str(ROOMS), "--rate", "2", "--run-time", "6", "--brief"),
    *("--people", "talker=3,listener=2,hopper=1"),
)
UNHURRIED = {"handshake_rate": "1000", "handshake_burst": "1000"}  # the machine is busy: nobody is sent away
WAYS = ("alone", "two processes", "apart")
AT_LEAST = 4  # messages of each talker that every run has to have
AS_DUE_S = 0.0001  # the moments in the texts are rounded


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, NodeProcess]]:
    """One for each run, since people and rooms have the same names in all of them."""
    with ExitStack() as stack:
        clusters = [Cluster(tmp_path_factory.mktemp("node"), UNHURRIED, count=1) for _ in WAYS]
        yield {way: stack.enter_context(cluster)[0] for way, cluster in zip(WAYS, clusters, strict=True)}


@pytest.fixture(scope="module")
def runs(nodes: Mapping[str, NodeProcess], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, "Future[Done]"]]:
    """All at the same time."""
    folder = tmp_path_factory.mktemp("alike")

    def run(way: str) -> Done:
        urls, own = [nodes[way].url], folder / way
        if way != "apart":
            return storm(urls, own, *FLAGS, *(("--processes", "2") if way == "two processes" else ()))
        with workers(2, own) as flags:
            return Storming(urls, own, *FLAGS, *flags).done()

    with ThreadPoolExecutor(len(WAYS)) as pool:
        yield {way: pool.submit(run, way) for way in WAYS}


async def said(node: NodeProcess) -> dict[str, list[tuple[int, str, float]]]:
    """What everybody said, in their own order: the number of the message, the room, when it was due."""
    found: dict[str, list[tuple[int, str, float]]] = {}
    async with chat_client(node.url, token("reader")) as reader:
        for room in (f"load-{number}" for number in range(ROOMS)):
            ok(await reader.ask("room:join", {"room": room}))
            for message in await _history(reader, room):
                one = int(message["id"].partition("-")[2]), room, float(message["text"].partition(" ")[0])
                found.setdefault(message["from"], []).append(one)
    return {name: sorted(messages) for name, messages in found.items()}


async def _history(reader: Any, room: str) -> list[dict[str, Any]]:
    messages, more, after = list[dict[str, Any]](), True, 0
    while more:
        page = ok(await reader.ask("history", {"room": room, "after": after, "limit": 100}))
        messages += page["messages"]
        more, after = page["more"], messages[-1]["seq"] if messages else 0
    return messages


async def test_workers_that_were_started_apart_are_one_storm(
    runs: Mapping[str, "Future[Done]"], nodes: Mapping[str, NodeProcess]
) -> None:
    """They know their master's address alone, and get flags and key from it; one verdict over both, and every count is that of all."""
    done = runs["apart"].result()
    assert done.code == 0, done.told
    assert done.verdict.startswith(f"verdict: clean: {USERS} clients, ") and done.output.count("verdict: ") == 1, done.told
    result = done.result
    assert result is not None and result.ok
    assert (result.cost.processes, result.cost.people, result.verdict.missing) == (2, USERS, 0)
    assert done.count("connect") == result.times["connect"].count == sum(result.series["let in"]) == USERS
    messages = sum(map(len, (await said(nodes["apart"])).values()))
    assert messages == result.verdict.acked == result.times["send to ack"].count == done.count("send to ack") > USERS
    assert done.count("send to delivery") == result.times["send to delivery"].count > messages


async def test_one_seed_is_one_storm_by_however_many_processes(
    runs: Mapping[str, "Future[Done]"], nodes: Mapping[str, NodeProcess]
) -> None:
    """The same people say the same messages in the same rooms, each as long after their first; only where that ends is up to the clock."""
    for way in WAYS:
        assert runs[way].result().code == 0, runs[way].result().told
    first, *others = [await said(nodes[way]) for way in WAYS]
    for other in others:
        assert first.keys() == other.keys()
        for name, mine in first.items():
            together = list(zip(mine, other[name], strict=False))
            assert [(number, room) for (number, room, _), _ in together] == [(number, room) for _, (number, room, _) in together]
            assert [number for (number, _, _), _ in together] == list(range(len(together)))
            if "talker" in name:
                assert len(together) >= AT_LEAST, name
                apart = [(ours[2] - mine[0][2]) - (theirs[2] - other[name][0][2]) for ours, theirs in together]
                assert all(abs(one) < AS_DUE_S for one in apart), (name, apart)
