"""Streams of the log that are lost, and truncated behind a node's back: noticed, said, not served from, gone on from with a snapshot."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel

from broker.topology import GENESIS, log_arguments, partition_for, stream_of
from tests.support.client import Client, chat_client, ok
from tests.support.nodes import Cluster, NodeProcess
from tests.support.rabbit import Rabbit
from tests.support.tokens import token
from tests.support.wait import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.rabbitmq, pytest.mark.timeout(300)]

ROOM_PARTITIONS = 8
SEGMENT, KEPT = 200_000, 400_000  # bytes
PATIENCE_S = 60.0


@asynccontextmanager
async def administration(url: str) -> AsyncIterator[AbstractChannel]:
    """A channel for what nobody does to a log while it is well."""
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        yield channel


@asynccontextmanager
async def member(node: NodeProcess, room: str) -> AsyncIterator[Client]:
    async with chat_client(node.url, token("ann")) as client:
        await client.ask("room:create", {"room": room})  # at its second time there is such a room
        yield client


async def texts(node: NodeProcess, room: str, count: int) -> list[str]:
    """What the last messages of the room say."""
    async with chat_client(node.url, token("ann")) as client:
        page = ok(await client.ask("history", {"room": room, "limit": count}))
        return [message["text"] for message in page["messages"]]


async def diverged(node: NodeProcess) -> None:
    await wait_until(lambda: "diverged" in (node.not_ready() or {}), PATIENCE_S, f"{node.id} says that it has diverged")


def stopped(cluster: Cluster) -> None:
    for node in cluster:
        node.terminate()
    for node in cluster:
        assert node.wait_ended() == 0


@pytest.mark.parametrize("others", [0, 3], ids=["gone", "made anew by others"])
async def test_a_stream_is_deleted(rabbit: Rabbit, rabbit_url: str, tmp_path: Path, others: int) -> None:
    """Every node says so and sends its clients away; all restored from one snapshot they have what was said, and go on."""
    room = "lost"
    lost, kept = stream_of(partition_for(room, ROOM_PARTITIONS)), "kept"
    assert stream_of(partition_for(kept, ROOM_PARTITIONS)) != lost
    with Cluster(tmp_path, {"log": rabbit_url}) as cluster:
        async with member(cluster[0], room) as ann:
            for number in range(3):
                ok(await ann.ask("message:send", {"room": room, "text": f"before {number}"}))
            await ann.ask("room:create", {"room": kept})
            ok(await ann.ask("message:send", {"room": kept, "text": "kept"}))
            async with administration(rabbit_url) as channel:
                await channel.queue_delete(lost)
                if others:
                    await channel.declare_queue(lost, durable=True, arguments=dict(log_arguments()))
                    for number in range(others):
                        message = aio_pika.Message(b"a stranger's %d" % number)
                        await channel.default_exchange.publish(message, lost)
            for node in cluster:
                await diverged(node)
            await wait_until(lambda: ann.closed, PATIENCE_S, "ann is sent away")
        stopped(cluster)
        file = str(tmp_path / "snapshot")
        assert cluster[0].tidegate("snapshot", file).returncode == 0
        refused = cluster[0].tidegate("restore", file)
        assert refused.returncode == 1
        assert lost in refused.stderr
        assert "--rebase" in refused.stderr
        for node in cluster:
            restored = node.tidegate("restore", file, "--rebase")
            assert restored.returncode == 0, restored.stderr
            assert f"partition {lost.rpartition('.')[2]} of the log begins anew" in restored.stdout
        cluster.start()
        async with member(cluster[1], room) as ann:
            ok(await ann.ask("message:send", {"room": room, "text": "after"}))
            ok(await ann.ask("message:send", {"room": kept, "text": "kept on"}))
        for node in cluster:
            assert await texts(node, room, 4) == ["before 0", "before 1", "before 2", "after"]
            assert await texts(node, kept, 2) == ["kept", "kept on"]
            alone = node.tidegate("replay", "--verify")
            assert alone.returncode == 1
            assert "snapshot" in alone.stderr
            verified = node.tidegate("replay", "--verify", "--base", file)
            assert verified.returncode == 0, verified.stdout + verified.stderr
        newcomer = NodeProcess("n4", tmp_path, {"log": rabbit_url})
        newcomer.start()
        try:
            newcomer.wait_listening()
            await diverged(newcomer)  # who has nothing of what was lost must not serve without it
        finally:
            newcomer.close()


async def test_a_stream_is_truncated_behind_a_stopped_node(rabbit: Rabbit, rabbit_url: str, tmp_path: Path) -> None:
    """It says so when it comes back and serves nobody, nor does a new one; a peer's snapshot makes it whole, an old one does not."""
    room = "long"
    async with administration(rabbit_url) as channel:
        for name in (GENESIS, *map(stream_of, range(ROOM_PARTITIONS + 1))):
            small = {"x-stream-max-segment-size-bytes": SEGMENT, "x-max-length-bytes": KEPT} if name != GENESIS else {}
            await channel.declare_queue(name, durable=True, arguments={**log_arguments(), **small})
    with Cluster(tmp_path, {"log": rabbit_url, "commands_per_second": "100000", "commands_burst": "100000"}) as cluster:
        away = cluster[2]
        async with member(cluster[0], room) as ann:
            ok(await ann.ask("message:send", {"room": room, "text": "early"}))
            await wait_until(lambda: has(away, room, "early"), PATIENCE_S, "n3 has it")
            old = str(tmp_path / "old")
            assert cluster[0].tidegate("snapshot", old).returncode == 0
            away.terminate()
            assert away.wait_ended() == 0
            for start in range(0, 1_000, 50):
                sends = (ann.ask("message:send", {"room": room, "text": f"{n} " + "x" * 3_000}) for n in range(start, start + 50))
                for answer in await asyncio.gather(*sends):
                    ok(answer)
        away.start()
        away.wait_listening()
        await diverged(away)
        away.terminate()
        assert away.wait_ended() == 0
        for file, works in ((old, False), (str(tmp_path / "new"), True)):
            if works:
                assert cluster[1].tidegate("snapshot", file).returncode == 0
            restored = away.tidegate("restore", file, "--rebase")
            assert (restored.returncode == 0) is works, restored.stdout + restored.stderr
        cluster.start([away])
        assert await texts(away, room, 100) == await texts(cluster[0], room, 100)


async def has(node: NodeProcess, room: str, text: str) -> bool:
    return text in await texts(node, room, 1)
