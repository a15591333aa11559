"""What `tidegate up` leaves in its data folder for the other commands: that a cluster runs there, and where its nodes are.

It is in `up.lock`, which the cluster has locked for as long as it runs: what one that was killed has left in it counts for nothing.
"""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec

from broker.address import Address, SqliteAddress

_NAME = "up.lock"


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """A local cluster: the supervisor's process, where its log is (no login in it), and each node's host and port."""

    pid: int
    log: str
    host: str
    nodes: dict[str, int]


class Held(msgspec.Struct):
    """A data folder that this process has for itself."""

    file: IO[bytes]

    def write(self, cluster: Cluster) -> None:
        """Tell the other commands of the cluster. Raises `OSError`."""
        self.file.truncate(0)
        self.file.write(msgspec.json.encode(cluster) + b"\n")
        self.file.flush()


@contextlib.contextmanager
def held(data: Path) -> Iterator[Held]:
    """Hold the folder, made where it is missing. Raises `OSError`; of these `BlockingIOError` where another cluster holds it."""
    data.mkdir(parents=True, exist_ok=True)
    with (data / _NAME).open("ab") as file:  # what the holder has written stays, if we are not to have it
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.truncate(0)
        yield Held(file)


def running(data: Path) -> Cluster | None:
    """The cluster that runs in the folder; None where none does, or where it has not got so far as to say so."""
    with contextlib.suppress(OSError, msgspec.DecodeError), (data / _NAME).open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return msgspec.json.decode(file.read(), type=Cluster)
    return None


def log_of(address: Address) -> str:
    """The log's address as the record has it: the same for whoever names the same log, from whichever folder."""
    return f"sqlite:///{address.path.absolute()}" if isinstance(address, SqliteAddress) else str(address)
