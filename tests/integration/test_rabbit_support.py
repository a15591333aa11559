"""What the tests of RabbitMQ stand on: brokers, clusters and the proxy do what those tests think that they do."""

import asyncio
import os
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from tests.support.certificates import Certificates
from tests.support.held_port import HOST
from tests.support.nodes import ROOT
from tests.support.rabbit import Rabbit
from tests.support.rabbit_cluster import RabbitCluster
from tests.support.tcp_proxy import TcpProxy
from tests.support.wait import block_until, wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.rabbitmq]

STREAM = "stream"
DEADLINE_S = 30.0
SILENCE_S = 0.5  # long enough for an answer that would come
NOT_NOW = (OSError, aio_pika.exceptions.AMQPError, TimeoutError)


@asynccontextmanager
async def channel(url: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[AbstractChannel]:
    """A channel with confirms, on a connection of its own."""
    connection = await aio_pika.connect(url, timeout=DEADLINE_S, ssl_context=tls)
    try:
        yield await connection.channel()
    finally:
        with suppress(*NOT_NOW):
            async with asyncio.timeout(SILENCE_S):
                await connection.close()


async def declare(opened: AbstractChannel, replicas: int = 1) -> None:
    """The stream of the test, once the broker can have one."""
    await opened.declare_queue(STREAM, durable=True, arguments={"x-queue-type": "stream", "x-initial-cluster-size": replicas})


async def publish(opened: AbstractChannel, body: bytes, limit_s: float = DEADLINE_S) -> None:
    """Returns with the broker's confirm."""
    message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
    await opened.default_exchange.publish(message, STREAM, mandatory=True, timeout=limit_s)


async def read(url: str, count: int) -> list[bytes]:
    """What the stream has, from its beginning, once that is `count` messages; a broker that has just started may refuse it for a moment."""
    got: list[bytes] = []

    async def take(message: AbstractIncomingMessage) -> None:
        got.append(message.body)
        await message.ack()

    async def has_come() -> bool:
        got.clear()
        with suppress(*NOT_NOW):
            async with channel(url) as opened:
                await opened.set_qos(100)
                stream = await opened.get_queue(STREAM)
                await stream.consume(take, arguments={"x-stream-offset": "first"}, timeout=DEADLINE_S)
                await wait_until(lambda: len(got) >= count, SILENCE_S, "all is read")
        return len(got) >= count

    await wait_until(has_come, DEADLINE_S, f"{count} messages are in the stream")
    return got


def processes_in(folder: Path) -> set[int]:
    """Those that run in this folder or below it."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if Path(os.readlink(process / "cwd")).is_relative_to(folder):
                found.add(int(process.name))
    return found


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Those of the broker and its clients."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the broker is that these tests kill and freeze."""
    return tmp_path_factory.mktemp("own-rabbit")


@pytest.fixture(scope="module")
def broker(folder: Path, certificates: Certificates) -> Iterator[Rabbit]:
    """That broker. It listens for TLS too."""
    with Rabbit(folder, tls=certificates) as broker:
        yield broker


# A broker


async def test_a_fresh_vhost_is_empty(rabbit: Rabbit, rabbit_url: str) -> None:
    """What is declared in one vhost is in no other, and goes with it."""
    other = rabbit.fresh_vhost()
    async with channel(rabbit.url_for(other)) as opened:
        await declare(opened)
        assert rabbit.ctl("list_queues", "name", "type", "--vhost", other, "--no-table-headers").split() == [STREAM, "stream"]
        async with channel(rabbit_url) as empty:
            with pytest.raises(aio_pika.exceptions.ChannelNotFoundEntity):
                await empty.get_queue(STREAM)
        rabbit.drop_vhost(other)
        await wait_until(lambda: opened.is_closed, DEADLINE_S, "the connection goes with the vhost")


async def test_a_user_with_few_permissions(rabbit: Rabbit) -> None:
    """He may do in his vhost what was allowed, nothing else there, and nothing in another."""
    vhost = rabbit.fresh_vhost()
    login = rabbit.fresh_user(vhost, configure=f"^{STREAM}$", write="^(amq.default|stream)$")
    async with channel(rabbit.url_for(vhost, login)) as opened:
        await declare(opened)
        await publish(opened, b"allowed")
        with pytest.raises(aio_pika.exceptions.ChannelClosed, match="ACCESS_REFUSED"):
            await opened.declare_queue("other")
    with pytest.raises(NOT_NOW):
        async with channel(rabbit.url_for("/", login)):
            pass
    rabbit.drop_vhost(vhost)


async def test_a_confirmed_message_outlives_the_broker(broker: Rabbit, folder: Path) -> None:
    """Killed at once behind the confirm of its first stream, a broker leaves no process, and comes back on its port with the message."""
    vhost = broker.fresh_vhost()
    async with channel(broker.url_for(vhost)) as opened:
        await declare(opened)
        await publish(opened, b"kept")
        port, pid, before = broker.port, broker.pid, processes_in(folder)
        assert len(before) > 2
        broker.kill()
        await wait_until(lambda: len(processes_in(folder)) == 1, DEADLINE_S, "only the port mapper is left")
        await wait_until(lambda: opened.is_closed, DEADLINE_S, "the client hears of it")
    broker.start()
    broker.wait_ready()
    assert (broker.port, broker.pid != pid) == (port, True)
    assert await read(broker.url_for(vhost), 1) == [b"kept"]


async def test_a_frozen_broker(broker: Rabbit) -> None:
    """It says nothing and closes nothing; thawed, it goes on where it was, on the same connection."""
    async with channel(broker.url_for(broker.fresh_vhost())) as opened:
        await declare(opened)
        broker.freeze()
        waiting = asyncio.create_task(publish(opened, b"held up"))
        assert await asyncio.wait([waiting], timeout=SILENCE_S) == (set(), {waiting})
        assert not opened.is_closed
        broker.thaw()
        await waiting


async def test_tls(broker: Rabbit, certificates: Certificates, tmp_path: Path) -> None:
    """Both sides want a certificate of the tests' authority: a client without one, or with a stranger's, is refused, and refuses."""
    url = broker.url_for(tls=True)

    def trusting(made: Certificates) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=made.authority)

    known = trusting(certificates)
    known.load_cert_chain(certificates.client.certificate, certificates.client.key)
    async with channel(url, known) as opened:
        assert not opened.is_closed
    strangers = Certificates(tmp_path)
    impostor = trusting(certificates)
    impostor.load_cert_chain(strangers.client.certificate, strangers.client.key)
    for refused in (trusting(certificates), impostor, trusting(strangers)):
        with pytest.raises(NOT_NOW):
            async with channel(url, refused):
                pass


