"""Going on from a snapshot deletes a stream, and so it is done only where nothing is in it; and what is lost is told from what is late."""

import asyncio
import secrets
import time
from contextlib import aclosing
from pathlib import Path

import aio_pika
import pytest

from broker.batch import encode_mark
from broker.log import START, Log, LogDiverged, LogUnavailable, Position
from broker.rabbitmq import open_rabbitmq
from broker.topology import GENESIS, stream_of
from tests.support.commands import tidegate
from tests.support.rabbit import Rabbit
from tests.support.tcp_proxy import TcpProxy
from tests.support.tokens import SECRET
from tests.support.up import Up

pytestmark = [pytest.mark.anyio]

LIMIT_S = 30.0


async def records(log: Log, count: int) -> list[bytes]:
    found: list[bytes] = []
    async with aclosing(log.follow(0, START)) as batches, asyncio.timeout(LIMIT_S):
        while len(found) < count:
            found += [record.data for record in await anext(batches)]
    return found


async def test_what_has_events_is_not_made_anew(rabbit_url: str) -> None:
    """A position that the stream does not hold, before or behind its end, deletes nothing that was acked."""
    async with open_rabbitmq([rabbit_url], partitions=2, name="a") as broker:
        await broker.log.append_all(0, [b"one", b"two"])
        end = await broker.log.end(0)
        assert await broker.log.holds(0, end)
        for position in (Position(end.offset + 4096 * 100, 7), Position(end.offset, end.checksum ^ 1)):
            assert not await broker.log.holds(0, position)
            with pytest.raises(LogDiverged, match="has events"):
                await broker.log.rebase(0, position, anew=True)
        assert await records(broker.log, 2) == [b"one", b"two"]
        based = await broker.log.rebase(1, Position(4097, 7), anew=True)  # nothing is in it
        assert await broker.log.rebase(1, Position(4097, 7), anew=False) == based
        assert await broker.log.holds(1, based)
        assert not await broker.log.holds(1, START)


async def test_silence_is_not_emptiness(rabbit: Rabbit, rabbit_url: str) -> None:
    """Over a connection that gives nothing any more neither question has an answer, in bounded time, and the stream stays."""
    with TcpProxy(rabbit.port) as proxy:
        async with open_rabbitmq([proxy.before(rabbit_url)], partitions=1, name="a") as broker:
            await broker.log.append(0, b"one")
            end = await broker.log.end(0)
            proxy.stall()
            began = time.monotonic()
            with pytest.raises(LogUnavailable):
                await broker.log.holds(0, end)
            with pytest.raises(LogUnavailable):
                await broker.log.rebase(0, end, anew=True)
            assert time.monotonic() - began < LIMIT_S + 10
            proxy.resume()
    async with open_rabbitmq([rabbit_url], partitions=1, name="b") as broker:
        assert await records(broker.log, 1) == [b"one"]


async def test_a_lost_genesis_is_said_again(rabbit_url: str) -> None:
    """Where only the stream that names the log is gone, its other streams say which it was."""
    async with open_rabbitmq([rabbit_url], partitions=2, name="a") as broker:
        epoch = broker.log.epoch
        await broker.log.append(0, b"one")
    async with await aio_pika.connect(rabbit_url) as connection, connection.channel() as channel:
        await channel.queue_delete(GENESIS)
    async with open_rabbitmq([rabbit_url], partitions=2, name="a") as broker:
        assert broker.log.epoch == epoch
        assert await records(broker.log, 1) == [b"one"]


async def test_an_end_behind_many_marks_is_found(rabbit_url: str) -> None:
    """However often the end was asked for since, it is the last record."""
    async with open_rabbitmq([rabbit_url], partitions=1, name="a") as broker:
        await broker.log.append(0, b"one")
        end = await broker.log.end(0)
        async with await aio_pika.connect(rabbit_url) as connection, connection.channel() as channel:
            for _ in range(12):
                marks = (aio_pika.Message(encode_mark(secrets.token_bytes(16))) for _ in range(100))
                await asyncio.gather(*(channel.default_exchange.publish(mark, stream_of(0)) for mark in marks))
        assert await broker.log.end(0) == end


def test_a_damaged_snapshot_changes_nothing(rabbit_url: str, tmp_path: Path) -> None:
    """It is refused before the log is looked at; so is one whose log cannot be reached."""
    own = {"log": rabbit_url, "jwt_secret": SECRET, "data": str(tmp_path / "data")}
    with Up(tmp_path, "--nodes", "1", "--log", rabbit_url, "--data", tmp_path / "data", jwt_secret=SECRET) as up:
        up.wait_ready(1)
    whole, damaged = tmp_path / "whole", tmp_path / "damaged"
    assert tidegate("snapshot", whole, folder=tmp_path, **own).returncode == 0
    content = bytearray(whole.read_bytes())
    content[8_192:20_000] = bytes(len(content[8_192:20_000]))
    damaged.write_bytes(content)
    refused = tidegate("restore", damaged, "--rebase", "--node-id", "n2", folder=tmp_path, **own)
    assert refused.returncode == 1
    assert "damaged" in refused.stderr
    away = own | {"log": "amqp://guest:guest@127.0.0.1:1/"}
    unreached = tidegate("restore", whole, "--rebase", "--node-id", "n2", folder=tmp_path, **away)
    assert unreached.returncode == 1
    assert "cannot restore" in unreached.stderr
