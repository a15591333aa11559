"""Brokers for the tests that want one: started when the first of them asks, shared by all, ended behind the last."""

from collections.abc import Iterator

import pytest

from tests.support.rabbit import Rabbit
from tests.support.rabbit_cluster import RabbitCluster

_NEED_RABBITMQ = {"rabbit", "shared_rabbit_cluster"}  # all others of this file need one of them


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that uses one of these brokers needs RabbitMQ, without saying so itself."""
    for item in items:
        if _NEED_RABBITMQ.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.rabbitmq)


@pytest.fixture(scope="session")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rabbit]:
    """The broker that the tests share, each in a vhost of its own. It is not to be killed or frozen: who wants that starts his own."""
    with Rabbit(tmp_path_factory.mktemp("rabbit")) as rabbit:
        yield rabbit


@pytest.fixture
def rabbit_url(rabbit: Rabbit) -> Iterator[str]:
    """The URL of a fresh vhost of the shared broker. It goes with the test."""
    vhost = rabbit.fresh_vhost()
    yield rabbit.url_for(vhost)
    rabbit.drop_vhost(vhost)


@pytest.fixture(scope="session")
def shared_rabbit_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitCluster]:
    """The three brokers behind `rabbit_cluster`."""
    with RabbitCluster(tmp_path_factory.mktemp("rabbit-cluster")) as cluster:
        yield cluster


@pytest.fixture
def rabbit_cluster(shared_rabbit_cluster: RabbitCluster) -> RabbitCluster:
    """Three brokers that a test may kill and freeze: they are whole when it begins. Their vhosts and streams are to be fresh ones."""
    shared_rabbit_cluster.mend()
    return shared_rabbit_cluster
