"""The process of a node under `tidegate up`: it is asked to stop when its supervisor is gone, however that ended."""

import ctypes
import os
import signal
import sys

from node.cli import run

_PR_SET_PDEATHSIG = 1


def stop_with(parent: int) -> None:
    """Have the kernel send SIGTERM to this process when `parent`, who started it, is gone. Raises `OSError`."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # it was gone before we asked
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    stop_with(int(sys.argv[1]))
    sys.exit(run(["node"]))
