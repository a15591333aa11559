"""`tidegate restore`: puts a snapshot in the place of a read model."""

import asyncio
from pathlib import Path
from typing import Annotated

from node.cli.bar import Bar
from node.cli.flags import Command, Takes
from node.cli.read_model import InUse, held, model_of, open_log_if_there
from node.cli.screen import complain, say
from node.cli.snapshot import described
from node.config import ConfigurationError, Settings
from node.config_values import Taken, quoted
from node.flow import offline


def _file(text: str) -> Path:
    path = Path(text)
    if "\0" in text or not path.is_file():
        raise ValueError(quoted(text))
    return path


def restore(
    settings: Settings,
    file: Annotated[
        Path,
        Takes(
            meaning="a snapshot", shown="FILE", kind=Taken("the path of a file that `tidegate snapshot` wrote", _file), word=True
        ),
    ],
) -> int:
    """Put a snapshot in the place of the read model of --node-id, whose node must not run; the old one is kept as .bak.

    A snapshot of another log than the configured one is refused.
    """
    model = model_of(settings)
    if model.exists() and file.samefile(model):
        raise ConfigurationError([f"FILE: takes another file than the read model itself, got {quoted(str(file))}"])
    try:
        with held(model):
            if (other := asyncio.run(_other_log(settings, offline.read_manifest(file).epoch))) is not None:
                complain(f"cannot restore: {file} is of another log than {settings.log}, whose epoch is {other}")
                return 1
            had = model.exists()
            with Bar("restoring") as bar:
                restored = offline.restore(file, model, bar)
    except InUse as error:
        complain(f"cannot restore: {error}; stop it first")
        return 1
    except (offline.SnapshotError, OSError) as error:
        complain(f"cannot restore: {error}")
        return 1
    say(f"{model}: {described(restored)}" + (f"; the old one is {model.name}.bak" if had else ""))
    return 0


async def _other_log(settings: Settings, epoch: str) -> str | None:
    """The epoch of the configured log where it is another than the snapshot's; a log that is not there says nothing."""
    async with open_log_if_there(settings) as log:
        return log.epoch if log is not None and log.epoch != epoch else None


COMMAND = Command(run=restore, settings=("node_id", "log", "data"))
