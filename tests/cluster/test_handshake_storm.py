"""A crowd at the door of a node that serves a chat: bounded, told when to come, and no trouble to those who are in."""

from pathlib import Path

import pytest

from bench.handshake_storm import MEMBERS, storm
from bench.local_node import LocalNode

pytestmark = pytest.mark.anyio
CROWD = 2_000
SESSION_KIB = 64  # what a session may cost the node, its part of the log's and the model's caches included


async def test_a_crowd_at_once(tmp_path: Path) -> None:
    """Everyone gets in, or is told when to come and gets in then; all are counted by code; nobody inside misses a message."""
    with LocalNode("n1", tmp_path) as node:
        node.wait_ready(30)
        seen = await storm(node, CROWD)
    assert seen["refusals"] > 0, "it was a crowd"
    assert seen["unanswered"] == 0
    assert seen["retry_after_s"]["least"] >= 1
    assert seen["counted_by_the_node"] == {"accepted": CROWD + MEMBERS, "busy server_busy": seen["refusals"]}
    assert seen["members_lost"] == []
    assert seen["members_with_faults"] == 0
    assert seen["messages"] > 0
    assert seen["memory_peak_mb"] - seen["memory_before_mb"] < (CROWD * SESSION_KIB) / 1_000
