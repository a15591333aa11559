"""Opening the log on RabbitMQ: who makes it, who is let in, and over what."""

import asyncio
import re
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

import broker.rabbitmq
from broker.address import AmqpAddress, parse_address
from broker.log import START, LogUnavailable
from broker.rabbitmq import open_rabbitmq
from tests.support.certificates import Certificates, Pair
from tests.support.held_port import HeldPort
from tests.support.rabbit import Rabbit, amqp_url
from tests.support.rabbit_log import Counting, reading

pytestmark = [pytest.mark.anyio, pytest.mark.rabbitmq]
REFUSED_WITHIN_S = 8.0
PATIENCE_S = 20.0


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def broker_with_tls(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Rabbit]:
    """The broker of this file: it listens for amqps, too, and wants a client's certificate."""
    with Rabbit(tmp_path_factory.mktemp("rabbit-with-tls"), tls=certificates) as rabbit:
        yield rabbit


@pytest.fixture
def rabbit(broker_with_tls: Rabbit) -> Rabbit:
    return broker_with_tls


async def opens(url: str, *, partitions: int = 1) -> None:
    """The log can be opened, appended to, followed, and signalled through."""
    address = parse_address(url)
    assert isinstance(address, AmqpAddress)
    counting = Counting()
    async with open_rabbitmq(address.urls, partitions=partitions, name="here", observe=counting) as opened:
        async with reading(opened.log) as notes:
            await opened.log.append(0, b"one")
            await notes.got("one")
            assert await opened.log.end(0) != START
        assert opened.deaf is None
        assert counting.lost_for == []


async def refused(url: str, *, partitions: int | None = 1, create: bool = True) -> str:
    """The log cannot be opened; returns why."""
    address = parse_address(url)
    assert isinstance(address, AmqpAddress)
    began = time.monotonic()
    with pytest.raises(LogUnavailable) as refusal:
        async with open_rabbitmq(address.urls, partitions=partitions, name="here", create=create):
            pass
    assert time.monotonic() - began < REFUSED_WITHIN_S
    return str(refusal.value)


# Who makes it


async def test_nodes_that_start_together_make_one_log(rabbit: Rabbit) -> None:
    """Ten times three nodes open a log that is not there, all at once: they have the same one, and each follows what each appends."""
    for _ in range(10):
        await _start_together(rabbit.url_for(rabbit.fresh_vhost()))


async def _start_together(url: str) -> None:
    async def start(name: str) -> str:
        async with open_rabbitmq([url], partitions=2, name=name) as opened:
            async with reading(opened.log, 1) as notes:
                await opened.log.append(1, name.encode())
                await notes.got("a", "b", "c")
            return opened.log.epoch

    assert len(set(await asyncio.gather(*map(start, "abc")))) == 1


async def test_the_number_of_partitions_is_fixed(rabbit: Rabbit) -> None:
    """Another number than the log has is a `ValueError` that says both; None takes what it has."""
    url = rabbit.url_for(rabbit.fresh_vhost())
    await opens(url, partitions=3)
    for partitions in (2, 4):
        with pytest.raises(ValueError, match=f"the log has 2 partitions, not {partitions - 1}"):
            async with open_rabbitmq([url], partitions=partitions, name="here"):
                pass
    async with open_rabbitmq([url], partitions=None, name="here") as opened:
        assert opened.log.partitions == 3


@pytest.mark.parametrize(("partitions", "create"), [(2, False), (None, True)])
async def test_who_only_looks_makes_no_log(rabbit: Rabbit, partitions: int | None, create: bool) -> None:
    """Where there is no log, who may not make one, or does not say of how many partitions, is told, and leaves nothing behind."""
    vhost = rabbit.fresh_vhost()
    assert "no log yet" in await refused(rabbit.url_for(vhost), partitions=partitions, create=create)
    assert rabbit.erlang(f'rabbit_amqqueue:list(<<"{vhost}">>)') == "[]"


# Who is let in


async def test_who_is_not_let_in_is_told_why(rabbit: Rabbit) -> None:
    """A wrong password, a vhost that is not there, and one that is closed to the user: soon, in words, without any password."""
    user, _, password = rabbit.fresh_user(rabbit.fresh_vhost()).partition(":")
    asked = (f"{user}:wrong-secret", "/"), ("guest:guest", "no/where"), (f"{user}:{password}", "/")
    wrong, missing, closed = await asyncio.gather(*(refused(rabbit.url_for(vhost, login)) for login, vhost in asked))
    assert "ACCESS_REFUSED" in wrong and f"127.0.0.1:{rabbit.port}" in wrong
    assert "the vhost no/where is missing, or not open to this user" in missing
    assert "the vhost / is missing, or not open to this user" in closed
    assert not any(secret in why for why in (wrong, missing, closed) for secret in ("wrong-secret", password, "guest"))


