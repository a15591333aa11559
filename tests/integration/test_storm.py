"""The load test on Locust, against real nodes: what it counts, and when it gives up."""

import asyncio
import json
import re
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import jwt
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection

from tests.support.client import chat_client, ok
from tests.support.http import fetch
from tests.support.nodes import ROOT, Cluster
from tests.support.storms import Storming, free_port, storm
from tests.support.tokens import token
from tests.support.wait import block_until
from tests.support.web_sockets import web_sockets

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
    assert done.result is not None
    for name in ("send to delivery", "send to delivery, missed and replayed"):  # told to Locust all together
        entry, times = done.requests[name], done.result.times[name]
        assert (
            entry["num_requests"]
            == sum(entry["num_reqs_per_sec"].values())
            == sum(entry["response_times"].values())
            == times.count
        )
        assert times.max_ms <= entry["max_response_time"] < times.max_ms + 1.1
        assert abs(entry["total_response_time"] / times.count - times.mean_ms) < 1


def test_a_storm_comes_to_rest_though_somebody_is_always_on_the_way(cluster: Cluster, tmp_path: Path) -> None:
    """Nobody renews, and tokens go on ending while it comes to rest: that each has been back is enough, all at once never are."""
    flags = ("--users", "80", "--spawn-rate", "80", "--rooms", "4", "--rate", "0.2", "--ttl", "1", "--renewing", "0")
    done = storm(cluster.urls, tmp_path, *flags, "--run-time", "4", "--settle", "6", "--prefix", "always")
    assert done.code == 0, done.told
    assert done.verdict.startswith("verdict: clean: 80 clients, ")
    assert done.count("reconnect") >= 100  # that there was one at all times


class _Unnumbered:
    """The least of a chat that numbers nothing: everybody is in one room, each message comes to all of them a while after its ack.

    One that somebody says as the `refused` one, counted from 1, has this code for its answer.
    """

    LATE_S = 0.6

    def __init__(self, refused: int = 0, code: str = "") -> None:
        self._refused, self._code = refused, code
        self._members: list[ServerConnection] = []

    def handle(self, connection: ServerConnection) -> None:
        """One connection."""
        connection.send('0{"sid":"s","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":65536}')
        token = json.loads(str(connection.recv())[2:])["token"]
        claims = jwt.decode(token, options={"verify_signature": False})
        ends = {"session": "s", "node": "", "user": claims["sub"], "expires_at": int(claims["exp"] * 1000), "resumed": False}
        connection.send('40{"sid":"s"}')
        connection.send("42" + json.dumps(["welcome", ends | {"ticket": "", "rooms": []}]))
        self._members.append(connection)
        said = 0
        for packet in connection:
            found = re.fullmatch(r"42(\d+)(.*)", str(packet))
            if found is None:
                continue
            name, asked = json.loads(found[2])
            said += name == "message:send"
            if name == "message:send" and said == self._refused:
                no = {"ok": False, "error": {"code": self._code, "message": "no"}}
                connection.send(f"43{found[1]}{json.dumps([no])}")
                continue
            connection.send(f"43{found[1]}{json.dumps([{'ok': True, 'seq': 0}])}")
            if name == "message:send":
                message = asked | {"seq": 0, "from": claims["sub"], "at": 1}
                threading.Timer(self.LATE_S, self._tell, ["42" + json.dumps(["message", message])]).start()

    def _tell(self, packet: str) -> None:
        for member in self._members:
            with suppress(ConnectionClosed):
                member.send(packet)


def test_what_is_on_its_way_at_the_end_is_waited_for_where_nothing_is_numbered(tmp_path: Path) -> None:
    """Silence is all that tells the end: who sends late, and everything, has lost nothing."""
    flags = ("--users", "6", "--spawn-rate", "6", "--rooms", "1", "--rate", "5", "--run-time", "3", "--people", "talker=1")
    with web_sockets(_Unnumbered().handle) as url:
        done = storm([url], tmp_path, *flags)
    assert done.code == 0, done.told
    assert done.count("send to ack") > 20
    assert done.count("send to delivery") >= 5 * done.count("send to ack")


def test_a_message_that_is_refused_for_good_fails_the_storm(tmp_path: Path) -> None:
    """One of each talker's, by its code: nothing else is missing. One that is refused for the moment is sent again, and fails nothing."""
    flags = ("--users", "2", "--spawn-rate", "2", "--rooms", "1", "--rate", "5", "--run-time", "2", "--people", "talker=1")
    done = {}
    for code in ("too_large", "unavailable"):
        with web_sockets(_Unnumbered(refused=3, code=code).handle) as url:
            done[code] = storm([url], tmp_path, *flags)
    assert done["unavailable"].code == 0, done["unavailable"].told
    result = done["too_large"].result
    assert done["too_large"].code == 1 and result is not None, done["too_large"].told
    assert result.verdict.problems == ["message:send refused for good: too_large, 2 times"]
    assert not any(result.verdict.counts.values()) and result.verdict.acked > 0


