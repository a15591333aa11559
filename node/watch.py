"""What keeps a node from being ready: looked at a few times a second, and said when it begins and when it is over."""

import asyncio
from collections.abc import Callable, Mapping

import structlog

EVERY_S = 0.25
#: What is said at the beginning and at the end of a reason of `/readyz`; the others have lines of their own.
LINES = {
    "log away": ("the log is away", "the log is back"),
    "deaf": ("nothing comes from the log although it answers", "what stands in the log comes again"),
    "log behind": ("too much waits for the log: no handshakes", "what waited for the log is in it: handshakes again"),
    "read model": ("the read model cannot be written", "the read model is written again"),
}
_log = structlog.get_logger()


class Watch:
    """Knows since when each reason holds."""

    def __init__(self, not_ready: Callable[[], Mapping[str, str]]) -> None:
        self._not_ready = not_ready
        self._since: dict[str, float] = {}

    async def run(self) -> None:
        """Look, for ever."""
        while True:
            self.look(asyncio.get_running_loop().time())
            await asyncio.sleep(EVERY_S)

    def look(self, now: float) -> None:
        """Say what has begun and what is over."""
        reasons = self._not_ready()
        for reason in reasons.keys() - self._since.keys():
            self._since[reason] = now
            if reason in LINES:
                _log.warning(LINES[reason][0], why=reasons[reason])
        for reason in self._since.keys() - reasons.keys():
            seconds = round(now - self._since.pop(reason), 1)
            if reason in LINES:
                _log.info(LINES[reason][1], after_seconds=seconds)

    def lasts(self, reason: str, now: float) -> float:
        """For how many seconds a reason has held; 0 where it does not."""
        return max(0.0, now - self._since.get(reason, now))
