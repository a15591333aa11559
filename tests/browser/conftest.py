"""A real cluster, a real Chromium, and people at it."""

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.person import Person
from tests.support.nodes import Cluster, NodeProcess

# The headless shell is the same engine without the browser's own pages, each of which is a process and most of the CPU of a test.
CHROMIUMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
MeetPerson = Callable[..., Person]
Shoot = Callable[[Page, str], None]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The system's Chromium. Ended with each file: while it runs its event loop does, and no async test could."""
    found = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    assert found is not None, "Chromium is needed"
    with sync_playwright() as playwright:
        playwright.selectors.set_test_id_attribute("data-test")
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=found, args=arguments)
        yield browser
        browser.close()


def three_nodes(folder: Path, **settings: str) -> Cluster:
    """Nodes that know each other's URLs and issue tokens by name; started by who uses them as a context."""
    cluster = Cluster(folder)
    ports = free_ports(len(cluster.nodes))
    settings = {"peers": ",".join(f"http://127.0.0.1:{port}" for port in ports), "dev_issuer": "1"} | settings
    cluster.nodes = [
        NodeProcess(node.id, folder, settings | {"port": str(port)}) for node, port in zip(cluster, ports, strict=True)
    ]
    return cluster


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes for the tests of one file."""
    with three_nodes(tmp_path_factory.mktemp("page")) as cluster:
        yield cluster


@pytest.fixture
def meet(browser: Browser) -> Iterator[MeetPerson]:
    """`meet(name, **options of a browser context)`: people whose browsers must have had nothing to complain of."""
    met: list[Person] = []

    def meet(name: str, **options: Any) -> Person:
        settings = {"viewport": {"width": 1240, "height": 780}, "locale": "en-GB", "reduced_motion": "reduce"} | options
        person = Person(browser.new_context(**settings), name)
        met.append(person)
        return person

    yield meet
    wrong = [complaint for person in met for complaint in person.wrong]
    for person in met:
        person.page.context.close()
    assert wrong == []


@pytest.fixture
def shoot(tmp_path: Path) -> Shoot:
    """`shoot(page, name)`: a screenshot in the folder TIDEGATE_TEST_SHOTS, or in the test's own."""
    folder = Path(os.environ.get("TIDEGATE_TEST_SHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)

    def shoot(page: Page, name: str) -> None:
        page.screenshot(path=folder / f"{name}.png")

    return shoot
