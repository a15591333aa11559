"""The load test on Locust, against real nodes: what it counts, and when it gives up."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.nodes import Cluster
from tests.support.storms import Storming, storm

PEOPLE = ("--users", "30", "--spawn-rate", "30", "--rooms", "3", "--rate", "2")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes that replay at most two events at once: whoever comes back has to ask for more while others talk."""
    settings = {
        "replay_events": "2",
        "handshake_rate": "1000",
        "handshake_burst": "1000",
    }  # the machine may be busy: nobody is sent away
    with Cluster(tmp_path_factory.mktemp("storm"), settings, count=2) as cluster:
        yield cluster


def test_a_steady_storm_is_clean(cluster: Cluster, tmp_path: Path) -> None:
    """Tokens of 3 s, half of them renewed and half let go: everybody is served, named requests have their times, exit 0."""
    done = storm(cluster.urls, tmp_path, *PEOPLE, "--ttl", "3", "--renewing", "0.5", "--run-time", "6")
    assert done.code == 0, done.told
    assert done.verdict.startswith("verdict: clean: 30 clients, ")
    assert done.count("connect") == 30
    at_least = {"renewal": 15, "end of a token, lateness": 10, "reconnect": 10, "send to ack": 30}
    at_least |= {"send to delivery": done.count("send to ack"), "send to delivery, missed and replayed": 1}
    assert all(done.count(name) >= count for name, count in at_least.items()), done.told
    assert not any(entry["num_failures"] for entry in done.requests.values()), done.told
    assert all(entry["num_none_requests"] == 0 and entry["min_response_time"] > 0 for entry in done.requests.values())


def test_people_whom_nobody_lets_in_fail_the_storm(cluster: Cluster, tmp_path: Path) -> None:
    """Tokens of another key: refused by their code, and no clean verdict over nothing."""
    done = storm(cluster.urls, tmp_path, "--users", "3", "--spawn-rate", "3", "--run-time", "1", secret="x" * 40)
    assert done.code == 1, done.told
    assert "3 refused for good: signature_invalid" in done.output
    assert done.requests["connect, refused"]["num_failures"] == 3
    assert done.result is not None and done.result.refusals == {"connect signature_invalid": 3}


def test_a_storm_that_is_stopped_is_judged_too(cluster: Cluster, tmp_path: Path) -> None:
    """SIGTERM, as a container's end: everybody comes to rest, and the verdict is told."""
    storming = Storming(cluster.urls, tmp_path, "--users", "6", "--spawn-rate", "6", "--rate", "5")
    storming.wait_said("send to delivery")  # its running table comes every two seconds
    storming.stop()
    done = storming.done()
    assert done.code == 0, done.told
    assert done.verdict.startswith("verdict: clean: 6 clients, ")


def test_an_objective_that_is_missed_fails_the_storm(cluster: Cluster, tmp_path: Path) -> None:
    """The verdict is clean, the objective is named, exit 1; another one that is met says so."""
    objectives = tmp_path / "objectives.toml"
    objectives.write_text("connect_p99_ms = 0\nlost = 0\n")
    flags = ("--users", "4", "--spawn-rate", "4", "--rate", "5", "--run-time", "2", "--objectives", str(objectives))
    done = storm(cluster.urls, tmp_path, *flags)
    assert done.code == 1, done.told
    assert done.verdict.startswith("verdict: clean: ")
    assert "objective MISSED: connect_p99_ms: " in done.output and "objective met: lost: 0, at most 0" in done.output
    assert "clean, but an objective was missed" in (tmp_path / "report.html").read_text()
