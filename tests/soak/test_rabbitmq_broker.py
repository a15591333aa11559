"""Three nodes on one broker, which is killed, frozen, and out of reach of one of them, while everybody talks: nobody misses anything."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.broker_kill import kill_and_start
from tests.support.crowd import UNHURRIED
from tests.support.http import metric
from tests.support.js import js_clients
from tests.support.nodes import Cluster, NodeProcess
from tests.support.rabbit import Rabbit
from tests.support.talk import ALL_S, Talk, same_on_every_node
from tests.support.tcp_proxy import TcpProxy
from tests.support.wait import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.nodejs, pytest.mark.rabbitmq, pytest.mark.timeout(300)]

PARTITIONS = 9  # 8 for rooms, and the control partition
RATE = 1_000  # messages a second, of all together
SLOW_RATE = 60  # where it is not about the load
WHOLE_S = 1.0  # from a broker that takes clients again to a cluster that is whole again
LEVEL_S = 2.0  # from the cure of a partition to a node that is level again
BUSY_S = 3.0  # what a machine with everything else on it may add


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Rabbit]:
    """A broker of one's own, to be killed and frozen."""
    with Rabbit(tmp_path / "broker") as broker:
        yield broker


async def test_the_broker_is_killed_twice(broker: Rabbit, tmp_path: Path) -> None:
    """`kill -9` under 1,000 messages a second, twice: sends are refused in time or acked later, sockets stay, it is whole at once."""
    with Cluster(tmp_path, UNHURRIED | {"log": broker.url}) as cluster:
        async with js_clients() as js:
            talk = Talk(js, cluster, "killed", rate=RATE)
            await talk.begin()
            for _ in range(2):
                await talk.acked(100)
                killed = await kill_and_start(broker, cluster)
                assert killed.whole_after_s < WHOLE_S + BUSY_S
            await talk.acked(100)
            await talk.end()
            talk.check()
            assert js.count("disconnect") == 0
        same_on_every_node(cluster)


async def test_the_broker_hangs(broker: Rabbit, tmp_path: Path) -> None:
    """Frozen for 20 s it closes nothing and answers nothing: sends are refused in time, sockets stay, and it goes on when it does."""
    with Cluster(tmp_path, UNHURRIED | {"log": broker.url}) as cluster:
        async with js_clients() as js:
            talk = Talk(js, cluster, "frozen", rate=SLOW_RATE)
            await talk.begin()
            await talk.acked(20)
            broker.freeze()
            frozen_at = time.monotonic()
            await wait_until(lambda: all("log away" in (node.not_ready() or {}) for node in cluster), 6.0, "they notice")
            await wait_until(lambda: time.monotonic() - frozen_at > 20, 25.0, "20 s are over")
            broker.thaw()
            await cluster.wait_whole(LEVEL_S + BUSY_S)
            await talk.acked(20)
            await talk.end()
            talk.check()
            assert talk.refusals() == {"unavailable"}
            assert js.count("disconnect") == 0
        same_on_every_node(cluster)


async def test_one_node_loses_the_broker(broker: Rabbit, tmp_path: Path) -> None:
    """Cut in the middle of a batch, then out of reach: that node is unready, refuses sends, keeps its sockets, and is level in no time."""
    with (
        TcpProxy(broker.port) as proxy,
        Cluster(tmp_path, UNHURRIED | {"log": broker.url}, own={"n2": {"log": proxy.before(broker.url)}}) as cluster,
    ):
        async with js_clients() as js:
            talk = Talk(js, cluster, "parted", rate=SLOW_RATE)
            await talk.begin()
            for cuts in range(3):
                await talk.acked(10)
                proxy.cut_after(3_000)
                await wait_until(lambda before=cuts: proxy.cuts > before, ALL_S, "n2 is cut off")  # type: ignore[misc]
                await wait_until(lambda: cluster[1].not_ready() == {}, ALL_S, "n2 is back")
            proxy.refuse()
            parted, others = cluster[1], [node for node in cluster if node is not cluster[1]]
            await wait_until(lambda: "log away" in (parted.not_ready() or {}), ALL_S, "n2 notices")
            there = [user for user in talk.users if talk.near(user) is not parted]
            await talk.acked(30, by=there)
            assert all(node.not_ready() == {} for node in others)
            behind = positions(cluster[0])
            proxy.accept()
            await wait_until(lambda: parted.not_ready() == {}, LEVEL_S + BUSY_S, "n2 is ready")
            await wait_until(lambda: positions(parted) >= behind, LEVEL_S + BUSY_S, "n2 is level")
            await talk.acked(20)
            await talk.end()
            talk.check()
            assert talk.refusals() == {"unavailable"}
            assert js.count("disconnect") == 0
        same_on_every_node(cluster)


class Positions(dict[int, int]):
    """How far a node has followed each partition; one is at or over another where it is so in each of them."""

    def __ge__(self, other: "Positions") -> bool:
        return all(self[partition] >= offset for partition, offset in other.items())


def positions(node: NodeProcess) -> Positions:
    return Positions({p: int(metric(node.url, "tidegate_log_position", f'partition="{p}"')) for p in range(PARTITIONS)})
