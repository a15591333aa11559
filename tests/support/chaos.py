"""Everything at once, seeded: a node killed, another one hung, and the brokers restarted one after the other, under talk."""

import asyncio
import random
import time
from collections.abc import Callable

import msgspec

from tests.support.nodes import Cluster
from tests.support.rabbit_cluster import RabbitCluster
from tests.support.replicated import replicated
from tests.support.wait import wait_until

WHOLE_S = 60.0
HUNG_S = (1.0, 4.0)
OFFSET_S = (0.0, 1.5)  # between one trouble and the next of a round
#: settings of the nodes: a hung one is noticed by its clients within some seconds
SETTINGS = {"ping_interval_seconds": "2", "ping_timeout_seconds": "2"}


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """What was done, and how long it took from the last cure until all nodes were ready."""

    killed: str
    hung: str
    hung_s: float
    broker: int
    broker_killed: bool
    whole_after_s: float


async def chaos(
    cluster: Cluster,
    brokers: RabbitCluster,
    vhost: str,
    *,
    seed: int,
    seconds: float,
    tell: Callable[[Round], None] = lambda _: None,
) -> list[Round]:
    """Rounds of trouble for so long; each ends with everything back and the cluster whole. All streams of the vhost are on every broker
    before the next, which is no part of that time.

    The same seed is the same trouble.
    """
    chance = random.Random(seed)
    rounds: list[Round] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        rounds.append(await _round(cluster, brokers, len(rounds) % len(brokers.brokers), chance))
        tell(rounds[-1])
        waited_from = time.monotonic()
        await replicated(brokers, vhost)
        end += time.monotonic() - waited_from
    return rounds


async def _round(cluster: Cluster, brokers: RabbitCluster, turn: int, chance: random.Random) -> Round:
    killed, hung = chance.sample(cluster.nodes, 2)
    broker, violently, hung_s = brokers[turn], chance.random() < 0.5, chance.uniform(*HUNG_S)
    pauses = [chance.uniform(*OFFSET_S) for _ in range(2)]
    hung.pause()
    hung_until = time.monotonic() + hung_s
    await _until(time.monotonic() + pauses[0])
    (broker.kill if violently else broker.stop)()
    await _until(time.monotonic() + pauses[1])
    killed.kill()
    await _until(hung_until)
    hung.resume()
    killed.start()
    broker.start()
    await asyncio.to_thread(broker.wait_ready)
    began = time.monotonic()
    await cluster.wait_whole(WHOLE_S)
    whole_after_s = time.monotonic() - began
    return Round(
        killed=killed.id,
        hung=hung.id,
        hung_s=round(hung_s, 2),
        broker=turn,
        broker_killed=violently,
        whole_after_s=round(whole_after_s, 2),
    )


async def _until(moment: float) -> None:
    await wait_until(lambda: time.monotonic() >= moment, 60.0, "the moment")
