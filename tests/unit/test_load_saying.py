"""What a storm says where nobody listens."""

import subprocess
import sys

from tests.support.commands import environment

SCRIPT = """
import sys
from loadtest.saying import say

say("first")
sys.stdin.readline()
say("second")
say("third")
sys.exit(7)
"""


def test_lines_that_nobody_reads_are_no_fault() -> None:
    """As of `| head -1`: whoever says them goes on to the end, with the exit code of that."""
    told = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", SCRIPT], env=environment(), stdin=told, stdout=told, stderr=told) as process:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == b"first\n"
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 7
