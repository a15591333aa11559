"""What applying a record asks the node to do: data, performed in one place (`flow/projector.py`), never by a replay."""

from typing import Any

import msgspec

from node.core.errors import Refused
from node.core.events import EndReason


class Deliver(msgspec.Struct, frozen=True, kw_only=True):
    """Send the event `name` with `payload` to the members of `room`, and to `also` (who was kicked, who was invited)."""

    room: str
    name: str
    payload: dict[str, Any]
    seq: int | None  # None: not sequenced
    also: tuple[str, ...] = ()


class Entered(msgspec.Struct, frozen=True):
    """`user` is a member of `room` from here on: deliveries that follow are for him too."""

    user: str
    room: str


class Exited(msgspec.Struct, frozen=True):
    """`user` is no longer a member of `room`. Stands before the `Deliver` of his leaving, which names him in `also`."""

    user: str
    room: str


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """The event `event` took effect, or is a repeat of one that did (`duplicate`); `seq` is the first one's; 0 where there is none."""

    event: str
    seq: int
    at: int
    duplicate: bool = False


class Lost(msgspec.Struct, frozen=True, kw_only=True):
    """The event `event` lost a race: it changed nothing, here and on every node."""

    event: str
    refused: Refused


class UserSessionsChanged(msgspec.Struct, frozen=True):
    """A session of `user` opened, or closed for the reason `ended`, somewhere: who is online may have changed."""

    user: str
    ended: EndReason | None = None


class EndSessions(msgspec.Struct, frozen=True, kw_only=True):
    """Close these open sessions, wherever they are, for `reason`, telling them `code`."""

    sessions: tuple[str, ...]
    reason: EndReason
    code: str
    asked_at: int  # of the withdrawal


Effect = Deliver | Entered | Exited | Applied | Lost | UserSessionsChanged | EndSessions