async def test_a_user_needs_no_more_than_what_is_ours(rabbit: Rabbit) -> None:
    """Who may touch nothing but `tidegate.`, and publish by way of the default exchange, is a full member."""
    vhost = rabbit.fresh_vhost()
    ours = r"^tidegate\\."
    user = rabbit.fresh_user(vhost, configure=ours, read=ours, write=r"^(tidegate\\.|amq\\.default$)")
    await opens(rabbit.url_for(vhost, user), partitions=3)


async def test_a_user_who_may_not_is_told_what(rabbit: Rabbit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may read and write, and not make the streams, is told so by name."""
    monkeypatch.setattr(broker.rabbitmq_genesis, "FOUND_LIMIT_S", 3.0)
    vhost = rabbit.fresh_vhost()
    why = await refused(rabbit.url_for(vhost, rabbit.fresh_user(vhost, read=".*", write=".*")))
    assert "ACCESS_REFUSED" in why and "tidegate.log" in why


async def test_names_and_passwords_may_have_any_character(rabbit: Rabbit) -> None:
    """Percent-encoded in the address, they are what they are."""
    vhost, user, password = "a/b c%", "us:er@", "p@ss/wo:rd%25"
    rabbit.erlang(f'rabbit_vhost:add(<<"{vhost}">>, <<"tests">>)')
    rabbit.erlang(f'rabbit_auth_backend_internal:add_user(<<"{user}">>, <<"{password}">>, <<"tests">>)')
    rabbit.permit(user, vhost, configure=".*", write=".*", read=".*")
    await opens(rabbit.url_for(vhost, f"{quote(user, safe='')}:{quote(password, safe='')}"))


# Over what


async def test_no_broker_at_all_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while, which is long enough for brokers that start with the nodes: where nobody listens, and where nobody ever answers."""
    monkeypatch.setattr(broker.rabbitmq, "OPEN_LIMIT_S", 2.0)
    held = HeldPort()
    async with await asyncio.start_server(_say_nothing, "127.0.0.1", 0) as server:
        ports = held.number, server.sockets[0].getsockname()[1]
        nobody, mute = await asyncio.gather(*(refused(amqp_url([port], "/", "guest:open-secret")) for port in ports))
    assert f"127.0.0.1:{held}" in nobody and "open-secret" not in nobody
    assert "no answer within 2 s" in mute and "open-secret" not in mute
    held.release()


async def _say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


async def test_of_several_hosts_one_that_answers_is_enough(rabbit: Rabbit) -> None:
    """Whichever of them is dead, all three connections find the other."""
    dead = HeldPort()
    for ports in ([dead.number, rabbit.port], [rabbit.port, dead.number], [dead.number, dead.number, rabbit.port]):
        await opens(amqp_url(ports, rabbit.fresh_vhost(), "guest:guest"))
    dead.release()


def secured(rabbit: Rabbit, ca: Path | str, client: Pair | None) -> str:
    url = f"{rabbit.url_for(rabbit.fresh_vhost(), tls=True)}?cafile={ca}"
    return url if client is None else f"{url}&certfile={client.certificate}&keyfile={client.key}"


async def test_tls_with_certificates_on_both_sides(rabbit: Rabbit, certificates: Certificates) -> None:
    """With the authority of the broker's certificate, and one of its own, a node is let in."""
    await opens(secured(rabbit, certificates.authority, certificates.client))


async def test_tls_that_cannot_be_is_refused_in_words(
    rabbit: Rabbit, certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A strange authority, a file that is not there, a port without TLS: each says soon what it is. A broker that wants another
    certificate of ours may only hang up: then that is what it may mean.
    """
    monkeypatch.setattr(broker.rabbitmq, "OPEN_LIMIT_S", 4.0)
    strange = Certificates(tmp_path / "strange")
    plain = rabbit.url_for("/").replace("amqp://", "amqps://")
    why = {
        secured(rabbit, strange.authority, certificates.client): "certificate verify failed",
        secured(rabbit, tmp_path / "nowhere.pem", certificates.client): f"cafile {tmp_path}/nowhere.pem cannot be read",
        f"{plain}?cafile={certificates.authority}": "wrong version number",
        secured(rabbit, certificates.authority, None): "certificate",
        secured(rabbit, certificates.authority, strange.client): "certificate|unknown ca",
    }
    for words, said in zip(why.values(), await asyncio.gather(*map(refused, why)), strict=True):
        assert re.search(words, said), said
