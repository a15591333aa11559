"""Each test of the contract runs on every log that promises what it holds."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.contract.logs import MemoryPlace, Place, RabbitPlace, SharedPlace, SqlitePlace

RABBITMQ = pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)
SHARED = [RABBITMQ, "sqlite"]


@pytest.fixture
def new_shared_place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], SharedPlace]]:
    """Makes a place of a kind; a broker is started only for who needs one."""
    with ExitStack() as stack:

        def make(kind: str) -> SharedPlace:
            if kind == "rabbitmq":
                place = RabbitPlace(request.getfixturevalue("rabbit"))
                stack.callback(place.drop)
                return place
            return SqlitePlace(tmp_path_factory.mktemp("log"))

        yield make


@pytest.fixture(params=["memory", *SHARED])
def new_place(request: pytest.FixtureRequest, new_shared_place: Callable[[str], SharedPlace]) -> Callable[[], Place]:
    """Makes places of each kind in turn."""
    kind = request.param
    return MemoryPlace if kind == "memory" else lambda: new_shared_place(kind)


@pytest.fixture
def place(new_place: Callable[[], Place]) -> Place:
    return new_place()


@pytest.fixture
def another_place(new_place: Callable[[], Place]) -> Place:
    return new_place()


@pytest.fixture(params=SHARED)
def shared_place(request: pytest.FixtureRequest, new_shared_place: Callable[[str], SharedPlace]) -> SharedPlace:
    """A log that outlives who opened it, and that other processes can open."""
    return new_shared_place(request.param)


@pytest.fixture
def sqlite_place(tmp_path: Path) -> SqlitePlace:
    return SqlitePlace(tmp_path)
