"""Three nodes on three brokers, of which one after the other goes, while everybody talks: nobody misses anything."""

import asyncio
from pathlib import Path

import pytest

from broker.topology import partition_for, stream_of
from tests.support.chaos import SETTINGS, chaos
from tests.support.crowd import UNHURRIED
from tests.support.js import js_clients
from tests.support.nodes import Cluster
from tests.support.rabbit_cluster import RabbitCluster
from tests.support.replicated import replicated
from tests.support.talk import ALL_S, TOLERANCE_MS, Talk, same_on_every_node

pytestmark = [pytest.mark.anyio, pytest.mark.nodejs, pytest.mark.timeout(300)]

ROOM_PARTITIONS = 8
RATE = 60  # messages a second, of all together; `bench/chaos.py` has more of them, on a machine that has nothing else to do
WORST_APPEND_MS = 2_000
CHAOS_S, SEED = 60.0, 1


async def test_the_leader_of_a_stream_is_killed(rabbit_cluster: RabbitCluster, tmp_path: Path) -> None:
    """Under load no message waits for its ack for 2 s."""
    vhost = rabbit_cluster.fresh_vhost()
    with Cluster(tmp_path, UNHURRIED | {"log": rabbit_cluster.url_for(vhost)}) as cluster:
        async with js_clients() as js:
            talk = Talk(js, cluster, "led", rate=RATE)
            await talk.begin()
            await talk.acked(20)
            leader = rabbit_cluster.leader_of(stream_of(partition_for(talk.rooms[0], ROOM_PARTITIONS)), vhost)
            leader.kill()
            await talk.acked(20)
            leader.start()
            await asyncio.to_thread(leader.wait_ready)
            await talk.acked(20)
            await talk.end()
            talk.check()
            assert talk.slowest_ack_ms() < WORST_APPEND_MS + TOLERANCE_MS
            assert js.count("disconnect") == 0
        same_on_every_node(cluster)


async def test_each_broker_is_restarted_in_turn(rabbit_cluster: RabbitCluster, tmp_path: Path) -> None:
    """In order, as for an upgrade, under load: no socket is closed, nothing is lost."""
    vhost = rabbit_cluster.fresh_vhost()
    with Cluster(tmp_path, UNHURRIED | {"log": rabbit_cluster.url_for(vhost)}) as cluster:
        async with js_clients() as js:
            talk = Talk(js, cluster, "rolling", rate=RATE)
            await talk.begin()
            for broker in rabbit_cluster:
                await talk.acked(10)
                broker.stop()
                await talk.acked(10)
                broker.start()
                await asyncio.to_thread(broker.wait_ready)
                await cluster.wait_whole(ALL_S)
                await replicated(rabbit_cluster, vhost)
            await talk.end()
            talk.check()
            assert js.count("disconnect") == 0
        same_on_every_node(cluster)


async def test_everything_at_once(rabbit_cluster: RabbitCluster, tmp_path: Path) -> None:
    """For a minute: one node killed, one hung, brokers rolling, again and again. `bench/chaos.py` does it for five."""
    vhost = rabbit_cluster.fresh_vhost()
    with Cluster(tmp_path, UNHURRIED | SETTINGS | {"log": rabbit_cluster.url_for(vhost)}) as cluster:
        async with js_clients() as js:
            talk = Talk(js, cluster, "chaos", rate=RATE)
            await talk.begin()
            rounds = await chaos(cluster, rabbit_cluster, vhost, seed=SEED, seconds=CHAOS_S)
            await talk.acked(5)
            await talk.end()
            talk.check(in_time=False)
            assert len(rounds) > 1
        same_on_every_node(cluster)
