"""Three nodes on one log, official JavaScript clients on each, and everybody talking at once."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.crowd import UNHURRIED, Crowd, history
from tests.support.js import js_clients
from tests.support.nodes import ROOT, Cluster, NodeProcess

pytestmark = [pytest.mark.anyio, pytest.mark.nodejs]

EACH = 168  # messages of each of 12 users: 2,016


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Three nodes."""
    with Cluster(tmp_path, UNHURRIED) as cluster:
        yield cluster


def verify(node: NodeProcess) -> subprocess.CompletedProcess[str]:
    """Compare the node's read model with one rebuilt from the log."""
    command = [sys.executable, "-m", "node", "replay", "--verify"]
    return subprocess.run(command, env=node.environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


async def test_everybody_gets_everything_once_in_one_order(cluster: Cluster) -> None:
    """2,000 messages at once from all: each member gets each once, dense, in the same order, the sender included."""
    async with js_clients() as js:
        crowd = Crowd(js, cluster, "everybody", per_node=4)
        await crowd.gather()
        crowd.say(EACH)
        await crowd.acked()
        await crowd.seen()
        verdict = crowd.verdict()
        assert verdict.faults == ()
        assert verdict.acked == crowd.sent == 2_016
        assert verdict.seen >= crowd.sent * len(crowd.users)
        assert len(crowd.orders()) == 1
        assert js.count("refused") == js.count("disconnect") == 0
        assert js.count("upgrade") == len(crowd.users) / 2
    pages = [await history(node, crowd.room) for node in cluster]
    assert pages[0] == pages[1] == pages[2]
    assert len(pages[0]) == crowd.sent
    for node in cluster:
        node.terminate()
        assert node.wait_ended() == 0
    for node in cluster:
        verified = verify(node)
        assert verified.returncode == 0, verified.stdout + verified.stderr
