"""What is done to a cluster from outside: by a command of the operator's, or to the nodes of a local cluster."""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from tempfile import TemporaryFile
from typing import IO, Protocol

from loadtest.interrupts import ctrl_c_behind_it
from loadtest.local_cluster import LocalCluster, LocalClusterError

HOOK_S = 180.0  # that the command may take
_MOST_SAID = 300  # characters of what it printed


class FaultFailed(Exception):
    """What was to be done was not; one line."""


class Faults(Protocol):
    """Each is done when the call returns: the node, or the broker, serves again. They raise `FaultFailed`."""

    def drain(self, number: int) -> None:
        """Have the `number`th node (from 1) take its leave, and come back."""

    def kill(self, number: int) -> None:
        """`kill -9` it, and have it come back."""

    def restart_broker(self) -> None:
        """Kill the broker, and have it come back."""


class Hook:
    """A command of the shell's. It is told what to do by the variables `STORM_FAULT` (drain, kill or broker), `STORM_NODE` (from 1) and
    `STORM_HOST`, and ends when that is done.
    """

    def __init__(self, command: str, hosts: Sequence[str]) -> None:
        self._command, self._hosts = command, hosts

    def drain(self, number: int) -> None:
        """See `Faults`."""
        self._run("drain", number)

    def kill(self, number: int) -> None:
        """See `Faults`."""
        self._run("kill", number)

    def restart_broker(self) -> None:
        """See `Faults`."""
        self._run("broker", 0)

    def _run(self, fault: str, number: int) -> None:
        told = {"STORM_FAULT": fault, "STORM_NODE": str(number), "STORM_HOST": self._hosts[number - 1] if number else ""}
        with TemporaryFile() as said, _command(self._command, told, said) as process:
            try:
                code = process.wait(HOOK_S)
            except subprocess.TimeoutExpired:
                raise FaultFailed(f"the hook has not ended within {HOOK_S:g} s: {fault} {number or ''}".rstrip()) from None
            said.seek(0)
            words = " ".join(said.read().decode(errors="replace").split())[-_MOST_SAID:]
        if code:
            raise FaultFailed(f"the hook ended with {code}: {fault} {number or ''}".rstrip() + f": {words}")


@contextmanager
def _command(command: str, variables: Mapping[str, str], output: IO[bytes]) -> Iterator["subprocess.Popen[bytes]"]:
    """A command of the shell's; with the block all that it has begun is ended, unless it had ended by itself: a node or a broker that it
    has started goes on. What is printed goes into a file: of a pipe, nobody would know an end before that of everything that has it.
    """
    with ExitStack() as stack:
        with ctrl_c_behind_it():
            process = subprocess.Popen(  # noqa: S603 - the operator's own command
                ["/bin/sh", "-c", command],
                env=os.environ | variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            stack.callback(_end, process)
        yield process


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class LocalFaults:
    """Those of a local cluster."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._cluster = cluster

    def drain(self, number: int) -> None:
        """See `Faults`."""
        self._end(number, signal.SIGTERM)

    def kill(self, number: int) -> None:
        """See `Faults`."""
        self._end(number, signal.SIGKILL)

    def restart_broker(self) -> None:
        """See `Faults`."""
        raise FaultFailed("the local cluster has no broker")

    def _end(self, number: int, how: signal.Signals) -> None:
        try:
            self._cluster.end_node(number, how)
        except LocalClusterError as error:
            raise FaultFailed(str(error)) from None
