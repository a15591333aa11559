"""deploy/rabbitmq: a real broker takes the files; Tidegate's user may do what Tidegate does, and nothing else."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import AMQPError

from tests.support.client import PATIENCE_S, Client, chat_client, ok
from tests.support.compose import brokers, make_secrets
from tests.support.deployed_rabbit import DeployedRabbit
from tests.support.http import fetch
from tests.support.nodes import Cluster
from tests.support.tokens import token
from tests.support.wait import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.rabbitmq]


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the service `secrets` makes."""
    folder = tmp_path_factory.mktemp("secrets")
    make_secrets(folder)
    return folder


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory, secrets: Path) -> Iterator[DeployedRabbit]:
    """A broker with the files and these secrets."""
    with DeployedRabbit(tmp_path_factory.mktemp("broker") / "rabbit1", secrets / "rabbitmq") as broker:
        yield broker


def where(secrets: Path) -> tuple[str, str]:
    """The vhost and the login in the nodes' URL."""
    url = urlsplit((secrets / "node" / "log").read_text())
    return url.path.removeprefix("/"), url.netloc.rpartition("@")[0]


@pytest.fixture
async def channel(broker: DeployedRabbit, secrets: Path) -> AsyncIterator[AbstractChannel]:
    """A channel of the nodes' user, in their vhost."""
    async with await aio_pika.connect(broker.url_for(*where(secrets))) as connection:
        yield await connection.channel()


def named(*texts: str) -> str:
    """A list of these texts, as Erlang writes it."""
    return "[{}]".format(",".join('<<"{}">>'.format(text.replace("\\", "\\\\")) for text in texts))


def test_what_is_defined_is_there(broker: DeployedRabbit, secrets: Path) -> None:
    """One vhost, one user, no guest, and his permissions; the file was read as ours and the plugin is on."""
    definitions = json.loads((secrets / "rabbitmq" / "definitions.json").read_text())
    (permission,) = definitions["permissions"]
    assert broker.erlang("[Name || [{user, Name} | _] <- rabbit_auth_backend_internal:list_users()]") == named("tidegate")
    assert broker.erlang("rabbit_vhost:list_names()") == named("tidegate")
    told = 'rabbit_auth_backend_internal:list_vhost_permissions(<<"tidegate">>)'
    texts = ["tidegate", *(permission[kind] for kind in ("configure", "write", "read"))]
    assert broker.erlang(f"[Text || One <- {told}, {{_, Text}} <- One]") == named(*texts)
    assert "guest" in broker.erlang("application:get_env(rabbit, loopback_users)")
    assert broker.erlang("rabbit_nodes:cluster_name()") == '<<"tidegate">>'
    assert broker.erlang("net_kernel:get_net_ticktime()") == "5"
    assert broker.erlang("application:get_env(kernel, net_setuptime)") == "{ok,1}"


def test_prometheus_is_answered(broker: DeployedRabbit) -> None:
    """The metrics are where the configuration says."""
    assert "\nrabbitmq_build_info" in fetch(broker.metrics_url).text


def test_it_is_healthy(broker: DeployedRabbit) -> None:
    """What Compose asks is answered with yes."""
    kind, command = brokers()["rabbit1"]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    for one in command.split(" && "):
        tool, quiet, check = one.split()
        assert quiet == "-q"
        broker.ctl(check, tool=tool)


async def joined(client: Client, room: str) -> bool:
    """Try to join a room."""
    return bool((await client.ask("room:join", {"room": room}))["ok"])


async def test_tidegate_may_do_what_it_does(broker: DeployedRabbit, secrets: Path, tmp_path: Path) -> None:
    """Two nodes that sign in as those of Compose do make their log and speak to each other over it."""
    url = broker.url_for(*where(secrets))
    with Cluster(tmp_path, {"log": url}, count=2) as cluster:
        async with chat_client(cluster[0].url, token("ann")) as ann, chat_client(cluster[1].url, token("bob")) as bob:
            ok(await ann.ask("room:create", {"room": "lobby"}))
            await wait_until(lambda: joined(bob, "lobby"), PATIENCE_S, "the room is known on the other node, and joined")
            ok(await bob.ask("message:send", {"room": "lobby", "text": "here", "id": "1"}))
            await ann.expect("message", room="lobby", text="here")
            ok(await ann.ask("typing", {"room": "lobby", "on": True}))
            await bob.expect("typing", user="ann")


@pytest.mark.parametrize("name", ["other", "amq.gen-x", "xtidegate.log.0", "tidegate"])
async def test_nothing_else_may_be_declared(channel: AbstractChannel, name: str) -> None:
    """A queue or an exchange of another name is refused."""
    with pytest.raises(AMQPError, match="ACCESS_REFUSED"):
        await channel.declare_queue(name, durable=True)


async def test_nothing_else_may_be_written(channel: AbstractChannel) -> None:
    """Nor may he write to an exchange that is not Tidegate's."""
    with pytest.raises(AMQPError, match="ACCESS_REFUSED"):
        await (await channel.get_exchange("amq.topic", ensure=False)).publish(aio_pika.Message(b""), "all")


@pytest.mark.parametrize("who", ["guest:guest", "tidegate:", "tidegate:wrong"])
async def test_nobody_else_comes_in(broker: DeployedRabbit, who: str) -> None:
    """Neither guest nor anybody without the password."""
    with pytest.raises(AMQPError, match="ACCESS_REFUSED"):
        await aio_pika.connect(broker.url_for("tidegate", who))
