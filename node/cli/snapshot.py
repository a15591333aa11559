"""`tidegate snapshot`: the read model with its positions, to bootstrap a new node."""

from pathlib import Path
from typing import Annotated

from node.cli.bar import Bar
from node.cli.flags import Command, Takes
from node.cli.read_model import model_of
from node.cli.screen import complain, counted, say
from node.config import ConfigurationError, Settings
from node.config_values import Taken, quoted
from node.flow import offline


def _file(text: str) -> Path:
    path = Path(text)
    if not text or "\0" in text or path.is_dir() or not path.parent.is_dir():
        raise ValueError(quoted(text))
    return path


def snapshot(
    settings: Settings,
    file: Annotated[
        Path,
        Takes(
            meaning="where to write it",
            shown="FILE",
            kind=Taken("the path of a file in a folder that is there", _file),
            word=True,
        ),
    ],
) -> int:
    """Write the read model of --node-id with its positions in the log to FILE, all or nothing. Its node may run.

    `tidegate restore` puts it in the place of another node's, which then starts from there.
    """
    model = model_of(settings)
    if file.exists() and model.exists() and file.samefile(model):
        raise ConfigurationError([f"FILE: takes another file than the read model itself, got {quoted(str(file))}"])
    try:
        with Bar("writing the snapshot") as bar:
            held = offline.snapshot(model, file, bar)
    except (offline.SnapshotError, OSError) as error:
        complain(f"cannot write the snapshot: {error}")
        return 1
    say(f"{file}: {described(held)}")
    return 0


def described(held: offline.Manifest) -> str:
    """What a snapshot holds, in one line."""
    at = " ".join(f"{partition}:{offset}" for partition, offset in sorted(held.positions.items()))
    return f"{counted(held.rooms, 'room')}, {counted(held.events, 'event')} in them, of the log {held.epoch} up to {at or 'its start'}"


COMMAND = Command(run=snapshot, settings=("node_id", "data"))
