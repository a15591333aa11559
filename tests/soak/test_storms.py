"""Each scenario, short, on real clusters, with the verdict as the gate; and each fault of a node, which the suite has to find.

Some storms run side by side: they wait for their moments most of the time.
"""

import json
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.nodes import Cluster
from tests.support.rabbit import Rabbit
from tests.support.storm_hook import hook
from tests.support.storms import Done, Storming, storm
from tests.support.wait import block_until

pytestmark = pytest.mark.timeout(300)  # whoever comes first waits for what was begun before
PEOPLE = ("--users", "24", "--spawn-rate", "12", "--rooms", "4", "--rate", "1", "--brief")
BROKER_S = 60.0  # until nodes notice that theirs is away, or back
BUSY_MS = 3_000  # what a machine with everything else on it may add
UNHURRIED = {"handshake_rate": "1000", "handshake_burst": "1000"}  # the machine is busy: nobody is sent away
#: On the same two nodes, each with rooms and people of its own.
SHARED = {
    "cliff": ("--cliff-at", "5", "--run-time", "10", "--renewing", "0.5"),
    "morning": ("--cliff-at", "7", "--run-time", "11"),
    "revocation": ("--cliff-at", "4", "--run-time", "10"),
    "cross-check": ("--run-time", "7"),
    "stock": ("--scenario", "cliff", "--clients", "stock", "--cliff-at", "5", "--run-time", "10"),
    "two-workers": ("--scenario", "cliff", "--processes", "2", "--cliff-at", "6", "--run-time", "11"),
    "replay": ("--sessions", "sessions.jsonl", "--processes", "2", "--users", "5", "--spawn-rate", "5", "--run-time", "6"),
}
#: The nodes at which the people of the log to replay were, each from so many seconds on to its end.
RECORDED = (("n1", 0), ("n1", 0.1), ("n2", 0.2), ("n1", 0.5), ("n2", 1))
#: Each on a local cluster of its own, of which it ends nodes.
LOCAL = {
    "rolling": ("--local", "2", "--cliff-at", "4", "--run-time", "25", "--settle", "30"),
    "node-loss": ("--local", "2", "--cliff-at", "4", "--run-time", "14"),
}


