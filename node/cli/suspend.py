"""`tidegate suspend`: keeps a user out, or lets him in again."""

import time
from typing import Annotated

from node.cli.flags import Command, Takes
from node.cli.moments import TIME, Moment, written
from node.cli.withdrawing import BY, USER, withdraw
from node.config import Settings
from node.config_values import quoted
from node.core.events import UserSuspended
from node.flow.ids import id_maker


def suspend(
    settings: Settings,
    user: Annotated[str, Takes(meaning="who", shown="USER", kind=USER, word=True)],
    until: Annotated[
        Moment | None,
        Takes(meaning=f"until when: {TIME.takes} (default: until it is lifted, with `now`)", shown="TIME", kind=TIME),
    ] = None,
) -> int:
    """Accept no token of USER, whenever it was issued, until a moment or until further notice.

    It is appended to the log: nodes that run end the sessions of USER within a second, the others know when they start.
    `--until now`, or any time that has passed, lifts it.
    """
    at = time.time_ns() // 1_000_000
    event = UserSuspended(id=id_maker()(), at=at, by=BY, user=user, until=until.ms if until is not None else None)
    if until is None:
        done = f"suspended: {quoted(user)}, until it is lifted with `--until now`"
    elif until.ms > at:
        done = f"suspended: {quoted(user)}, until {written(until.ms)}"
    else:
        done = f"not suspended any more: {quoted(user)}"
    return withdraw(settings, event, done)


COMMAND = Command(run=suspend, settings=("log", "data"))
