"""Child processes that end with the tests, however the tests end."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

_REAP_S = 15.0
#: Reads its pipe: a line lets it go; the end of file means that the tests have gone without a word.
_GUARD = 'read -r _ || kill -s KILL -- "-$1"'


class LeashedProcess:
    """A process that leads a group of its own, of which nothing is left when it is killed or when the tests are gone.

    Ctrl-C does not reach it: the tests end it. A small shell watches over it, for tests that are killed themselves.
    What it prints is added to the file `output`; it runs in that file's folder.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], output: Path) -> None:
        null = subprocess.DEVNULL
        with output.open("ab") as out:
            self._process = subprocess.Popen(
                command, cwd=output.parent, env=environment, stdin=null, stdout=out, stderr=out, start_new_session=True
            )
        guard = ["/bin/sh", "-c", _GUARD, "guard", str(self.pid)]
        self._guard = subprocess.Popen(guard, stdin=subprocess.PIPE, stdout=null, stderr=null, start_new_session=True)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send the process a signal, and its group none."""
        self._process.send_signal(number)

    def wait(self, limit_s: float) -> int:
        """Block until it has ended by itself; returns its exit code. Raises `subprocess.TimeoutExpired`."""
        code = self._process.wait(limit_s)
        self._let_go()
        return code

    def kill(self) -> None:
        """`kill -9` to the whole group, and wait until the process is reaped. Idempotent."""
        if self._process.returncode is None:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait(_REAP_S)
        self._let_go()

    def _let_go(self) -> None:
        """Send the guard home; from here on the number of the group may be someone else's."""
        if self._guard.returncode is None:
            self._guard.communicate(b"\n", _REAP_S)
