"""Commands to a node and their answers. Nothing here waits."""

from collections.abc import Callable
from typing import Any, TypeAlias

from loadtest import wire
from loadtest.clock import monotonic
from loadtest.link import Gone, Link
from loadtest.route import Backoff

Heard: TypeAlias = Callable[[wire.Answer], None]
"""What is done with an answer."""


class Commands:
    """Those of one user, over one connection after the other: their numbers, who hears each answer, and when to give one again.

    Each is given once, over the connection that is open then, and heard of at most once. Nobody hears of an answer that does not come.
    """

    __slots__ = ("_number", "_waiting", "link", "pause")

    def __init__(self, draw: Callable[[], float]) -> None:
        """`draw` gives numbers in [0, 1)."""
        self.link: Link | None = None  # that is open, and that they go over
        self._number = 0
        self._waiting: dict[int, Heard] = {}
        self.pause = Backoff(draw, first_s=0.5, cap_s=5.0)  # before one that was not carried out is given again

    def forget(self) -> None:
        """The connection has ended: no answers come any more. Idempotent."""
        self.link = None
        self._waiting.clear()

    def give(self, name: str, payload: dict[str, Any], heard: Heard) -> None:
        """Give a command; `heard` is called with its answer. Raises `Gone`."""
        if self.link is None:
            raise Gone("there is no connection")
        self._number += 1
        self._waiting[self._number] = heard
        self.link.send(wire.command(self._number, name, payload))

    def answered(self, acked: wire.Acked) -> None:
        """An answer came; one that nobody waits for is passed over."""
        heard = self._waiting.pop(acked.number, None)
        if heard is not None:
            heard(acked.answer)

    def again_at(self, answer: wire.Answer) -> float:
        """When (monotonic) to give one again that was refused for the moment."""
        return monotonic() + self.pause.after(hint_s(answer))


def ignored(answer: wire.Answer) -> None:
    """Nothing is done with it."""


def hint_s(answer: wire.Answer | None) -> float:
    """What a refused answer asks to wait."""
    return 0.0 if answer is None or answer.error is None or answer.error.retry_after is None else answer.error.retry_after / 1000
