"""What every test shares: the event loop's backend, Hypothesis profiles, and which machine a test needs."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.support.rabbit_fixtures"]

settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("default"), derandomize=True, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "default"))

BROWSER_TESTS = Path(__file__).parent / "browser"


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on plain asyncio, as a node does."""
    return "asyncio"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test in tests/browser needs Chromium and the page's libraries, without saying so itself. Files with brokers are begun first.

    They wait for the longest, while others compute; begun last they would be waited for with nothing else left to do.
    """
    waits = {item.path for item in items if any("rabbit" in name for name in (*_marks(item), *getattr(item, "fixturenames", ())))}
    items.sort(key=lambda item: item.path not in waits)
    for item in items:
        if item.path.is_relative_to(BROWSER_TESTS):
            item.add_marker(pytest.mark.chromium)
            item.add_marker(pytest.mark.nodejs)


def _marks(item: pytest.Item) -> list[str]:
    return [mark.name for mark in item.iter_markers()]
