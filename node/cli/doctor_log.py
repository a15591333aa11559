"""What `tidegate doctor` asks of the log and of the read model beside it."""

import asyncio
import contextlib
import glob
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Literal

import msgspec

from broker.address import AmqpAddress, MemoryAddress, SqliteAddress
from broker.log import Log, LogDiverged, LogMissing, LogUnavailable
from broker.sqlite_file import FileLock
from node.cli.log_access import open_log, room_partitions
from node.cli.read_model import in_use, lag, model_of
from node.cli.screen import counted
from node.config import Settings
from node.flow.offline import OtherSchema, SnapshotError, places, read_manifest

_LOCK_WAIT_S = 2.0  # as long as a node's writer waits for it


class Finding(msgspec.Struct, frozen=True):
    """One line of the doctor."""

    level: Literal["ok", "warn", "FAIL"]
    subject: str
    text: str


def fine(subject: str, text: str) -> Finding:
    """Nothing to do."""
    return Finding("ok", subject, text)


def warn(subject: str, text: str) -> Finding:
    """It works, and someone should look at it."""
    return Finding("warn", subject, text)


def fail(subject: str, text: str) -> Finding:
    """A node cannot work so."""
    return Finding("FAIL", subject, text)


async def examine_log(settings: Settings) -> AsyncIterator[Finding]:
    """The log, its partitions, and how far the read model has followed it."""
    match settings.log:
        case MemoryAddress():
            yield fine("log", "in memory: of one node, kept nowhere")
            return
        case SqliteAddress(path) if not path.exists():
            yield _missing(path)
            return
    try:
        async with open_log(settings) as log:
            ends = [log.ordinal((await log.end(partition)).offset) for partition in range(log.partitions)]
            yield fine("log", f"{settings.log}, epoch {log.epoch}, {counted(sum(ends), log.unit)}")
            match settings.log:
                case SqliteAddress(path):
                    yield await asyncio.to_thread(_appendable, path)
                case AmqpAddress():
                    yield fine("broker", "takes and gives messages on every stream of the log")  # that is how an end is found
            yield _partitions(settings, log)
            yield await _read_model(settings, log)
    except LogMissing as error:
        yield warn("log", str(error))
    except (LogUnavailable, LogDiverged) as error:
        yield fail("log", str(error))


def _missing(path: Path) -> Finding:
    nearest = next(folder for folder in path.absolute().parents if folder.exists())
    if not os.access(nearest, os.W_OK | os.X_OK):
        return fail("log", f"there is none at {path}, and it cannot be made in {nearest}")
    return warn("log", f"there is none at {path} yet; the first node makes it")


def _appendable(path: Path) -> Finding:
    """Whether a writer would get through, without writing: the files' permissions, and the lock that writers take in turn."""
    closed = [file.name for file in _files(path) if not os.access(file, os.R_OK | os.W_OK)]
    if closed:
        return fail("log", f"no permission to write {', '.join(closed)} in {path.parent}")
    try:
        lock = FileLock(path.with_name(f"{path.name}.lock"))
    except OSError as error:
        return fail("log", f"its lock cannot be opened: {error.strerror}")
    with contextlib.closing(lock):
        began = time.monotonic()
        if not lock.acquire(began + _LOCK_WAIT_S):
            return fail("log", f"its lock was not to be had within {_LOCK_WAIT_S:g} s: another process holds it")
        lock.release()
        waited_ms = (time.monotonic() - began) * 1000
    return fine("log", f"can be appended to: permissions are right, its lock was had in {waited_ms:.1f} ms")


def _files(path: Path) -> Iterator[Path]:
    """The log's file and those that SQLite and the nodes keep beside it."""
    yield from (file for file in sorted(path.parent.glob(f"{glob.escape(path.name)}*")) if file.is_file())


def _partitions(settings: Settings, log: Log) -> Finding:
    rooms = room_partitions(log)
    if rooms != settings.partitions:
        return fail("partitions", f"the log has {rooms}, TIDEGATE_PARTITIONS says {settings.partitions}; the number is fixed")
    return fine("partitions", f"{rooms} for rooms and 1 for sessions, as configured")


async def _read_model(settings: Settings, log: Log) -> Finding:
    model = model_of(settings)
    if not model.exists():
        return warn("read model", f"there is none at {model} yet; its node makes it from the log")
    try:
        epoch = read_manifest(model).epoch
        behind = await lag(model, log)
    except OtherSchema as error:
        return warn("read model", str(error))
    except SnapshotError as error:
        return fail("read model", str(error))
    if epoch != log.epoch:
        return fail("read model", f"{model} is of the log {epoch}, not of this one: remove it, or restore another's")
    ahead = [partition for partition, units in behind.items() if units < 0]
    if ahead:
        return fail("read model", f"{model} has more of partition {ahead[0]} than the log: the log was truncated or replaced")
    lost = [partition for partition, at in places(model).items() if not await log.holds(partition, at)]
    if lost:
        return fail("read model", f"the log does not hold what {model} has read of partition {lost[0]}: restore a newer snapshot")
    used = f"node {settings.node_id} runs on it" if in_use(model) else "no node runs on it"
    total = sum(behind.values())
    place = f"{counted(total, log.unit)} behind" if total else "level with"
    return fine("read model", f"{model} is {place} the log; {used}")
