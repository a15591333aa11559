"""Whether what stands in a partition comes to whoever follows it here. Pure: time is an argument, in seconds of any one clock."""

import math
from collections import deque
from typing import Protocol

DEAF_S = 2.0  # what is in a stream reaches whoever follows it within milliseconds
CLAIM_S = 5.0  # another node says how far it has read once a second
MOST_AWAITED = 1_000  # messages


class Reader(Protocol):
    """Who follows."""

    @property
    def kept_out(self) -> str | None:
        """Why he cannot read although there is a connection; None while he can, or there is none."""
        ...

    @property
    def waits(self) -> bool:
        """Whether everything that came has been taken: the next message would be seen at once."""
        ...

    @property
    def offset(self) -> int:
        """Of the last message that was read; -1 for none."""
        ...


class Hearing:
    """What is known of one partition: which messages have to come, because we appended them or another node has read them."""

    def __init__(self) -> None:
        self._reader: Reader | None = None
        self._own: deque[int] = deque(maxlen=MOST_AWAITED)  # the numbers of ours that were confirmed and have not come yet
        self._own_came = 0
        self._claimed, self._claimed_at = -1, -math.inf
        self._offset = -1
        self._silent_since: float | None = None
        self.silent = False  # something has been missing for too long, while nothing came and everything that had come was taken
        self.deaf = False  # it still has not come: another connection alone is no cure
        self._out_since: float | None = None

    @property
    def reader(self) -> Reader | None:
        return self._reader

    def begin(self, reader: Reader) -> None:
        """Somebody follows the partition from now on; the last of several is the one that is looked at."""
        self._reader, self._silent_since, self._out_since = reader, None, None
        self._own.clear()

    def end(self, reader: Reader) -> None:
        """He does not any more."""
        if self._reader is reader:
            self._reader = None

    def confirmed(self, number: int) -> None:
        """The broker has our message of this number, of a growing sequence. It may have come before we were told so."""
        if self._reader is not None and number > self._own_came:
            self._own.append(number)

    def came(self, number: int) -> None:
        """Our message of this number was read, and so were those that we appended before it."""
        self._own_came = max(self._own_came, number)
        while self._own and self._own[0] <= number:
            self._own.popleft()

    def claimed(self, offset: int, now: float) -> None:
        """Another node has read up to this offset, so that much stands in the partition."""
        if offset >= self._claimed or now - self._claimed_at > CLAIM_S:
            self._claimed, self._claimed_at = offset, now

    def look(self, now: float) -> None:
        """Look whether something is missing: to be called now and then, and more often than a partition may be deaf."""
        reader = self._reader
        if reader is None:
            self.deaf = self.silent = False
            return
        moved, self._offset = reader.offset != self._offset, reader.offset
        claimed = self._claimed if now - self._claimed_at <= CLAIM_S else -1
        missing = bool(self._own) or reader.offset < claimed
        if not missing or not reader.waits:
            self._silent_since = None
        elif moved or self._silent_since is None:
            self._silent_since = now
        self.silent = self._silent_since is not None and now - self._silent_since > DEAF_S
        self.deaf = self.silent or (self.deaf and missing and not moved)

    def kept_out(self, now: float) -> str | None:
        """Why whoever follows has not been able to read for too long, although there was a connection all the time; else None."""
        why = self._reader.kept_out if self._reader is not None else None
        if why is None:
            self._out_since = None
        elif self._out_since is None:
            self._out_since = now
        return why if self._out_since is not None and now - self._out_since > DEAF_S else None
