"""The flags of a storm: what they come to, and what is wrong with them."""

import json
import os
import subprocess
import time
from argparse import Namespace
from pathlib import Path

import jwt
import pytest

from loadtest.options import Plan, Unfit, plan_of
from loadtest.scenarios import SCENARIOS
from loadtest.tokens import minted, read

SECRET = "a-secret-of-this-test-that-is-long-enough"
HOST = "http://a.test:8001"
GIVEN = {
    "scenario": "steady",
    "num_users": None,
    "spawn_rate": None,
    "run_time": None,
    "ttl": None,
    "cliff_at": None,
    "renewing": None,
    "rooms": None,
    "rate": None,
    "share": None,
    "people": None,
    "clients": "ours",
    "seed": "s",
    "prefix": "load",
    "settle": 20.0,
    "tolerance": 250,
    "sessions": None,
    "speed": 1.0,
    "local": 0,
    "hook": None,
    "watch": None,
    "objectives": None,
    "report": None,
    "title": "",
    "jwt_secret": SECRET,
    "jwt_secret_file": None,
    "jwt_issuer": None,
    "jwt_audience": None,
    "issuer_url": None,
}


def plan(host: str | None = HOST, **flags: object) -> Plan:
    return plan_of(Namespace(**GIVEN | flags), host)


def problems(host: str | None = HOST, **flags: object) -> list[str]:
    with pytest.raises(Unfit) as unfit:
        plan(host, **flags)
    assert SECRET[:16] not in str(unfit.value)
    return str(unfit.value).splitlines()


def test_a_scenario_comes_with_its_values_and_flags_change_them() -> None:
    """Only those that are given."""
    assert plan().scenario == SCENARIOS["steady"]
    changed = plan(ttl=4.0, renewing=0.0, rooms=3, rate=2.5).scenario
    assert (changed.ttl_s, changed.renewing, changed.rooms, changed.rate) == (4.0, 0.0, 3, 2.5)
    assert changed.people == SCENARIOS["steady"].people


def test_a_report_has_what_there_is_to_say_to_have_its_storm_again(tmp_path: Path) -> None:
    """All that it uses, and nothing else: a replay has its tokens from the log, a stock client renews none; no password either."""
    steady = plan("http://u:hidden@a.test:1,http://b.test:2", clients="stock").told()
    assert steady["hosts"] == "a.test:1, b.test:2" and steady["ttl (s)"] == 20.0
    assert not {"renewing", "it happens at (s)", "share", "speed", "sessions", "by a hook"} & steady.keys()
    revocation = plan(scenario="revocation", share=0.4, cliff_at=17.0, settle=3.0, tolerance=99, hook="x").told()
    wanted = {"it happens at (s)": 17.0, "share": 0.4, "settle (s)": 3.0, "tolerance (ms)": 99, "renewing": 0.8, "prefix": "load"}
    assert wanted.items() <= revocation.items() and "by a hook" not in revocation
    assert plan(None, scenario="node-loss", local=2).told()["hosts"] == "2 of its own"
    log = tmp_path / "log.jsonl"
    session = {"session": "s", "node": "n", "namespace": "/", "opened_at": 1000, "expires_at": 9000, "closed_at": 5000}
    log.write_text(json.dumps(session))
    replay = plan(scenario="replay", sessions=str(log), speed=2.0).told()
    assert (replay["sessions"], replay["speed"], replay["running for (s)"]) == ("log.jsonl", 2.0, 8.01)
    assert not {"ttl (s)", "renewing", "rooms of each", "people", "share"} & replay.keys()


def test_several_hosts_are_told_by_commas() -> None:
    """With or without spaces and a slash at the end."""
    assert plan("http://a.test:1, http://b.test:2/").hosts == ("http://a.test:1", "http://b.test:2")


def test_an_address_without_a_port_that_there_can_be_is_none() -> None:
    """Told as a flag that does not fit, not found out by everybody in the storm."""
    for host in ("http://a.test:port", "http://a.test:99999", "http://a.test:0", "http://[::1"):
        assert problems(host) == [f"--host: takes http://host:port, several by commas, got {host!r}"]


