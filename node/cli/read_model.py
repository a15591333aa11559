"""The read model of one node as the commands find it beside a node that may run."""

import contextlib
import fcntl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

from broker.log import Log, LogMissing, LogUnavailable
from node.cli.log_access import open_log
from node.config import Settings
from node.config_values import Taken, quoted
from node.flow.offline import positions


def _file(text: str) -> Path:
    path = Path(text)
    if "\0" in text or not path.is_file():
        raise ValueError(quoted(text))
    return path


SNAPSHOT = Taken("the path of a file that `tidegate snapshot` wrote", _file)


class InUse(Exception):
    """A node runs on the read model. The message says which."""


def model_of(settings: Settings) -> Path:
    """Where the read model of the configured node is."""
    return settings.data / f"{settings.node_id}.db"


@contextlib.contextmanager
def held(model: Path) -> Iterator[None]:
    """Keep nodes from the read model. Raises `InUse` while one runs on it, `OSError`."""
    model.parent.mkdir(parents=True, exist_ok=True)
    with model.with_name(f"{model.name}.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUse(f"node {model.stem} runs on {model}") from None
        yield


def in_use(model: Path) -> bool:
    """Whether a node runs on the read model."""
    if not model.with_name(f"{model.name}.lock").exists():
        return False
    try:
        with held(model):
            return False
    except InUse:
        return True


async def lag(model: Path, log: Log) -> dict[int, int]:
    """How many units of each partition the read model has not applied; below 0 where the log does not hold what it has."""
    at, count = positions(model), log.ordinal
    return {
        partition: count((await log.end(partition)).offset) - count(at.get(partition, 0)) for partition in range(log.partitions)
    }


@asynccontextmanager
async def open_log_if_there(settings: Settings, *, needed: bool = False) -> AsyncIterator[Log | None]:
    """The configured log, or None where there is none that can be read from here. With `needed` raises `LogUnavailable` where it cannot
    be told whether there is one.
    """
    async with contextlib.AsyncExitStack() as stack:
        log: Log | None = None
        with contextlib.suppress(LogMissing if needed else LogUnavailable):
            log = await stack.enter_async_context(open_log(settings))
        yield log
