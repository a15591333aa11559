"""A broker killed and started again under three nodes: how long until it takes clients, and until the cluster is whole."""

import asyncio
import time

import msgspec

from tests.support.nodes import Cluster
from tests.support.rabbit import Rabbit
from tests.support.wait import block_until, wait_until

NOTICED_S, MENDED_S = 30.0, 60.0


class Kill(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds: from the start of the new process until it takes clients; from there until it has opened its streams, for which
    it reads what stands in the newest segment of each; and from there, too, until all nodes are ready.
    """

    boot_s: float
    streams_after_s: float
    whole_after_s: float


async def kill_and_start(broker: Rabbit, cluster: Cluster) -> Kill:
    """`kill -9`, wait until every node says that the log is away, start it again, wait until every node is ready."""
    broker.kill()
    await wait_until(lambda: all("log away" in (node.not_ready() or {}) for node in cluster), NOTICED_S, "the nodes notice")
    began = time.monotonic()
    broker.start()
    await asyncio.to_thread(broker.wait_ready)
    booted = time.monotonic()
    opening = asyncio.create_task(_streams_open(broker))
    await cluster.wait_whole(MENDED_S)
    whole = time.monotonic()
    return Kill(boot_s=booted - began, streams_after_s=await opening - booted, whole_after_s=whole - booted)


async def _streams_open(broker: Rabbit) -> float:
    """When they were."""
    await asyncio.to_thread(block_until, lambda: broker.serves_streams, MENDED_S, "the streams are open")
    return time.monotonic()
