"""A cluster on RabbitMQ that a real Prometheus watches while a small storm of the load test runs, and all that can be broken about it."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from tests.support.amqp_proxy import AmqpProxy
from tests.support.held_port import HOST, HeldPort
from tests.support.issuer import IssuerServer, KeyPair, issuer_server
from tests.support.leash import LeashedProcess
from tests.support.nodes import ROOT, Cluster
from tests.support.prometheus import Firing, Prometheus, Watch
from tests.support.rabbit import Rabbit
from tests.support.tokens import SECRET
from tests.support.wait import wait_until

PACE = 20.0  # an hour passes in three minutes
LIMIT_S = 30.0  # until an alert fires or clears, on a machine that is busy with other tests
CAPACITY = 6.0  # handshakes a second of the cluster, as it is set
BURST = 22  # of each node
KEY = KeyPair("a", "ES256")
#: Held by promtool alone, and not here, since at this pace one append of half a second in 15 s, or 3 s in which other processes have the
#: cores, is enough for them: they fire in calm too on a busy machine of two cores, and what they say is true of it, whatever the fault is.
OF_THE_MACHINE = {"TidegateLoopLag", "TidegateAppendSlow"}
_SETTINGS = {
    "handshake_rate": str(CAPACITY / 3),
    "handshake_burst": str(BURST),
    "jwt_algorithms": "HS256,ES256",
    "jwks_refresh_seconds": "1",
    "jwks_stale_seconds": "16",
}
_PEOPLE = (
    "--users",
    "9",
    "--spawn-rate",
    "9",
    "--rooms",
    "2",
    "--rate",
    "3",
    "--ttl",
    "8",
    "--renewing",
    "0.5",
    "--run-time",
    "300",
)


class Watched:
    """The parts. `began` is when Prometheus did (s of the epoch)."""

    def __init__(
        self, cluster: Cluster, rabbit: Rabbit, proxy: "ProxyAside", issuer: IssuerServer, prometheus: Prometheus, watch: Watch
    ) -> None:
        self.cluster, self.rabbit, self.proxy, self.issuer = cluster, rabbit, proxy, issuer
        self.prometheus, self.watch = prometheus, watch
        self.began = time.time()

    async def raises(
        self, expected: set[Firing], fault: Callable[[], Awaitable[object]], cure: Callable[[], Awaitable[object]]
    ) -> None:
        """The fault raises all of these alerts and nothing else, then or later; its cure clears them."""
        await self.calm("before the fault")
        self.watch.begin()
        await fault()
        await wait_until(lambda: self.firing >= expected, LIMIT_S, f"all of {expected} fire")
        await cure()
        await self.calm("after the cure")
        seen = {one for one in self.watch.seen if one.alert not in OF_THE_MACHINE}
        assert seen == expected, f"{seen - expected} fired too"

    async def calm(self, when: str) -> None:
        """Wait until nothing fires."""
        try:
            await wait_until(lambda: not self.firing, LIMIT_S, f"nothing fires {when}")
        except AssertionError as late:
            raise AssertionError(f"{late}: {self.firing}") from None

    @property
    def firing(self) -> set[Firing]:
        """What fires now, but for what is the machine's."""
        return {one for one in self.watch.now if one.alert not in OF_THE_MACHINE}


@asynccontextmanager
async def watched(folder: Path) -> AsyncIterator[Watched]:
    """All of it, in calm."""
    metrics = HeldPort()
    plugin = f'[{{tcp_config, [{{port, {metrics}}}, {{ip, "{HOST}"}}]}}]'
    with Rabbit(folder / "broker", plugins={"rabbitmq_prometheus": plugin}) as rabbit:
        async with issuer_server() as issuer, _proxy_aside(rabbit.port) as proxy:
            issuer.keys = [KEY.jwk()]
            settings = _SETTINGS | {"log": rabbit.url, "jwks_url": issuer.jwks_url}
            deaf = {"log": rabbit.url.replace(f":{rabbit.port}", f":{proxy.port}")}
            cluster = Cluster(folder, settings, own={"n3": deaf})
            await asyncio.to_thread(cluster.__enter__)
            try:
                nodes = {node.id: node.url.removeprefix("http://") for node in cluster}
                others = {("rabbitmq", "rabbit1"): f"{HOST}:{metrics}"}
                with Prometheus(folder / "prometheus", nodes, others, pace=PACE) as prometheus, _people(folder, cluster):
                    watch = Watch(prometheus)
                    await wait_until(lambda: _all_asked(prometheus, nodes), LIMIT_S, "each node has been asked once")
                    watching = asyncio.create_task(watch.run())
                    yield Watched(cluster, rabbit, proxy, issuer, prometheus, watch)
                    watching.cancel()
            except BaseException as error:
                cluster.__exit__(type(error), error, None)
                raise
            cluster.__exit__(None, None, None)
    metrics.release()


async def _all_asked(prometheus: Prometheus, nodes: Mapping[str, str]) -> bool:
    """Whether Prometheus knows each node: of one that it has never reached, it could not tell who that is."""
    there = await prometheus.instant("tidegate_build_info")
    return {series["metric"]["node"] for series in there} == set(nodes)


class ProxyAside:
    """A proxy before the broker with a thread and an event loop of its own: a crowd in the tests' loop is not to make its node deaf."""

    def __init__(self, proxy: AmqpProxy, loop: asyncio.AbstractEventLoop) -> None:
        self._proxy, self._loop = proxy, loop
        self.port = proxy.port

    def deafen(self, word: str) -> None:
        """Bring no delivery to connections with this word in their names, neither to those that are open nor to later ones."""
        self._loop.call_soon_threadsafe(lambda: self._proxy.deafen(word, later=True))

    def mend(self, word: str) -> None:
        """Cut those that are deaf; later ones are not."""
        self._loop.call_soon_threadsafe(self._proxy.hear, word)
        self._loop.call_soon_threadsafe(self._proxy.cut, word)


@asynccontextmanager
async def _proxy_aside(broker_port: int) -> AsyncIterator[ProxyAside]:
    loop, ended = asyncio.new_event_loop(), asyncio.Event()
    serving: asyncio.Future[ProxyAside] = asyncio.get_running_loop().create_future()
    ours = asyncio.get_running_loop()

    async def serve() -> None:
        async with AmqpProxy(broker_port).listening() as proxy:
            ours.call_soon_threadsafe(serving.set_result, ProxyAside(proxy, loop))
            await ended.wait()

    thread = asyncio.create_task(asyncio.to_thread(loop.run_until_complete, serve()))
    try:
        yield await serving
    finally:
        loop.call_soon_threadsafe(ended.set)
        await thread
        loop.close()


@contextmanager
def _people(folder: Path, cluster: Cluster) -> Iterator[None]:
    """The load test: people who talk, whose tokens end, who renew them or fall off and come back."""
    command = [sys.executable, "-m", "locust", "-f", str(ROOT / "loadtest" / "locustfile.py"), "--headless", "--only-summary"]
    command += ["--host", ",".join(cluster.urls), *_PEOPLE]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("TIDEGATE_", "LOCUST_"))}
    environment = clean | {"PYTHONPATH": str(ROOT), "TIDEGATE_JWT_SECRET": SECRET}
    output = folder / "people.out"
    process = LeashedProcess(command, environment, output)
    try:
        yield
        assert process.running, output.read_text()
    finally:
        process.kill()
