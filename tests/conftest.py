"""What every test shares: the event loop's backend, Hypothesis profiles, and which machine a test needs."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # begun in the background of a shell; and so would be all that the tests start
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["tests.support.rabbit_fixtures"]

settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("default"), derandomize=True, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "default"))

BROWSER_TESTS = Path(__file__).parent / "browser"
MINUTES_S = 300  # the time limit of whoever asks for more than a page of a browser needs


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on plain asyncio, as a node does."""
    return "asyncio"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test in tests/browser needs Chromium and the page's libraries, without saying so itself. The longest files are begun first.

    Those are the ones with brokers and the ones that ask for minutes: they wait, while others compute; begun last they would be waited for
    with nothing else left to do.
    """
    longest = {item.path for item in items if _uses_broker(item) or _asks_for_minutes(item)}
    items.sort(key=lambda item: item.path not in longest)
    for item in items:
        if item.path.is_relative_to(BROWSER_TESTS):
            item.add_marker(pytest.mark.chromium)
            item.add_marker(pytest.mark.nodejs)


def _uses_broker(item: pytest.Item) -> bool:
    names = [mark.name for mark in item.iter_markers()] + list(getattr(item, "fixturenames", ()))
    return any("rabbit" in name for name in names)


def _asks_for_minutes(item: pytest.Item) -> bool:
    limit = item.get_closest_marker("timeout")
    return limit is not None and limit.args[0] >= MINUTES_S
