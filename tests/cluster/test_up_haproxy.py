"""Official JavaScript clients on `tidegate up --haproxy`: whatever is killed, they come back at the same address and miss nothing."""

import json
import os
import signal
from collections.abc import Iterator

import pytest

from tests.support.commands import tidegate
from tests.support.crowd import UNHURRIED, Crowd
from tests.support.http import fetch
from tests.support.js import js_clients
from tests.support.tokens import SECRET
from tests.support.up import START_S, STOP_S, Up
from tests.support.wait import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.nodejs, pytest.mark.haproxy]

EACH = 60  # messages of each of 9 users
POLLING, WEBSOCKET, BOTH = ["polling"], ["websocket"], ["polling", "websocket"]
WAYS = [POLLING, WEBSOCKET, BOTH, WEBSOCKET, BOTH, POLLING, BOTH, POLLING, WEBSOCKET]  # of each some on every node


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """The cluster; when it has been stopped, the read model of each node is what the log says."""
    folder = tmp_path_factory.mktemp("up")
    with Up(folder, "--haproxy", "--data", folder / "data", jwt_secret=SECRET, **UNHURRIED) as up:  # type: ignore[arg-type]
        up.wait_ready(4)
        yield up
        up.process.send_signal(signal.SIGTERM)
        assert up.process.wait(STOP_S) == 0, up.output
        assert up.pids() == {}
        assert "Traceback" not in up.output
        for name in ("n1", "n2", "n3"):
            same = tidegate("replay", "--verify", "--data", folder / "data", "--node-id", name, folder=folder)
            assert same.returncode == 0, same.stdout


async def each_is_reached(up: Up) -> None:
    """Return once newcomers come to each node: the proxy looks twice a second whether one that was started again is ready."""
    met = set()

    def all_met() -> bool:
        opened = json.loads(fetch(f"{up.urls['haproxy']}/socket.io/?EIO=4&transport=polling").text[1:])
        met.add(opened["sid"].partition(".")[0])
        return met == {"n1", "n2", "n3"}

    await wait_until(all_met, START_S, "the proxy sends newcomers to each node")


async def talk_on(crowd: Crowd) -> None:
    """Everybody has said all he had to say and heard everything, once and in one order."""
    await crowd.acked()
    await crowd.seen()
    verdict = crowd.verdict()
    assert verdict.faults == ()
    assert verdict.acked == crowd.sent
    assert len(crowd.orders()) == 1


@pytest.mark.parametrize(
    ("number", "end"), [(signal.SIGKILL, "was ended by SIGKILL"), (signal.SIGTERM, "ended with exit code 0")]
)
async def test_a_node_goes(up: Up, number: signal.Signals, end: str) -> None:
    """Killed or drained under a crowd: its users, by polling or WebSocket, resume; the node is started again.

    Who is told `draining` while he polls may have a POST under way: its refusal may come first, and is the end as well.
    """
    await each_is_reached(up)
    async with js_clients() as js:
        crowd = Crowd(js, [up.urls["haproxy"]], f"node-{number}", per_node=9, ways=WAYS)
        await crowd.gather()
        await crowd.upgraded()
        began = {user: crowd.welcomes(user)[0]["node"] for user in crowd.users}
        assert set(began.values()) == {"n1", "n2", "n3"}
        victim = began[crowd.users[0]]
        orphans = [user for user in crowd.users if began[user] == victim]
        process = up.pids()[victim]
        crowd.say(EACH)
        await crowd.acked(crowd.sent // 5)
        os.kill(process, number)
        assert js.count("acked") < crowd.sent
        await talk_on(crowd)
        await crowd.back(orphans)
        for user, way in zip(crowd.users, WAYS, strict=True):
            told = len(js.of(user, "told", event="draining"))
            assert [again["resumed"] for again in crowd.welcomes(user)] == [False, *[True] * (user in orphans)]
            assert told == (number == signal.SIGTERM and user in orphans) or (way == POLLING and told == 0)
        await wait_until(lambda: f"{victim} {end}" in up.output, STOP_S, f"the node ends\n{up.output}")
        again = f"{victim} is ready again at {up.urls[victim]}"
        await wait_until(lambda: again in up.output.partition(f"{victim} {end}")[2], START_S, "it is started again")


async def test_the_proxy_is_killed(up: Up) -> None:
    """Who loses his connection waits in its port until it is there again, and resumes; who was between two polls loses nothing."""
    async with js_clients() as js:
        crowd = Crowd(js, [up.urls["haproxy"]], "proxy", per_node=9, ways=WAYS)
        await crowd.gather()
        await crowd.upgraded()
        process = up.pids()["haproxy"]
        crowd.say(EACH)
        await crowd.acked(crowd.sent // 5)
        os.kill(process, signal.SIGKILL)
        assert js.count("acked") < crowd.sent
        await talk_on(crowd)
        await crowd.back([user for user, way in zip(crowd.users, WAYS, strict=True) if way != POLLING])
        for user in crowd.users:
            lost = js.of(user, "disconnect")
            assert [again["resumed"] for again in crowd.welcomes(user)] == [False, *[True] * len(lost)]
            assert len(lost) <= 1
        again = f"haproxy is ready again at {up.urls['haproxy']}"
        await wait_until(lambda: again in up.output, START_S, "the supervisor says so")
