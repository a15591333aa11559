"""`tidegate up --haproxy`: a proxy that is kept as the nodes are, comes behind them, goes last, and leaves nothing behind."""

import os
import re
import signal
import socket
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from node.cli.haproxy import configuration
from tests.support.client import engine_url
from tests.support.commands import tidegate
from tests.support.http import fetch, post
from tests.support.up import START_S, STOP_S, Up
from tests.support.wait import block_until

pytestmark = pytest.mark.haproxy

LIMIT_S = 10.0  # for an answer while the proxy is started again


def said_by(url: str) -> str:
    """What is answered within 2 s; nothing where the request was given to a node that hangs."""
    try:
        return fetch(url, timeout=2).text
    except httpx.TimeoutException:
        return ""


def test_three_nodes_have_one_address(tmp_path: Path) -> None:
    """The proxy's URL comes first and serves the page; a killed proxy is started again while who asks waits; SIGTERM ends all."""
    with Up(tmp_path, "--haproxy", "--data", tmp_path / "data") as up:
        up.wait_ready(4)
        assert list(up.urls) == ["haproxy", "n1", "n2", "n3"]
        front = up.urls["haproxy"]
        assert "text/html" in fetch(front).headers["Content-Type"]
        assert fetch(f"{front}/config.json").json()["peers"] == [front]
        assert post(f"{front}/dev/token", json={"user": "alice"}).status_code == 200
        assert fetch(f"{front}/metrics").status_code == 403

        pids = up.pids()
        assert sorted(pids) == ["haproxy", "n1", "n2", "n3"]
        assert all(f"{name} is process {pid}\n" in up.output for name, pid in pids.items())
        os.kill(pids["haproxy"], signal.SIGKILL)
        assert fetch(f"{front}/healthz", timeout=LIMIT_S).status_code == 200
        block_until(lambda: f"haproxy is ready again at {front}\n" in up.output, START_S, f"the proxy comes back\n{up.output}")
        again = up.pids()
        assert again.pop("haproxy") != pids.pop("haproxy")
        assert again == pids

        os.kill(pids["n3"], signal.SIGSTOP)
        up.process.send_signal(signal.SIGTERM)
        down = re.compile(r"^haproxy \| .*Server nodes/n1 is DOWN", re.MULTILINE)
        block_until(
            lambda: down.search(up.output) is not None, STOP_S, f"the proxy stays for as long as a node does\n{up.output}"
        )
        os.kill(pids["n3"], signal.SIGCONT)
        assert up.process.wait(STOP_S) == 0, up.output
        assert up.pids() == {}
        assert up.output.splitlines()[-1] == "stopped"
        assert "Traceback" not in up.output


def test_pages_of_the_cluster_may_talk_through_it(tmp_path: Path) -> None:
    """Those that came through the proxy or from a node, and those that are configured; no other."""
    with Up(tmp_path, "--haproxy", "--nodes", "2", "--data", tmp_path / "data", origins="https://friend.example") as up:
        up.wait_ready(3)
        front = up.urls["haproxy"]
        port = front.rpartition(":")[2]
        for origin in (*up.urls.values(), f"http://localhost:{port}", "https://friend.example"):
            assert fetch(engine_url(front, "polling"), headers={"Origin": origin}).status_code == 200, origin
        assert fetch(engine_url(front, "polling"), headers={"Origin": "https://stranger.example"}).status_code == 400


def test_the_proxy_goes_when_the_last_node_is_gone(tmp_path: Path) -> None:
    """At Ctrl-C it still answers while a node has not ended; the second Ctrl-C ends both."""
    with Up(tmp_path, "--haproxy", "--nodes", "2", "--data", tmp_path / "data", drain_seconds="60") as up:
        up.wait_ready(3)
        os.kill(up.pids()["n1"], signal.SIGSTOP)
        up.process.send_signal(signal.SIGINT)
        block_until(lambda: sorted(up.pids()) == ["haproxy", "n1"], STOP_S, "n2 has taken its leave")
        block_until(lambda: "No server is available" in said_by(up.urls["haproxy"]), STOP_S, "the proxy knows of n1, too")
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(STOP_S) == 0
        assert up.pids() == {}
        assert "starting it again" not in up.output


def test_a_proxy_that_hangs_ends_with_a_killed_supervisor(tmp_path: Path) -> None:
    """`kill -9` of the supervisor leaves nothing behind, not even what takes no signal that could be refused."""
    with Up(tmp_path, "--haproxy", "--nodes", "1", "--data", tmp_path / "data") as up:
        up.wait_ready(2)
        os.kill(up.pids()["haproxy"], signal.SIGSTOP)
        up.process.kill()
        up.process.wait(STOP_S)
        block_until(lambda: up.pids() == {}, STOP_S, f"all end: {up.pids()}")


def test_it_waits_as_long_as_heartbeats_may_take(tmp_path: Path) -> None:
    """The configuration that it runs is the one of the docs, but for its port, a longer silence, and the dev issuer's path."""
    data = tmp_path / "data"
    with Up(tmp_path, "--haproxy", "--nodes", "2", "--data", data, ping_interval_seconds="90", ping_timeout_seconds="45.5") as up:
        up.wait_ready(3)
        nodes = {name: url.removeprefix("http://") for name, url in up.urls.items() if name != "haproxy"}
        text = (data / "haproxy.cfg").read_text()
        assert re.sub(r"bind fd@\d+", "bind X", text) == configuration(bind="X", nodes=nodes, denied=["/metrics"], silence_s=151)


def test_a_port_in_use_is_named_and_nothing_is_started(tmp_path: Path) -> None:
    """One line, exit 1."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        done = tidegate("up", "--port", "0", "--haproxy-port", port, "--data", tmp_path / "data", folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        f"port {port} on 127.0.0.1 cannot be had for HAProxy (Address already in use); nothing was started."
        " Another one: --haproxy-port N"
    ]


def test_where_it_is_not_installed_one_is_told_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, exit 1, nothing started; without the flag nobody misses it."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    done = tidegate("up", "--port", "0", "--haproxy", "--data", tmp_path / "data", folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "HAProxy is not installed; nothing was started. On Debian and Ubuntu: apt-get install haproxy"
    ]
    with Up(tmp_path, "--nodes", "1", "--data", tmp_path / "data") as up:
        up.wait_ready(1)


def test_a_proxy_that_refuses_to_start_ends_the_cluster_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a node: its own words, its exit code, and nothing is left running."""
    program = tmp_path / "sbin" / "haproxy"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'unknown keyword: force-persist'\nexit 3\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    done = tidegate("up", "--port", "0", "--haproxy", "--nodes", "1", "--data", tmp_path / "data", folder=tmp_path)
    assert done.returncode == 3
    assert "haproxy | unknown keyword: force-persist\n" in done.stdout
    assert "haproxy ended with exit code 3 instead of starting; nothing is left running\n" in done.stdout