def test_nothing_is_left_when_the_tests_are_killed(tmp_path: Path) -> None:
    """A leashed process, and what it has started, go with the process that started it, however that ends."""
    program = (
        "import os, pathlib, sys; from tests.support.leash import LeashedProcess;"
        "LeashedProcess(['/bin/sh', '-c', 'sleep 60 & exec sleep 60'], os.environ, pathlib.Path(sys.argv[1], 'out'));"
        "sys.stdin.read(); os.kill(os.getpid(), 9)"
    )
    tests = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE)
    block_until(lambda: len(processes_in(tmp_path)) == 2, DEADLINE_S, "both run")
    tests.communicate()
    assert tests.returncode == -9
    block_until(lambda: processes_in(tmp_path) == set(), DEADLINE_S, "both are gone")


# The proxy


@pytest.fixture
def proxy(rabbit: Rabbit) -> Iterator[TcpProxy]:
    """A proxy in front of the shared broker."""
    with TcpProxy(rabbit.port) as proxy:
        yield proxy


async def test_a_cut_and_a_partition(proxy: TcpProxy, rabbit_url: str) -> None:
    """`cut` ends what is open and takes what is new; `refuse` takes nothing new until `accept`."""
    url = proxy.before(rabbit_url)
    for end in (proxy.cut, proxy.refuse):
        async with channel(url) as opened:
            await declare(opened)
            assert proxy.connections == 1
            end()
            assert proxy.connections == 0
            await wait_until(lambda opened=opened: opened.is_closed, DEADLINE_S, "the client hears of it")  # type: ignore[misc]
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(HOST, proxy.port)
    proxy.accept()
    async with channel(url) as opened:
        await publish(opened, b"again")


async def test_a_stall(proxy: TcpProxy, rabbit_url: str) -> None:
    """Nothing passes and nothing ends while it lasts; what has waited passes behind it, on the same connection."""
    async with channel(proxy.before(rabbit_url)) as opened:
        await declare(opened)
        proxy.stall()
        waiting = asyncio.create_task(publish(opened, b"held up"))
        assert await asyncio.wait([waiting], timeout=SILENCE_S) == (set(), {waiting})
        assert (opened.is_closed, proxy.connections) == (False, 1)
        proxy.resume()
        await waiting


async def test_a_cut_in_the_middle() -> None:
    """Of a connection that is cut after so many bytes the target gets these and no more; the client is reset; the next one is whole."""
    got: list[bytes] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await reader.read(-1))
        writer.close()

    server = await asyncio.start_server(take, HOST, 0)
    with TcpProxy(server.sockets[0].getsockname()[1]) as proxy:
        proxy.cut_after(150_000)
        reader, writer = await asyncio.open_connection(HOST, proxy.port)
        for _ in range(4):
            writer.write(b"x" * 50_001)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        await wait_until(
            lambda: proxy.cuts == 1 and got == [b"x" * 150_000], DEADLINE_S, "the target has what came before the cut"
        )
        reader, writer = await asyncio.open_connection(HOST, proxy.port)
        writer.write(b"whole")
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        assert (got[1], proxy.cuts) == (b"whole", 1)
    server.close()


# A cluster


async def test_a_cluster_loses_its_leader(rabbit_cluster: RabbitCluster) -> None:
    """Three brokers run as one; a stream with three replicas has another leader when its own is killed, and what was confirmed."""
    vhost = rabbit_cluster.fresh_vhost()
    async with channel(rabbit_cluster[1].url_for(vhost)) as opened:
        await declare(opened, 3)
        await publish(opened, b"kept")
    rabbit_cluster.wait_replicated(vhost)
    leader = rabbit_cluster.leader_of(STREAM, vhost)
    leader.kill()
    heir = rabbit_cluster.leader_of(STREAM, vhost)
    assert heir is not leader
    assert await read(heir.url_for(vhost), 1) == [b"kept"]
    assert rabbit_cluster.url.count(",") == 2