def test_people_whom_nobody_lets_in_fail_the_storm(cluster: Cluster, tmp_path: Path) -> None:
    """Tokens of another key: refused by their code, and no clean verdict over nothing."""
    done = storm(cluster.urls, tmp_path, "--users", "3", "--spawn-rate", "3", "--run-time", "1", secret="x" * 40)
    assert done.code == 1, done.told
    assert "3 refused for good: signature_invalid" in done.output
    assert done.requests["connect, refused"]["num_failures"] == 3
    assert done.result is not None and done.result.refusals == {"connect signature_invalid": 3}


@pytest.mark.anyio
async def test_who_is_not_let_into_a_room_fails_the_storm(cluster: Cluster, tmp_path: Path) -> None:
    """One of two rooms is somebody's own: everything that was said in the other is delivered, and the refusals are counted and told."""
    async with chat_client(cluster[0].url, token("owner-of-shut")) as owner:
        ok(await owner.ask("room:create", {"room": "shut-0", "kind": "private"}))
        flags = ("--users", "4", "--spawn-rate", "4", "--people", "talker=1", "--rooms", "2", "--rate", "5", "--run-time", "2")
        done = await asyncio.to_thread(storm, cluster.urls, tmp_path, "--prefix", "shut", *flags)
    assert done.code == 1 and done.result is not None, done.told
    assert done.result.verdict.problems == ["room:join refused for good: room_not_found, 4 times"], done.told
    assert done.result.refusals == {"room:join room_not_found": 4}
    assert not any(done.result.verdict.counts.values()) and done.result.verdict.acked > 0, done.told


def test_a_storm_that_is_stopped_is_judged_too_and_an_objective_may_fail_it(cluster: Cluster, tmp_path: Path) -> None:
    """SIGTERM, as a container's end: everybody comes to rest, the verdict is clean; one objective is missed by name: exit 1."""
    objectives = tmp_path / "objectives.toml"
    objectives.write_text("connect_p99_ms = 0\nlost = 0\n")
    flags = ("--users", "6", "--spawn-rate", "6", "--rate", "5", "--objectives", str(objectives))
    storming = Storming(cluster.urls, tmp_path, *flags)
    storming.wait_said("send to delivery")  # its running table comes every two seconds
    storming.stop()
    done = storming.done()
    assert done.code == 1, done.told
    assert done.verdict.startswith("verdict: clean, but an objective was missed: 6 clients, ")
    assert "objective MISSED: connect_p99_ms: " in done.output and "objective met: lost: 0, at most 0" in done.output
    assert "clean, but an objective was missed" in (tmp_path / "report.html").read_text()


