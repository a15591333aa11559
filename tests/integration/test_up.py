"""`tidegate up`: nodes as processes that are started, kept running, drained, and never left behind."""

import os
import re
import resource
import signal
import socket
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.commands import ROOT, environment, screen_of, tidegate
from tests.support.http import fetch, post
from tests.support.up import START_S, STOP_S, Up
from tests.support.wait import block_until

MOST_END_S = (
    0.16  # of processor time, a node and its supervisor from Ctrl-C to their end: 0.07; to take two interpreters apart 0.3 more
)


def test_three_nodes_start_one_is_killed_and_all_are_drained(tmp_path: Path) -> None:
    """The URLs of three ready nodes are printed; a killed one is started again; SIGTERM ends all, and no process is left."""
    data = tmp_path / "data"
    with Up(tmp_path, "--data", data) as up:
        up.wait_ready(3)
        assert sorted(up.urls) == ["n1", "n2", "n3"]
        assert all(f"{name} is process {pid}\n" in up.output for name, pid in up.pids().items())
        for url in up.urls.values():
            assert fetch(f"{url}/readyz").status_code == 200
        issued = post(f"{up.urls['n1']}/dev/token", json={"user": "alice"})
        assert issued.status_code == 200
        assert (data / "log.db").exists()

        pids = up.pids()
        assert len(set(pids.values())) == 3
        os.kill(pids["n2"], signal.SIGKILL)
        block_until(lambda: f"n2 is ready again at {up.urls['n2']}" in up.output, START_S, f"n2 comes back\n{up.output}")
        assert "n2 was ended by SIGKILL after" in up.output
        assert fetch(f"{up.urls['n2']}/readyz").status_code == 200
        again = up.pids()
        assert again["n2"] != pids["n2"]
        assert (again["n1"], again["n3"]) == (pids["n1"], pids["n3"])

        up.process.send_signal(signal.SIGTERM)
        assert up.process.wait(STOP_S) == 0, up.output
        assert up.pids() == {}
        assert up.output.splitlines()[-1] == "stopped"
        assert not re.search(r"Traceback|SIGKILL(?! after)", up.output), up.output


def test_every_line_of_a_node_has_its_name_in_front(tmp_path: Path) -> None:
    """What nodes print stands behind their names; the supervisor's own lines stand alone."""
    with Up(tmp_path, "--nodes", "1", "--data", tmp_path / "data") as up:
        up.wait_ready(1)
        assert re.search(r"^n1 \| tidegate node n1 listening on http://127\.0\.0\.1:\d+$", up.output, re.MULTILINE)
        assert "\x1b[" not in up.output


def test_a_node_that_does_not_come_up_is_told_of(tmp_path: Path) -> None:
    """While a node has not opened its log, as when a broker is away, one is told so now and then; once it has, the cluster is up."""
    with Up(tmp_path, "--nodes", "1", "--data", tmp_path / "data") as up:
        block_until(lambda: "n1 is process " in up.output, START_S, "n1 is started")
        started = int(up.output.rpartition("n1 is process ")[2].split("\n")[0])
        os.kill(started, signal.SIGSTOP)
        waits = re.compile(r"^n1 is not ready after \d+ s: it has not opened its log and its read model yet$", re.MULTILINE)
        block_until(lambda: waits.search(up.output) is not None, START_S, f"one is told\n{up.output}")
        doctor = tidegate("doctor", "--data", tmp_path / "data", folder=tmp_path).stdout
        assert re.search(r"^warn cluster .* \(process \d+\) runs in .*, and none of its nodes is ready$", doctor, re.MULTILINE)
        assert re.search(r"^warn cluster +n1 at http://127\.0\.0\.1:\d+ is not ready: no answer$", doctor, re.MULTILINE)
        os.kill(started, signal.SIGCONT)
        up.wait_ready(1)


def test_ctrl_c_drains(tmp_path: Path) -> None:
    """SIGINT, as the terminal sends it, ends the nodes by their own drain; with nobody connected that costs next to nothing."""
    with Up(tmp_path, "--nodes", "1", "--data", tmp_path / "data") as up:
        up.wait_ready(1)
        before = _spent_s(up.process.pid) + _spent_s(up.pids()["n1"]) + _spent_by_children_s()
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(STOP_S) == 0
        spent_s = _spent_by_children_s() - before
        assert re.search(r"^n1 \| .*draining", up.output, re.MULTILINE)
        assert up.pids() == {}
        assert spent_s < MOST_END_S, "processor time, so whatever else the machine does"


def _spent_s(pid: int) -> float:
    """The processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _spent_by_children_s() -> float:
    """The processor time of the processes that this one, and those that it has waited for, have waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_a_second_ctrl_c_ends_nodes_that_do_not_answer(tmp_path: Path) -> None:
    """A node that hangs is waited for only until one asks again."""
    with Up(tmp_path, "--nodes", "1", "--data", tmp_path / "data", drain_seconds="60") as up:
        up.wait_ready(1)
        os.kill(up.pids()["n1"], signal.SIGSTOP)
        up.process.send_signal(signal.SIGINT)
        block_until(lambda: "stopping" in up.output, STOP_S, "it stops")
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(STOP_S) == 0
        assert up.pids() == {}


def test_a_cluster_that_nobody_watches_any_more_is_drained(tmp_path: Path) -> None:
    """When its output can no longer be written, as when its terminal is closed, it stops as at Ctrl-C."""
    with Up(tmp_path, "--nodes", "2", "--data", tmp_path / "data", piped=True) as up:
        assert up.process.stdout is not None
        while b"Ctrl-C stops it" not in up.process.stdout.readline():
            assert up.process.poll() is None
        pids = up.pids()
        up.process.stdout.close()
        os.kill(pids["n2"], signal.SIGKILL)  # of which it has something to say
        assert up.process.wait(STOP_S) == 0
        assert up.pids() == {}


