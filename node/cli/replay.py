"""`tidegate replay`: rebuilds the read model from the log, and compares it with the live one."""

import asyncio
import os
import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from broker.log import Log, LogDiverged, LogUnavailable
from node.cli.bar import Bar
from node.cli.flags import Command, Takes
from node.cli.log_access import open_log
from node.cli.moments import UNTIL, Moment, Place
from node.cli.read_model import SNAPSHOT, lag, model_of
from node.cli.screen import complain, counted, say
from node.config import ConfigurationError, Settings
from node.config_values import Taken, quoted
from node.flow.offline import SnapshotError, Until, copy, differences, positions, read_manifest, rebuild

_CALLED = {"first": "live one", "second": "rebuilt one"}


def _new_file(text: str) -> Path:
    path = Path(text)
    if "\0" in text or path.exists() or not path.parent.is_dir():
        raise ValueError(quoted(text))
    return path


def replay(
    settings: Settings,
    until: Annotated[
        Moment | Place | None,
        Takes(meaning=f"where to stop: {UNTIL.takes} (default: the end)", shown="TIME|POSITION", kind=UNTIL),
    ] = None,
    verify: Annotated[bool, Takes(meaning="compare it with the live read model; exit 1 on any difference")] = False,
    base: Annotated[
        Path | None,
        Takes(
            meaning="begin with this snapshot, for a log whose beginning is not there any more",
            shown="FILE",
            kind=SNAPSHOT,
        ),
    ] = None,
    to: Annotated[
        Path | None,
        Takes(
            meaning="keep the rebuilt read model in this new file (default: it is thrown away)",
            shown="FILE",
            kind=Taken("the path of a file that is not there yet", _new_file),
        ),
    ] = None,
) -> int:
    """Rebuild the read model from the log, beside the live one, which is not touched.

    With --verify the live one of --node-id is copied first (its node may run), the log is replayed up to that copy's positions (or
    --until), and the two are compared row by row.
    """
    try:
        return asyncio.run(_run(settings, until, verify=verify, base=base, to=to))
    except (LogUnavailable, LogDiverged, SnapshotError, OSError) as error:
        complain(f"cannot replay: {error}")
        return 1


async def _run(settings: Settings, until: Moment | Place | None, *, verify: bool, base: Path | None, to: Path | None) -> int:
    spacious = settings.data if os.access(settings.data, os.W_OK) else None  # where one read model fits, so does another
    with tempfile.TemporaryDirectory(prefix="replay-", dir=to.parent if to else spacious) as folder:
        rebuilt, live = Path(folder, "rebuilt.db"), Path(folder, "live.db")
        async with open_log(settings) as log:
            stop = await _until(log, until)
            if verify:
                with Bar("copying the live read model") as bar:
                    copy(model_of(settings), live, bar)
                stop = stop or Until(positions=positions(live))
            began = time.monotonic()
            with Bar("replaying") as bar:
                events = await rebuild(log, rebuilt, base=base, until=stop, progress=bar)
            replayed = f"replayed {counted(events, 'event')} in {time.monotonic() - began:.1f} s"
            foreign = await _foreign(live, log) if verify else []
        if verify:
            code = _compare(settings, rebuilt, live, replayed, foreign)
        else:
            held, code = read_manifest(rebuilt), 0
            say(f"{replayed}: {counted(held.rooms, 'room')}, {counted(held.events, 'event')} in them")
        _keep(rebuilt, to)
    return code


def _compare(settings: Settings, rebuilt: Path, live: Path, replayed: str, foreign: Sequence[str]) -> int:
    found = [*foreign, *differences(live, rebuilt, now=time.time_ns() // 1_000_000)]
    for line in found:
        say(re.sub(r" in the (first|second)$", lambda which: f" in the {_CALLED[which[1]]}", line))
    many = "no difference" if not found else counted(len(found), "difference")
    say(f"{replayed}: {many} from {model_of(settings)}")
    return 1 if found else 0


def _keep(rebuilt: Path, to: Path | None) -> None:
    if to is not None:
        rebuilt.replace(to)
        say(f"kept in {to}")


async def _until(log: Log, until: Moment | Place | None) -> Until | None:
    match until:
        case None:
            return None
        case Moment(ms):
            return Until(at=ms)
        case Place(partition, offset):
            if partition is not None and partition >= log.partitions:
                raise ConfigurationError([f"--until: takes a partition from 0 to {log.partitions - 1}, got '{partition}'"])
            ends = {p: (await log.end(p)).offset for p in range(log.partitions)}
            return Until(positions={p: offset if partition in (None, p) else end for p, end in ends.items()})


async def _foreign(live: Path, log: Log) -> list[str]:
    """What shows that the read model is not of this log, whatever its rows say."""
    epoch = read_manifest(live).epoch
    if epoch != log.epoch:
        return [f"epoch: the live one is of the log {epoch}, not of {log.epoch}"]
    return [
        f"positions: partition {p} of the live one is {counted(-n, log.unit)} ahead of the log"
        for p, n in (await lag(live, log)).items()
        if n < 0
    ]


COMMAND = Command(run=replay, settings=("node_id", "log", "data"))