def test_a_verdict_is_over_everybody_or_not_clean(cluster: Cluster, tmp_path: Path) -> None:
    """A worker that ends early takes along what its people saw: exit 1, by name. Neither Ctrl-C nor SIGTERM, sent
    to all, ends one of them; asked twice is asked once. Nor
    is it clean when its time was over before everybody had come, or somebody's code raised: once, for he does not begin again.
    """

    def of_two(name: str) -> Storming:
        people = ("--users", "6", "--spawn-rate", "6", "--rate", "5", "--processes", "2", "--brief", "--prefix", name)
        return Storming(cluster.urls, tmp_path / name, *people)

    with socket.socket() as nobody, ExitStack() as stack:
        left, whole = of_two("left"), of_two("whole")
        nobody.bind(("127.0.0.1", 0))
        place = tmp_path / "twice" / "place"
        alone = ("--users", "3", "--spawn-rate", "3", "--settle", "1", "--brief", "--report", str(place / "report"))
        nowhere = [f"http://127.0.0.1:{nobody.getsockname()[1]}"]
        crossed = Storming(
            nowhere, tmp_path / "crossed", "--scenario", "cross-check", "--issuer-url", *nowhere, "--run-time", "4", *alone[:-2]
        )
        twice = Storming(nowhere, tmp_path / "twice", *alone)
        slow = ("--users", "600", "--spawn-rate", "1", "--rate", "5", "--run-time", "4", "--prefix", "few", "--brief")
        few = Storming(cluster.urls, tmp_path / "few", *slow)
        for storming in (left, whole, twice, few, crossed):
            stack.callback(storming.close)
        twice.wait_said("0 of 3 here")
        place.rmdir()  # made before it began
        place.touch()
        twice.stop()
        twice.wait_said("coming to rest")
        twice.stop()
        left.wait_said("6 of 6 here")
        left.signal_workers(signal.SIGTERM, most=1)
        whole.wait_said("6 of 6 here")
        whole.signal_workers(signal.SIGINT, most=2)  # as a terminal sends it to all of them
        whole.signal_workers(signal.SIGTERM, most=2)  # and as `timeout` and systemd do
        whole.stop()
        left.wait_said(" quit. ")
        left.stop()
        one, half, both, some = twice.done(), left.done(), whole.done(), few.done()
        raising = crossed.done()
    assert one.code == 1, one.told
    assert one.verdict.startswith("verdict: NOT CLEAN: 3 clients, 0 acked, 0 seen: ") and "3 not back" in one.output
    assert "\nno report: " in one.output and "Traceback (most recent call last)" not in one.output
    assert "did not hand over" not in one.output and one.output.count("verdict: ") == 1
    assert half.code == 1, half.told
    assert half.verdict.startswith("verdict: NOT CLEAN: ")
    assert "  1 workers did not hand over what their users saw" in half.output.splitlines()
    assert both.code == 0, both.told
    assert both.verdict.startswith("verdict: clean: 6 clients, ")
    assert both.result is not None and both.count("send to delivery") == both.result.times["send to delivery"].count > 0
    assert some.code == 1 and some.result is not None, some.told
    assert re.fullmatch(r"[1-9]\d? of 600 people came", some.result.verdict.absence), some.told
    assert not some.result.verdict.leftover and not any(some.result.verdict.counts.values()), some.told
    assert f"<p>{some.result.verdict.absence}</p>" in (tmp_path / "few" / "report.html").read_text()
    assert raising.code == 1 and raising.result is not None, raising.told
    assert raising.result.verdict.clients == 2, raising.told  # of three: it was none yet, and did not come again
    raised = [one for one in raising.result.verdict.problems if one.startswith("the load test itself raised, 1 times: ")]
    assert len(raised) == 1, raising.told


#: What is not there without a refusal; and the family of a metric that has its suffixes.
NOT_YET = {"storm_refusals_total", "storm_seconds"}


def test_the_page_tells_the_verdict_and_prometheus_the_figures(cluster: Cluster, tmp_path: Path) -> None:
    """Locust's page has what is known so far among its statistics; every metric that docs/storms.md names is scraped, at the end the
    verdict; exit as always. The page is on one address of this machine: nobody else's.
    """
    url = f"http://127.0.0.1:{(port := free_port())}"
    flags = ("--web-port", str(port), "--autostart", "--autoquit", "20", "--run-time", "6")
    storming = Storming(cluster.urls, tmp_path, "--users", "6", "--spawn-rate", "6", "--rate", "5", *flags, headless=False)

    def delivering() -> bool:
        return re.search(r"(?m)^storm_deliveries_total [1-9]", fetched(f"{url}/metrics")) is not None

    try:
        block_until(delivering, 60, f"something is delivered\n{storming.told()}")
        block_until(lambda: '"events seen"' in fetched(f"{url}/stats/requests"), 60, f"the page has it\n{storming.told()}")
        live = fetched(f"{url}/metrics")
        elsewhere = fetched(f"http://127.0.0.2:{port}/metrics")
        block_until(lambda: "\nstorm_verdict_clean 1" in fetched(f"{url}/metrics"), 60, f"there is a verdict\n{storming.told()}")
        scraped = fetched(f"{url}/metrics")
        storming.stop()
    finally:
        done = storming.done()
    assert done.code == 0 and elsewhere == "", done.told
    page = (ROOT / "docs" / "storms.md").read_text()
    named = (set(re.findall(r"`(storm_\w+)(?:\{[^`]*)?`", page)) - NOT_YET) | {"storm_seconds_count"}
    assert len(named) > 8
    assert {name for name in named if f"\n{name}" not in scraped} == set(), scraped
    assert {name for name in named if f"\n{name}" not in live} == {"storm_verdict_clean"}, live
    people = re.findall(r'(?m)^storm_people\{state="(\w+)"\} (\d+)', scraped)
    assert sum(int(count) for _, count in people) == 6


def fetched(url: str) -> str:
    """What is there; nothing where nobody answers."""
    try:
        return fetch(url, timeout=5).text
    except httpx.TransportError:
        return ""
