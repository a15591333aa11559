"""A process under `tidegate up`: a node, asked to stop when its supervisor is gone, however that ended, or a program, killed then."""

import ctypes
import os
import signal
import sys

from node.cli import leave, run

_PR_SET_PDEATHSIG = 1


def stop_with(parent: int, number: signal.Signals = signal.SIGTERM) -> None:
    """Have the kernel send a signal to this process when `parent`, who started it, is gone. Raises `OSError`."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # it was gone before we asked
        os.kill(os.getpid(), number)


if __name__ == "__main__":
    parent, program = int(sys.argv[1]), sys.argv[2:]
    if program:
        stop_with(parent, signal.SIGKILL)
        os.execv(program[0], program)  # noqa: S606  the signal stays with the process
    stop_with(parent)
    leave(run(["node"]))
