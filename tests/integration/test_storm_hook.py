"""The hook of a storm, in a process that is gevent's as a storm's is: what it may leave behind, and when it is given up."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.commands import environment
from tests.support.wait import block_until

LIMIT_S = 30.0
SCRIPT = """
from gevent import monkey

monkey.patch_all()

import sys

from loadtest import faults

faults.HOOK_S = float(sys.argv[1])
try:
    faults.Hook(sys.argv[2], ["http://a.test", "http://b.test"]).kill(2)
except faults.FaultFailed as failed:
    print(failed)
"""

INTERRUPTED = """
import ctypes
import os
import signal
from functools import partial

# Behind the fork, and without a look of Python's at what has come: the next hook is that of logging.
os.register_at_fork(after_in_parent=partial(ctypes.CDLL(None)["raise"], signal.SIGINT))

from gevent import monkey

monkey.patch_all()

import logging

import gevent

from loadtest import faults

try:
    faults.Hook("sleep 60", ["http://a.test"]).kill(1)
except KeyboardInterrupt:
    print("interrupted")
with gevent.Timeout(5):
    gevent.spawn(logging.getLogger, "another").get()
"""


def hooked(command: str, folder: Path, *, within_s: float) -> str:
    """What a storm is told of this hook; nothing where all is well."""
    script = [sys.executable, "-c", SCRIPT, str(within_s), command]
    done = subprocess.run(script, cwd=folder, env=environment(), capture_output=True, text=True, timeout=LIMIT_S, check=True)
    return done.stdout


def child(folder: Path) -> int:
    """The process that the hook began."""
    return int((folder / "child").read_text())


def test_a_hook_that_does_not_end_is_given_up_with_all_that_it_began(tmp_path: Path) -> None:
    """When its time is over, though a child of it would go on for a minute, and hold what it prints into."""
    said = hooked("sleep 60 & echo $! > child; wait", tmp_path, within_s=0.5)
    assert said == "the hook has not ended within 0.5 s: kill 2\n"
    block_until(lambda: not Path(f"/proc/{child(tmp_path)}").exists(), LIMIT_S, "its child is gone")


def test_what_a_hook_has_started_goes_on_without_it(tmp_path: Path) -> None:
    """A broker that it has started again, in the background: the hook is done when its own command is."""
    assert hooked("sleep 60 & echo $! > child", tmp_path, within_s=20) == ""
    os.kill(child(tmp_path), signal.SIGKILL)


def test_ctrl_c_at_the_fork_of_a_hook_ends_it_and_holds_no_lock(tmp_path: Path) -> None:
    """It is raised behind the fork, where it ends the hook, and never within: there `logging` has its lock, and would keep it."""
    script = [sys.executable, "-c", INTERRUPTED]
    done = subprocess.run(script, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted\n", "")