def test_all_problems_are_told_at_once() -> None:
    """One line each, with what the flag takes and what it got."""
    told = problems(
        "https://a.test,nonsense", ttl=0.0, renewing=1.1, rooms=0, rate=0.0, settle=-1.0, tolerance=-1, jwt_secret="short"
    )
    assert told == [
        "--ttl: takes seconds, 1 or more, got 0",
        "--renewing: takes a share from 0 to 1, got 1.1",
        "--rooms: takes 1 to 10000, got 0",
        "--rate: takes messages a second, over 0 and up to 1000, got 0",
        "--settle: takes seconds, 0 or more, got -1",
        "--tolerance: takes ms, 0 or more, got -1",
        "--host: takes http://host:port, several by commas, got 'https://a.test'",
        "--host: takes http://host:port, several by commas, got 'nonsense'",
        "--jwt-secret: takes 32 bytes or more, got 5",
    ]


def test_without_hosts_or_keys_there_is_no_storm() -> None:
    """Each is said."""
    assert problems(None, jwt_secret=None) == [
        "--host: takes http://host:port, several by commas, got nothing",
        "--jwt-secret, --jwt-secret-file or --issuer-url: takes one of them, got none",
    ]


def test_an_issuer_is_at_an_address() -> None:
    """By either scheme; anything else is told once, and not by everybody who asks for a token there."""
    assert plan(jwt_secret=None, issuer_url="https://a.test/token").hosts == (HOST,)
    for url in ("nonsense", "ftp://a.test/", "http://", "http://a.test:port/"):
        told = [f"--issuer-url: takes http://host/path or https://host/path, got {url!r}"]
        assert problems(jwt_secret=None, issuer_url=url) == told


def test_what_is_said_of_a_replay_wants_one() -> None:
    """By whoever gives the command: a form of Locust's page has them from there. What a script gives all scenarios is let pass."""
    given: dict[str, object] = {"sessions": "file", "speed": 2.0}
    assert problems(HOST, **given) == [f"--{flag}: means nothing in steady" for flag in given]
    assert plan_of(Namespace(**GIVEN | given), HOST, form=True).scenario.name == "steady"
    assert plan(hook="true", cliff_at=5.0).scenario.name == "steady"


def test_who_is_watched_is_there() -> None:
    """A process of this machine, whoever's it is."""
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    assert plan(watch=f"{os.getpid()}, 1").watched == (os.getpid(), 1)
    for pid in (0, gone.pid, 10**30):
        assert problems(watch=str(pid)) == [f"--watch: takes ids of processes that run here, got {pid}"]


def test_a_secret_may_be_in_a_file(tmp_path: Path) -> None:
    """As the nodes have it, a line's end at its end or not."""
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    token = plan(jwt_secret=None, jwt_secret_file=str(file)).mint("ann", 60)
    assert jwt.decode(token.text, SECRET, algorithms=["HS256"])["sub"] == "ann"
    assert problems(jwt_secret=None, jwt_secret_file=str(tmp_path / "none")) == [
        f"--jwt-secret-file: takes a file that can be read, got {str(tmp_path / 'none')!r}"
    ]


def test_tokens_live_as_long_as_they_are_to_and_say_whom_they_are_for() -> None:
    """From the moment at which they are minted; of several secrets the first signs, under its name."""
    before = time.time()
    found = minted(f"k1:{SECRET},k2:{SECRET}!", issuer="me", audience="them")("ann", 4.5)
    token = found.text
    claims = jwt.decode(token, SECRET, algorithms=["HS256"], audience="them")
    assert claims["exp"] - claims["iat"] == pytest.approx(4.5)
    assert before <= claims["iat"] <= time.time()
    assert (claims["sub"], claims["iss"]) == ("ann", "me")
    assert found == read(token)
    assert found.ends_at == pytest.approx(claims["exp"] * 1000, abs=1)
    assert found.issued_at == pytest.approx(claims["iat"] * 1000, abs=1)
    assert jwt.get_unverified_header(token)["kid"] == "k1"