def test_nodes_end_with_a_killed_supervisor(tmp_path: Path) -> None:
    """`kill -9` of the supervisor leaves no node behind."""
    with Up(tmp_path, "--nodes", "2", "--data", tmp_path / "data") as up:
        up.wait_ready(2)
        assert len(up.pids()) == 2
        up.process.kill()
        up.process.wait(STOP_S)
        block_until(lambda: up.pids() == {}, STOP_S, f"the nodes end: {up.pids()}")


def test_a_port_in_use_is_named_and_nothing_is_started(tmp_path: Path) -> None:
    """One line, exit 1, and nothing is made but the folder."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        done = tidegate("up", "--nodes", "1", "--port", port, "--data", tmp_path / "data", folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"port {port} on 127.0.0.1 cannot be had (Address already in use); nothing was started.")
    assert not (tmp_path / "data" / "log.db").exists()


def test_a_cluster_has_its_folder_for_itself(tmp_path: Path) -> None:
    """A second `tidegate up` on the same folder is refused while the first runs, of which the other commands know where it is."""
    data = tmp_path / "data"
    with Up(tmp_path, "--nodes", "1", "--data", data) as up:
        up.wait_ready(1)
        done = tidegate("up", "--port", "0", "--data", data, folder=tmp_path)
        assert done.returncode == 1
        assert done.stderr.splitlines() == [
            f"another `tidegate up` runs in {data}; nothing was started. A second one: --data DIR --port N"
        ]
        doctor = tidegate("doctor", "--data", data, folder=tmp_path)
        assert f"`tidegate up` (process {up.process.pid}) runs in {data}; ready: n1 at {up.urls['n1']}\n" in doctor.stdout
        assert not re.search(r"^FAIL|^\w+ +port", doctor.stdout, re.MULTILINE), "no port but the cluster's matters"
        assert doctor.returncode == 0
        sessions = tidegate("sessions", "--data", data, folder=tmp_path)
        assert (sessions.returncode, sessions.stdout, sessions.stderr) == (0, "", "nobody is connected\n")
        token = tidegate("token", "alice", "--data", data, folder=tmp_path).stdout.strip()
        answer = fetch(f"{up.urls['n1']}/api/rooms/nowhere/messages", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 404, "the node takes the token of `tidegate token`"


def test_a_cluster_that_nodes_refuse_ends_with_their_reason(tmp_path: Path) -> None:
    """Where the nodes say that they cannot start, they are not started for ever."""
    log = tmp_path / "log.db"
    log.write_text("this is no log, and it is long enough to be looked at: " * 20)
    done = tidegate(
        "up", "--nodes", "2", "--port", "0", "--log", f"sqlite:///{log}", "--data", tmp_path / "data", folder=tmp_path
    )
    assert done.returncode == 1
    assert f"cannot run: {log} is not a log" in done.stdout
    assert "ended with exit code 1 instead of starting; nothing is left running" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--nodes", "0"], "--nodes: takes a whole number from 1 to 16, got '0'"),
        (["--log", "memory:"], "--log: takes a log that 3 nodes can share (or --nodes 1), got 'memory:'"),
        (["--port", "65534"], "--port: takes a port with 2 more behind it up to 65535, got '65534'"),
        (["--haproxy-port", "8003"], "--haproxy-port: takes a port that is no node's, got '8003'"),
    ],
)
def test_a_cluster_that_cannot_be_is_refused(arguments: list[str], problem: str, tmp_path: Path) -> None:
    """What does not fit together is told like any bad flag, and nothing is made."""
    done = tidegate("up", *arguments, folder=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{problem}\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("port", "flag", "problem"),
    [
        ("8003", "--haproxy", "takes a port with 2 more behind it, none of them another's, got '8003'"),
        ("65534", "--haproxy", "takes a port with 2 more behind it up to 65535, got '65534'"),
        ("0", "--monitor", "takes a port of which Prometheus can be told, got '0'"),
    ],
)
def test_ports_for_metrics_that_cannot_be_are_refused(port: str, flag: str, problem: str, tmp_path: Path) -> None:
    """Told before a node is started that could not listen there, or a Prometheus that would ask nobody."""
    done = tidegate("up", flag, folder=tmp_path, metrics_port=port)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"TIDEGATE_METRICS_PORT: {problem}\n")
    assert list(tmp_path.iterdir()) == []


def test_an_installation_says_how_far_it_is(tmp_path: Path) -> None:
    """On a terminal the packages of a lock are counted as pip comes to them; elsewhere it is one line, and pip's words where it fails."""
    lock = tmp_path / "lock.txt"
    words = [str(ROOT / "scripts" / "install"), "a trial", str(lock)]
    entries = re.split(r"(?m)^(?=[a-z0-9])", (ROOT / "requirements" / "run.txt").read_text())
    lock.write_text("".join(entry for entry in entries if entry.startswith(("h11==", "idna=="))))
    told = "installing a trial: 2 packages; the first time this takes a minute or more"
    shown = screen_of(words, columns=80, folder=tmp_path)
    assert told in shown
    assert "1 of 2" in shown and "2 of 2" in shown
    lock.write_text(lock.read_text().replace("h11==", "h11==99"))
    failed = subprocess.run(words, env=environment() | {"PIP_NO_INDEX": "1"}, capture_output=True, text=True, check=False)
    assert (failed.returncode, failed.stdout) == (1, f"{told}\n")
    assert "No matching distribution found for h11" in failed.stderr