AT_ONCE = 3
Storms = Mapping[str, "Future[Done]"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The nodes of those that share them."""
    with Cluster(tmp_path_factory.mktemp("shared"), UNHURRIED, count=2) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def storms(shared: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storms]:
    """All of them, under way or about to be."""
    folder = tmp_path_factory.mktemp("storms")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = {}
        (folder / "replay").mkdir()
        (folder / "replay" / "sessions.jsonl").write_text("".join(recorded(*one) for one in enumerate(RECORDED)))
        for name, flags in {**LOCAL, **SHARED}.items():
            scenario = () if "--scenario" in flags else ("--scenario", name)
            urls = [] if name in LOCAL else shared.urls
            found[name] = pool.submit(storm, urls, folder / name, *PEOPLE, "--prefix", name, *scenario, *flags)
        yield found


def recorded(number: int, someone: tuple[str, float]) -> str:
    """As `tidegate sessions --json` has it: of somebody who was there for two seconds."""
    node, since_s = someone
    times = {"opened_at": int(since_s * 1000), "closed_at": int(since_s * 1000) + 2_000, "expires_at": 3_600_000}
    return json.dumps({"session": f"s{number}", "node": node, "namespace": "/", "reason": "client", **times}) + "\n"


def first_sessions(shared: Cluster, prefix: str) -> dict[str, dict[str, Any]]:
    """Of everybody whose name begins so, by the rest of it."""
    told = shared[0].tidegate("sessions", "--since", "1h ago", "--json")
    assert told.returncode == 0, told.stderr
    found: dict[str, dict[str, Any]] = {}
    for one in sorted(map(json.loads, told.stdout.splitlines()), key=lambda session: session["opened_at"]):
        if one["user"].startswith(f"{prefix}-"):
            found.setdefault(one["user"].removeprefix(f"{prefix}-"), one)
    return found


def clean(storms: Storms, name: str, *, people: int = 24) -> Done:
    """It has ended well."""
    done = storms[name].result()
    assert done.code == 0, done.told
    assert done.verdict.startswith(f"verdict: clean: {people} clients, "), done.told
    assert done.result is not None and done.result.ok
    return done


def figure(done: Done, name: str) -> float:
    """One that has been measured."""
    assert done.result is not None
    value = done.result.figures[name]
    assert value is not None, name
    return value


@pytest.mark.rabbitmq
def test_broker_restart(storms: Storms, tmp_path: Path) -> None:
    """The broker is killed under people who talk, and comes back: what was acked is there, once and in order, for everybody.

    The others are under way meanwhile.
    """
    asked, whole = list[dict[str, str]](), threading.Event()
    with Rabbit(tmp_path / "rabbit") as rabbit, Cluster(tmp_path, UNHURRIED | {"log": rabbit.url}, count=2) as cluster:

        def restart(variables: Mapping[str, str]) -> None:
            asked.append(dict(variables))
            rabbit.kill()
            block_until(lambda: all("log away" in (node.not_ready() or {}) for node in cluster), BROKER_S, "the nodes notice")
            rabbit.start()
            rabbit.wait_ready()
            block_until(lambda: all(node.not_ready() == {} for node in cluster), BROKER_S, "the nodes have it again")
            whole.set()

        flags = ("--scenario", "broker-restart", "--cliff-at", "3", "--run-time", "240", "--settle", "30")
        with (
            hook(restart) as command,
            closing(Storming(cluster.urls, tmp_path / "storm", *PEOPLE, *flags, "--hook", command)) as one,
        ):
            block_until(lambda: asked, BROKER_S, f"the hook is asked\n{one.told()}")
            assert whole.wait(3 * BROKER_S), one.told()
            looks = one.told().count(" here | ")  # there is one every two seconds
            block_until(lambda: one.told().count(" here | ") > looks + 1, BROKER_S, "they talk for some seconds more")
            one.stop()
            done = one.done()
    assert asked == [{"STORM_FAULT": "broker", "STORM_NODE": "0", "STORM_HOST": ""}]
    assert done.code == 0, done.told
    assert done.verdict.startswith("verdict: clean: 24 clients, "), done.told
    result = done.result
    assert result is not None and result.ok
    assert (result.figures["lost"], result.figures["duplicated"], result.figures["out_of_order"]) == (0, 0, 0)
    killed, back = result.marks
    assert (killed.name, back.name) == ("the broker is killed", "it is back")
    assert result.times["send to ack"].max_ms > 1000 * (back.at_s - killed.at_s) / 3, "somebody had to wait for the broker"


def test_node_loss(storms: Storms) -> None:
    """A node is killed: its people are back on another one."""
    done = clean(storms, "node-loss")
    assert done.result is not None and done.result.ends == {"lost": 12}
    assert figure(done, "all_back_s") < 15
    assert [mark.name for mark in done.result.marks] == ["node 2 is killed", "it is back"]
    assert done.result.nodes.cpu_s > 0


def test_rolling(storms: Storms) -> None:
    """The nodes drain one after the other: each tells its people, who are elsewhere at once."""
    done = clean(storms, "rolling")
    assert done.result is not None and done.result.ends["draining"] >= 24
    marks = [mark.name for mark in done.result.marks]
    assert marks == ["node 1 drains", "it is back", "node 2 drains", "it is back"]


def test_cliff(storms: Storms) -> None:
    """Every token ends in one moment: half renew before it, the others are put out, none early, and are back."""
    done = clean(storms, "cliff")
    assert done.result is not None and done.result.struck_s == 5
    ended, renewed = done.result.ends["token_expired"], done.count("renewal")
    assert ended + renewed == 24 and ended > 5 and renewed > 5
    assert sum(done.result.series["lost"][4:8]) == ended
    assert figure(done, "all_back_s") < 10
    assert [mark.name for mark in done.result.marks] == ["all tokens end"]


def test_morning(storms: Storms) -> None:
    """Who slept is refused with the stale token, comes back with a fresh one, and has missed nothing."""
    done = clean(storms, "morning")
    assert done.result is not None
    slept = done.result.refusals["connect token_expired"]
    assert slept > 12
    assert done.result.times["reconnect"].count >= slept
    assert done.result.times["send to delivery, missed and replayed"].count > 0


def test_revocation(storms: Storms) -> None:
    """Some are put out within a second, refused with the token that they had, and let in with another; nobody else notices."""
    done = clean(storms, "revocation")
    assert done.result is not None
    put_out = done.result.times["revocation"].count
    assert 0 < put_out < 24
    assert figure(done, "revocation_max_ms") < 1_000 + BUSY_MS
    assert done.result.ends == {"token_revoked": put_out}
    assert done.result.refusals == {"connect token_revoked": put_out}


def test_cross_check(storms: Storms) -> None:
    """Locust's own client has seen the same as ours, and has waited as long for its acks."""
    done = clean(storms, "cross-check")
    assert done.result is not None
    ours, theirs = (done.result.times[name] for name in ("send to ack", "send to ack, SocketIOUser"))
    assert ours.count > 10 and theirs.count > 10
    assert theirs.p50_ms < 3 * ours.p50_ms + 50 and ours.p50_ms < 3 * theirs.p50_ms + 50


def test_stock_clients(storms: Storms) -> None:
    """They renew nothing and resume nothing: all are put out, all come back by themselves, and what was said meanwhile is lost to them."""
    done = storms["stock"].result()
    assert done.result is not None, done.told
    assert done.result.ends == {"token_expired": 24}
    assert done.result.times["reconnect"].count == 24
    assert done.result.times["reconnect"].p50_ms > 400
    assert done.result.verdict.leftover.away == 0
    assert (done.faults("duplicated"), done.faults("late"), done.faults("accepted")) == (0, 0, 0)
    assert done.code == (0 if done.faults("lost") + done.faults("hole") == 0 else 1)


def test_two_workers_are_one_storm(storms: Storms, shared: Cluster) -> None:
    """Their tokens end in the same moment, histories are judged together, measures add up; who takes part is the same as with one."""
    done = clean(storms, "two-workers")
    assert done.result is not None and done.result.cost.processes == 2
    assert done.result.times["connect"].count == 24 == sum(done.result.series["let in"][:5])
    assert sum(done.result.series["lost"]) == sum(done.result.series["lost"][5:9]) == done.result.ends["token_expired"]
    clean(storms, "cliff")
    assert first_sessions(shared, "two-workers").keys() == first_sessions(shared, "cliff").keys()


def test_replay(storms: Storms, shared: Cluster) -> None:
    """Each person of the log comes once, whichever of two workers has how many of them: at their node, and not before they did."""
    done = clean(storms, "replay", people=5)
    assert done.result is not None
    found = first_sessions(shared, "replay")
    assert {name: session["node"] for name, session in found.items()} == {
        f"replayer-{number}": node for number, (node, _) in enumerate(RECORDED)
    }
    ahead_s = 2.0  # a second in which they are set up, and one more
    for number, (_, since_s) in enumerate(RECORDED):
        assert found[f"replayer-{number}"]["opened_at"] >= 1000 * (done.result.began + ahead_s + since_s) - 10


# What has to be found

CROWD = ("--users", "30", "--spawn-rate", "30", "--rooms", "1", "--brief", "--people", "talker=1")
#: By the fault of a node: how often it happens, the flags of a storm in which it does, and the kinds of faults in the verdict.
FAULTS = {
    "drop": (10_000, ("--rate", "2", "--run-time", "9"), {"lost"}),
    "twice": (2_000, ("--rate", "1", "--run-time", "7"), {"duplicated"}),
    "swap": (2_000, ("--rate", "1", "--run-time", "7"), {"out_of_order"}),
    "late": (0, ("--rate", "1", "--ttl", "3", "--renewing", "0.5", "--run-time", "6"), {"late"}),
    "early": (0, ("--rate", "1", "--ttl", "3", "--renewing", "0.5", "--run-time", "6"), {"early"}),
    "accept": (0, ("--rate", "0.5", "--scenario", "morning", "--cliff-at", "5", "--run-time", "8"), {"accepted", "late"}),
}


def test_each_fault_of_a_node_is_found(tmp_path: Path) -> None:
    """Deliveries left out (one of 10,000), made twice, swapped, past an end; sessions ended before it, ended tokens taken: exit 1."""
    with ExitStack() as stack:
        found = {}
        for fault, (every, flags, _) in FAULTS.items():
            settings = UNHURRIED | {"test_fault": fault, "test_every": str(every), "commands_per_second": "1000"}
            (tmp_path / fault).mkdir()
            faulty = stack.enter_context(Cluster(tmp_path / fault, settings, count=1, module="tests.support.faulty_node"))
            found[fault] = Storming(faulty.urls, tmp_path / fault, *CROWD, "--settle", "3", *flags)
            stack.callback(found[fault].close)
        done = {fault: storming.done() for fault, storming in found.items()}
    for fault, (_, _, kinds) in FAULTS.items():
        one = done[fault]
        assert one.code == 1, (fault, one.told)
        assert one.verdict.startswith("verdict: NOT CLEAN: 30 clients, "), (fault, one.told)
        assert one.result is not None
        assert {kind for kind, count in one.result.verdict.counts.items() if count} == kinds, (fault, one.told)
        assert any(line.startswith(tuple(kinds)) for line in one.result.verdict.faults)
