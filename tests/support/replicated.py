"""Between two brokers of a cluster that are restarted one after the other: until the log is on all of them again."""

import asyncio
import contextlib
import secrets

from broker.batch import encode_mark
from broker.rabbitmq_channel import LinkLost
from tests.support.rabbit_cluster import RabbitCluster
from tests.support.rabbit_log import put
from tests.support.wait import wait_until

REPLICATED_S = 60.0
_NUDGE_S = 2.0
_NUDGE_LIMIT_S = 5.0


async def replicated(brokers: RabbitCluster, vhost: str) -> None:
    """Return once a replica of each stream of a log runs on every broker.

    Who waits says something into a stream that lacks one, as people do: RabbitMQ 3.10.8 takes in a replica that had one message more than
    its new leader, at its end, only once the leader has gone past that place. It tries in vain 20 times a second till then.
    """
    loop = asyncio.get_running_loop()
    nudged_at = loop.time()

    async def everywhere() -> bool:
        nonlocal nudged_at
        missing = await asyncio.to_thread(brokers.not_replicated, vhost)
        if missing and loop.time() - nudged_at > _NUDGE_S:
            nudged_at = loop.time()
            for stream in {*missing} - {"?"}:
                with contextlib.suppress(LinkLost, TimeoutError):  # it has no leader yet
                    async with asyncio.timeout(_NUDGE_LIMIT_S):
                        await put(brokers.awake.url_for(vhost), stream, encode_mark(secrets.token_bytes(16)))
        return not missing

    await wait_until(everywhere, REPLICATED_S, f"the streams of {vhost} are on every broker")
