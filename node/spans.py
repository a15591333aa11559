"""What the parts of a node tell a tracer, where there is one (`node/tracing.py`); where there is none they hold None, and ask nothing."""

from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

import msgspec

_Event = TypeVar("_Event", bound=msgspec.Struct)


class Reach(Protocol):
    """The part of a trace that lasts until an event is written to the sockets of this node, or let go. It ends with its last reference."""

    @property
    def trace(self) -> str:
        """The id of the trace, 32 hexadecimal digits."""
        ...

    def written(self) -> None:
        """It was written to one more."""
        ...


class Spans(Protocol):
    """The spans of one node: from a command to the sockets that it reaches, wherever they are."""

    def command(self, name: str, lineage: str, parent: str | None = None) -> AbstractContextManager[str]:
        """A command is carried out in the block; gives the id of its trace, empty where it is not one of those that are traced.

        `parent` is the W3C `traceparent` of whoever asks, if he said so.
        """
        ...

    def appending(self, event: _Event) -> AbstractContextManager[_Event]:
        """An event is appended in the block: the one that it gives, which carries the trace to whoever applies it."""
        ...

    def applied(self, event: msgspec.Struct, carried: str) -> Reach | None:
        """An event that carried this trace was applied, and is on its way to the sockets; None for what is no trace."""
        ...

    def came_to(self, outcome: str) -> None:
        """What is done now had this outcome."""
        ...

    def current(self) -> str:
        """The id of the trace of what is done now; empty where that is not traced."""
        ...
