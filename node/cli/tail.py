"""`tidegate tail`: follows the event log."""

import asyncio
import select
import signal
import sys
from collections.abc import Sequence
from contextlib import aclosing
from typing import Annotated

import msgspec

from broker.batch import UNREADABLE
from broker.log import START, Log, LogDiverged, LogUnavailable, Record
from broker.topology import partition_for
from node.cli.flags import Command, Takes
from node.cli.log_access import open_log, room_partitions
from node.cli.moments import BEGIN, Place
from node.cli.screen import complain
from node.config import ConfigurationError, Settings
from node.config_values import Taken, quoted
from node.core.commands import RoomName

_LOOK_EVERY_S = 0.5  # whether anyone still reads


def _room(text: str) -> str:
    try:
        return msgspec.convert(text, RoomName)
    except msgspec.ValidationError:
        raise ValueError(quoted(text)) from None


_ROOM = Taken("a room: 1 to 64 of a-z, 0-9, ., _ and -, the first a letter or a digit", _room)


class _Head(msgspec.Struct, frozen=True):
    """What every event has."""

    at: int
    room: str | None = None


_head = msgspec.json.Decoder(_Head)


def tail(
    settings: Settings,
    room: Annotated[str | None, Takes(meaning="only the events of this room", shown="ROOM", kind=_ROOM)] = None,
    from_: Annotated[
        Place | None,
        Takes(meaning=f"where to begin: {BEGIN.takes} (default: end)", shown="POSITION", kind=BEGIN),
    ] = None,
) -> int:
    """Follow the event log, one JSON object a line, until Ctrl-C or until nobody reads any more.

    A line has `partition`, `offset`, `position` (as --from takes it), `at` (ms) and `event`. Partitions run side by side: only
    the order within one is the log's.
    """
    try:
        asyncio.run(_run(settings, room, from_))
    except (LogUnavailable, LogDiverged) as error:
        complain(f"the log cannot be followed: {error}")
        return 1
    return 0


async def _run(settings: Settings, room: str | None, begin: Place | None) -> None:
    """Follow until one of: a signal, a reader that is gone, a log that has diverged."""
    done = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, done.set)
    async with open_log(settings) as log:
        followed = _followed(log, room, begin)
        work = [_follow(log, partition, room, begin) for partition in followed]
        tasks = {asyncio.create_task(one) for one in (*work, _asked(done), _reader_gone())}
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):  # several may have found the pipe closed: each must be looked at, one is told
                raise outcome


def _followed(log: Log, room: str | None, begin: Place | None) -> Sequence[int]:
    alone = begin.partition if begin is not None else None
    if alone is not None and alone >= log.partitions:
        raise ConfigurationError([f"--from: takes a partition from 0 to {log.partitions - 1}, got '{alone}'"])
    if room is None:
        return range(log.partitions) if alone is None else [alone]
    own = partition_for(room, room_partitions(log))
    if alone not in (None, own):
        raise ConfigurationError([f"--from: takes positions in partition {own}, where {room} is, got '{alone}'"])
    return [own]


async def _follow(log: Log, partition: int, room: str | None, begin: Place | None) -> None:
    first = begin.offset if begin is not None else 0
    after = START if begin is not None else await log.end(partition)
    async with aclosing(log.follow(partition, after)) as batches:
        async for batch in batches:
            lines = [_line(record, room) for record in batch if record.position.offset >= first]
            sys.stdout.buffer.write(b"".join(line for line in lines if line is not None))
            sys.stdout.buffer.flush()


def _line(record: Record, room: str | None) -> bytes | None:
    """None for an event of another room. A record that is no event is shown too: it stands in the log."""
    offset = record.position.offset
    shown = {"partition": record.partition, "offset": offset, "position": f"{record.partition}:{offset}"}
    try:
        head = _head.decode(record.data)
    except UNREADABLE:
        return _encoded({**shown, "error": "not an event", "bytes": len(record.data)}) if room is None else None
    if room is not None and head.room != room:
        return None
    return _encoded({**shown, "at": head.at, "event": msgspec.Raw(record.data)})


def _encoded(line: object) -> bytes:
    return msgspec.json.encode(line) + b"\n"


async def _asked(done: asyncio.Event) -> None:
    await done.wait()


async def _reader_gone() -> None:
    """Return when the pipe behind stdout has lost its reader, though there may be nothing to write."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    while True:
        if any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
            return
        await asyncio.sleep(_LOOK_EVERY_S)


COMMAND = Command(run=tail, settings=("log", "data"))
