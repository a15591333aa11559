"""What a storm has from outside, or gives there: tokens of an issuer, a hook for its faults, figures for Prometheus."""

import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from tests.support.http import fetch
from tests.support.nodes import ROOT, Cluster
from tests.support.storms import Done, Storming, free_port
from tests.support.tokens import SECRET
from tests.support.wait import block_until

PEOPLE = ("--brief", "--rooms", "3")
#: By scenario of this file: who comes, and what happens. The issuer's people cannot get in on tokens that are minted here.
FLAGS = {
    "issuer": (
        *("--scenario", "revocation", "--users", "12", "--spawn-rate", "12", "--rate", "2", "--ttl", "4", "--renewing", "1"),
        *("--cliff-at", "3", "--run-time", "7", "--share", "0.5"),
    ),
    "away": ("--users", "3", "--spawn-rate", "3", "--run-time", "1", "--settle", "1"),
    "hook": ("--scenario", "rolling", "--users", "4", "--spawn-rate", "4", "--rate", "2", "--cliff-at", "2", "--run-time", "6"),
}
KEYS = {"issuer": "x" * 40, "away": "x" * 40, "hook": SECRET}
#: Writes down what it is told, and fails at the second node.
HOOK = 'echo "$STORM_FAULT $STORM_NODE $STORM_HOST" >> asked; [ $STORM_NODE = 1 ] || { echo no such node >&2; exit 3; }'
NOT_YET = {"storm_verdict_clean"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes that issue tokens, too."""
    settings = {"dev_issuer": "1", "handshake_rate": "1000", "handshake_burst": "1000"}
    with Cluster(tmp_path_factory.mktemp("outside"), settings, count=2) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def port() -> int:
    """Where the storm of the issuer's people is scraped."""
    return free_port()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where each storm has a folder of its name."""
    return tmp_path_factory.mktemp("storms")


@pytest.fixture(scope="module")
def storms(cluster: Cluster, port: int, folder: Path) -> Iterator[Mapping[str, Storming]]:
    """All of them, under way."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        away = f"http://127.0.0.1:{nobody.getsockname()[1]}/token"
        own = {
            "issuer": ("--issuer-url", f"{cluster[0].url}/dev/token", "--prometheus-port", str(port)),
            "away": ("--issuer-url", away),
            "hook": ("--hook", HOOK),
        }
        found = {
            name: Storming(cluster.urls, folder / name, *PEOPLE, "--prefix", name, *flags, *own[name], secret=KEYS[name])
            for name, flags in FLAGS.items()
        }
        yield found
        for storming in found.values():
            storming.close()


@pytest.fixture(scope="module")
def scraped(storms: Mapping[str, Storming], port: int) -> str:
    """What Prometheus finds while people are put out and come back."""
    found = [""]

    def look() -> bool:
        try:
            found.append(fetch(f"http://127.0.0.1:{port}/metrics", timeout=5).text)
        except httpx.TransportError:
            return False
        return 'storm_refusals_total{what="connect token_revoked"}' in found[-1]

    block_until(look, 60, f"somebody is put out and refused\n{storms['issuer'].told()}")
    return found[-1]


@pytest.fixture(scope="module")
def of_issuer(storms: Mapping[str, Storming], scraped: str) -> Done:
    """How it went with the issuer's people."""
    return storms["issuer"].done()


def test_a_storm_without_a_page_is_scraped_while_it_runs(scraped: str, of_issuer: Done) -> None:
    """Every metric that docs/storms.md names but the verdict, which is still to come; and no figure that the end does not confirm."""
    page = (ROOT / "docs" / "storms.md").read_text()
    named = set(re.findall(r"`(storm_\w+)(?:\{[^`]*)?`", page)) - NOT_YET
    assert len(named) > 10
    exposed = set(re.findall(r"(?m)^(storm_\w+?)(?:_count|_sum)?(?:\{| )", scraped))
    assert named - exposed == set(), scraped

    def value(name: str) -> float:
        found = re.search(rf"(?m)^{re.escape(name)} (\S+)$", scraped)
        assert found is not None, (name, scraped)
        return float(found[1])

    assert sum(value(f'storm_people{{state="{state}"}}') for state in ("here", "away", "away_on_purpose")) == 12
    result = of_issuer.result
    assert result is not None
    assert value('storm_seconds_count{what="connect"}') == result.times["connect"].count == 12
    assert 0 < value("storm_deliveries_total") <= of_issuer.count("send to delivery")
    assert 0 < value("storm_renewals_total") <= result.times["renewal"].count
    assert (
        value('storm_seconds_sum{what="send to ack"}') <= result.times["send to ack"].max_ms * result.times["send to ack"].count
    )
    assert 0 < value('storm_seconds_count{what="revocation"}') <= result.times["revocation"].count
    assert value('storm_faults{kind="repeated"}') == 0
    assert "storm_verdict_clean" not in scraped


def test_people_sign_in_and_renew_with_the_tokens_of_an_issuer(of_issuer: Done) -> None:
    """And have theirs withdrawn by operators with its tokens: the key that the load test has been given is nobody's."""
    assert of_issuer.code == 0, of_issuer.told
    assert of_issuer.verdict.startswith("verdict: clean: 12 clients, "), of_issuer.told
    result = of_issuer.result
    assert result is not None
    assert result.times["renewal"].count >= 12
    assert 0 < result.times["revocation"].count < 12
    assert result.refusals["connect token_revoked"] > 0


def test_an_issuer_that_is_away_is_told_as_such(storms: Mapping[str, Storming]) -> None:
    """Nobody gets in, everybody goes on trying, and the storm says by which code; nothing of it breaks."""
    done = storms["away"].done()
    assert done.code == 1, done.told
    assert done.verdict.startswith("verdict: NOT CLEAN: 3 clients, 0 acked, 0 seen: ") and "at the end: 3 not back" in done.output
    assert done.result is not None and done.result.refusals.keys() == {"connect token_unavailable"}
    assert done.requests["connect, refused"]["num_failures"] >= 3
    assert "the load test itself raised" not in done.output and "Traceback" not in done.told


def test_a_hook_is_told_what_to_do_and_fails_the_storm_when_it_fails(
    storms: Mapping[str, Storming], cluster: Cluster, folder: Path
) -> None:
    """By variables, node by node; another exit code than 0 is named with what the hook has said, and is all that is wrong."""
    done = storms["hook"].done()
    assert (folder / "hook" / "asked").read_text().splitlines() == [
        f"drain {number} {url}" for number, url in enumerate(cluster.urls, 1)
    ]
    assert done.code == 1, done.told
    assert done.verdict.startswith("verdict: NOT CLEAN: 4 clients, ")
    assert "  the hook ended with 3: drain 2: no such node" in done.output.splitlines()
    assert done.result is not None
    assert done.result.verdict.problems == ["the hook ended with 3: drain 2: no such node"]
    assert not any(done.result.verdict.counts.values()) and not done.result.verdict.leftover
    assert [mark.name for mark in done.result.marks] == ["node 1 drains", "it is back", "node 2 drains"]
