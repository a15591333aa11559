"""What Erlang nodes need of one another: a port mapper of their own, a cookie; and a call into a running one that takes milliseconds."""

import itertools
import os
import secrets
import shutil
import socket
import subprocess
from pathlib import Path

from tests.support.held_port import HOST, HeldPort
from tests.support.leash import LeashedProcess
from tests.support.wait import block_until

_START_S = 10.0
_CALL_S = 30.0
_numbers = itertools.count(1)
#: Prints what comes of it, since erl_call shows of a binary only how long it is and says nothing of an error.
_TOLD = 'try begin {expression} end of V -> io:format("ok ~0tp", [V]) catch C:R -> io:format("error ~0tp", [{{C, R}}]) end.\n'


class ErlangError(Exception):
    """A node did not give the value that it was asked for."""


class PortMapper:
    """An epmd in the foreground, on loopback, for the nodes of one broker or one cluster, and the cookie that they share.

    Without one of their own the nodes would start a daemon, which stays.
    """

    def __init__(self, folder: Path) -> None:
        self.cookie = secrets.token_hex(16)
        self._port = HeldPort()
        command = [program("epmd"), "-port", str(self._port), "-address", HOST]
        self._process = LeashedProcess(command, {}, folder / "epmd.out")
        block_until(self._listens, _START_S, "epmd listens")

    @property
    def environment(self) -> dict[str, str]:
        """Where the nodes, and whoever calls them, find it."""
        return {"ERL_EPMD_PORT": str(self._port), "ERL_EPMD_ADDRESS": HOST}

    def close(self) -> None:
        """End it. Idempotent."""
        self._process.kill()
        self._port.release()

    def _listens(self) -> bool:
        assert self._process.running, "epmd has ended"
        with socket.socket() as probe:
            return probe.connect_ex((HOST, self._port.number)) == 0


def program(name: str) -> str:
    """The path of one of Erlang's programs."""
    found = shutil.which(name)
    assert found is not None, f"these tests need Erlang's {name}"
    return found


def evaluate(expression: str, *, port: int, cookie: str) -> str:
    """The value of an Erlang expression in the node that listens for others on `port`, as Erlang writes it.

    Raises `ErlangError` where the node cannot be reached, or the expression cannot be read or has failed.
    """
    caller = f"caller{os.getpid()}x{next(_numbers)}"  # two at once must not have one name
    command = [program("erl_call"), "-h", caller, "-address", f"{HOST}:{port}", "-c", cookie]
    command += ["-timeout", str(int(_CALL_S)), "-e", "-fetch_stdout", "-no_result_term"]
    asked = _TOLD.format(expression=expression)
    called = subprocess.run(command, input=asked, capture_output=True, text=True, timeout=_CALL_S + 5, check=False)
    outcome, _, value = called.stdout.partition(" ")
    if outcome != "ok":
        raise ErlangError(f"{expression}: {called.stdout or called.stderr or 'not an expression'}")
    return value
