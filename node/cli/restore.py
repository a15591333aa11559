"""`tidegate restore`: puts a snapshot in the place of a read model."""

import asyncio
from pathlib import Path
from typing import Annotated

from broker.log import LogDiverged, LogMissing, LogUnavailable
from node.cli.bar import Bar
from node.cli.flags import Command, Takes
from node.cli.read_model import SNAPSHOT, InUse, held, model_of, open_log_if_there
from node.cli.screen import complain, say
from node.cli.snapshot import described
from node.config import ConfigurationError, Settings
from node.config_values import quoted
from node.flow import offline


def restore(
    settings: Settings,
    file: Annotated[
        Path,
        Takes(meaning="a snapshot", shown="FILE", kind=SNAPSHOT, word=True),
    ],
    rebase: Annotated[
        bool,
        Takes(
            meaning="make lost partitions of the log anew, with the snapshot for what stood before; for all nodes the same FILE"
        ),
    ] = False,
) -> int:
    """Put a snapshot in the place of the read model of --node-id, whose node must not run; the old one is kept as .bak.

    A snapshot of another log than the configured one is refused, and one that the log does not continue: a stream was lost, or
    truncated past it. With --rebase a lost one begins anew from the snapshot. Whatever else there is is left alone.
    """
    model = model_of(settings)
    if model.exists() and file.samefile(model):
        raise ConfigurationError([f"FILE: takes another file than the read model itself, got {quoted(str(file))}"])
    try:
        with held(model):
            offline.check_whole(file)
            based = asyncio.run(_based(settings, file, anew=rebase))
            had = model.exists()
            with Bar("restoring") as bar:
                restored = offline.restore(file, model, bar, based)
    except InUse as error:
        complain(f"cannot restore: {error}; stop it first")
        return 1
    except (offline.SnapshotError, LogDiverged, LogUnavailable, OSError) as error:
        complain(f"cannot restore: {error}")
        return 1
    for partition in sorted(based.positions if based is not None else ()):
        say(f"partition {partition} of the log begins anew with {file} for what stood before")
    say(f"{model}: {described(restored)}" + (f"; the old one is {model.name}.bak" if had else ""))
    return 0


async def _based(settings: Settings, file: Path, *, anew: bool) -> offline.Based | None:
    """See `offline.continued`; a log that is not there says nothing."""
    async with open_log_if_there(settings, needed=True) as log:
        if log is None and anew:
            raise LogMissing("there is no log to begin anew in; --rebase needs one")
        if log is None:
            return None
        try:
            return await offline.continued(log, file, anew=anew)
        except LogDiverged as error:
            raise LogDiverged(f"{error}" + ("" if anew else " (--rebase)")) from None


COMMAND = Command(run=restore, settings=("node_id", "log", "data"))
