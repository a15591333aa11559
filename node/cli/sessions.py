"""`tidegate sessions`: who is or was connected, where, on which token."""

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from typing import Annotated

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from broker.log import LogUnavailable
from node.cli.flags import Command, Takes
from node.cli.moments import TIME, Moment, written_locally
from node.cli.read_model import in_use, lag, model_of, open_log_if_there
from node.cli.screen import complain, counted
from node.config import Settings
from node.core.view import Session
from node.flow import offline


def sessions(
    settings: Settings,
    at: Annotated[Moment | None, Takes(meaning=f"the moment: {TIME.takes} (default: now)", shown="TIME", kind=TIME)] = None,
    since: Annotated[
        Moment | None, Takes(meaning=f"everyone from this moment on: {TIME.takes}; what a storm replays", shown="TIME", kind=TIME)
    ] = None,
    json: Annotated[bool, Takes(meaning="JSON, one session a line, on a terminal too")] = False,
) -> int:
    """List who was connected at a moment, where, and on which token: a table on a terminal, else JSON, one session a line.

    With --since, who was at any time from then on: those that have ended too, with their end.

    It is read from the read model of --node-id, which has the sessions of the whole cluster as far as its node has followed the log.
    """
    moment = at.ms if at is not None else int(time.time() * 1000)
    try:
        found = offline.sessions(model_of(settings), moment, since=None if since is None else since.ms)
        behind = asyncio.run(_behind(settings))
    except offline.SnapshotError as error:
        complain(f"cannot list sessions: {error}")
        return 1
    if not in_use(model_of(settings)):
        complain(f"node {settings.node_id} does not run: this is what it last knew")
    if behind > 0:
        complain(f"the read model of {settings.node_id} is {counted(behind, 'event')} behind the log")
    if json or not sys.stdout.isatty():
        sys.stdout.buffer.write(b"".join(msgspec.json.encode(session) + b"\n" for session in found))
        sys.stdout.buffer.flush()
    elif found:
        _draw(found, moment)
    if not found and not json:
        complain(_nobody(at, since))
    return 0


def _nobody(at: Moment | None, since: Moment | None) -> str:
    """What is said instead of nothing; on stderr, since no session is no line of JSON."""
    if since is not None:
        until = "" if at is None else f" to {written_locally(at.ms)}"
        return f"nobody was connected from {written_locally(since.ms)}{until or ' on'}"
    return "nobody is connected" if at is None else f"nobody was connected at {written_locally(at.ms)}"


async def _behind(settings: Settings) -> int:
    try:
        async with open_log_if_there(settings, needed=True) as log:
            return sum((await lag(model_of(settings), log)).values()) if log is not None else 0
    except LogUnavailable as error:
        complain(f"the log cannot be asked ({error}): this is what the read model of {settings.node_id} last knew")
        return 0


def _draw(found: Sequence[Session], moment: int) -> None:
    console = Console()
    columns = {name: cell for name, (cell, always) in _COLUMNS.items() if always or console.width >= WIDE}
    table = Table(title=f"{counted(len(found), 'session')} at {written_locally(moment)}")
    for name in columns:
        table.add_column(name, overflow="fold")  # whole, on as many lines as it takes: an id that is cut off is of no use
    for one in found:
        table.add_row(*(Text(cell(one)) for cell in columns.values()))  # a user's name is no markup
    console.print(table)


WIDE = 170  # of a terminal, in characters: where every column fits
#: By heading: what stands in the cell, and whether it does on a narrow terminal too (`--json` has everything).
_COLUMNS: dict[str, tuple[Callable[[Session], str], bool]] = {
    "user": (lambda one: one.user, True),
    "node": (lambda one: one.node, True),
    "namespace": (lambda one: one.namespace, False),
    "transport": (lambda one: one.transport, False),
    "opened": (lambda one: written_locally(one.opened_at), False),
    "token ends": (lambda one: written_locally(one.expires_at), True),
    "renewed": (lambda one: str(one.renewals), False),
    "token (jti)": (lambda one: one.jti or "", False),
    "session": (lambda one: one.session, True),
}

COMMAND = Command(run=sessions, settings=("node_id", "log", "data"))
