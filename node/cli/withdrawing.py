"""How the commands withdraw access: the event that `/admin` would append, put into the log from here. Nodes may run or not."""

import asyncio

from broker.log import LogUnavailable
from node.cli.log_access import open_log, room_partitions
from node.cli.screen import complain, say
from node.config import Settings
from node.config_values import Taken, quoted
from node.core.events import ControlEvent, encode

BY = "tidegate"  # who did it, as the log says: whoever may write the log's file
_MOST_CHARS = 8_192


def _name(text: str) -> str:
    if not 0 < len(text) <= _MOST_CHARS or any("\ud800" <= char <= "\udfff" for char in text):
        raise ValueError(quoted(text))
    return text


USER = Taken("the name of a user", _name)
ID = Taken(f"an id, 1 to {_MOST_CHARS} characters", _name)


def withdraw(settings: Settings, event: ControlEvent, done: str) -> int:
    """Append the event and say what was `done`; the exit code of the command."""
    try:
        asyncio.run(_append(settings, encode(event)))
    except LogUnavailable as error:
        complain(f"nothing was withdrawn: {error}")
        return 1
    say(done)
    return 0


async def _append(settings: Settings, data: bytes) -> None:
    async with open_log(settings) as log:
        await log.append(room_partitions(log), data)  # the partition behind the rooms'
