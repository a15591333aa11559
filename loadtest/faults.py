"""What is done to a cluster from outside: by a command of the operator's, or to the nodes of a local cluster."""

import os
import signal
import subprocess
from collections.abc import Sequence
from typing import Protocol

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
        shell = ["/bin/sh", "-c", self._command]
        try:
            done = subprocess.run(  # noqa: S603 - the operator's own command
                shell, env=os.environ | told, capture_output=True, text=True, timeout=HOOK_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise FaultFailed(f"the hook has not ended within {HOOK_S:g} s: {fault} {number or ''}".rstrip()) from None
        if done.returncode:
            said = " ".join((done.stderr or done.stdout).split())[-_MOST_SAID:]
            raise FaultFailed(f"the hook ended with {done.returncode}: {fault} {number or ''}: {said}")


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
