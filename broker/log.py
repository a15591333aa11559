"""The contract of an event log, whatever it is kept in.

A log has `partitions` ordered sequences of records, numbered from 0. Every implementation passes the same
contract suite (`tests/contract/`), which holds each sentence below.

Guarantees
- Durable: when `append` returns, the record survives `kill -9` of this process and of every other.
- Total order per partition: every follower, in every process, sees the same records at the same offsets, in the same order.
- Order of one appender: records handed to `append` one after the other (without awaiting) by one process
  stand in the partition in that order.
- One outcome of a group: records handed to one `append_all` stand in their order, no other record of this process between them.
  Where it failed, only a beginning of them may stand (none, some or all): who repeats the same call until it succeeds, and
  hands over nothing of what follows before, has the first appearances of all his records in his order.
- At least once: a record whose append failed with `LogUnavailable` may or may not stand in the log, now or later,
  and may stand in it twice if it was appended again; followers drop the second by the event's id, which is inside `data`.
- No gap: a follower that starts after a position gets every later record, or `LogDiverged`.
- A partition that is not of 0 to `partitions` - 1 is a `ValueError`, everywhere.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Protocol

import msgspec


class Position(msgspec.Struct, frozen=True, order=True, gc=False):
    """A place in one partition: just behind the record that has this offset.

    `offset` is strictly increasing within a partition and starts at 1 or above (0 is the start of the partition);
    it need not be dense.  `checksum` is the CRC-32 of that record's bytes (0 at the start), so that a follower that comes
    back to a log that was truncated, restored or rewritten is told so instead of reading on as if nothing had happened.
    """

    offset: int
    checksum: int = 0


START = Position(0, 0)
MOST_IN_BATCH = 5_000  # records a follower gets at once: one transaction of a read model


class Record(msgspec.Struct, frozen=True, gc=False):
    """One appended event, as every follower sees it."""

    partition: int
    position: Position
    data: bytes


class LogUnavailable(Exception):
    """The log cannot take or give records now; the caller may try again. The message says why, without secrets."""


class LogMissing(LogUnavailable):
    """There is no log there yet, and whoever asked was not to make one."""


class LogDiverged(Exception):
    """The log is not the one that the position was taken from: truncated, rewritten, removed or replaced.

    A position does not name its log: who keeps positions keeps the `epoch` they are of, and compares it.
    Final for this read model: it must be rebuilt, or restored from a peer's snapshot.
    """


def check_partition(partition: int, partitions: int) -> None:
    """Raises `ValueError` for a partition that the log does not have."""
    if not 0 <= partition < partitions:
        raise ValueError(f"there is no partition {partition}: the log has {partitions}, numbered from 0")


class Log(Protocol):
    """A partitioned, durable event log shared by all nodes."""

    @property
    def partitions(self) -> int:
        """How many partitions there are; fixed once the log exists."""
        ...

    @property
    def epoch(self) -> str:
        """The identity of this log: another log, even at the same address, has another."""
        ...

    async def append(self, partition: int, data: bytes) -> None:
        """Append one record and return once it is durable.

        Records that wait together leave together (natural batching); there is no linger.
        Raises `LogUnavailable` within 3 s when the log cannot take it, or at once when the buffer of waiting records is full.
        """
        ...

    async def append_all(self, partition: int, data: Sequence[bytes]) -> None:
        """Append records that belong together, some hundreds at most, and return once all of them are durable; as `append`."""
        ...

    def follow(self, partition: int, after: Position) -> AsyncGenerator[Sequence[Record], None]:
        """Yield batches of the records behind `after`, in order, for ever: first those that stand, then new ones as they come.

        Survives a log that goes away and comes back. A batch has at least one and at most 5,000 records.
        Raises `LogDiverged` when the record at `after` is not the one it was, also later, when the last one it gave is not;
        `LogUnavailable` only when the log was closed under it.
        Close with `aclose()`; no task is left behind.
        """
        ...

    @property
    def unit(self) -> str:
        """What `ordinal` counts: `event`, or `block` where events that were appended together are one to the log."""
        ...

    def ordinal(self, offset: int) -> int:
        """How many of them stand in a partition up to this offset, at most: for progress and lag, not for a judgement."""
        ...

    async def end(self, partition: int) -> Position:
        """The position of the last record that is durable now; `START` for an empty partition. Raises `LogUnavailable`."""
        ...

    async def holds(self, partition: int, position: Position) -> bool:
        """Whether a follower could go on behind `position`: the record there is the one it was. Raises `LogUnavailable`."""
        ...

    async def rebase(self, partition: int, position: Position, *, anew: bool) -> Position:
        """Where a read model that stands at `position` goes on in a partition that does not hold it, since it was lost and made anew.

        With `anew` it may be made anew by this call, if nothing stands in it that the read model does not have; whoever has no read
        model of that position cannot follow it then. Without, only what such a call has made for the same position is found.
        Raises `LogDiverged` saying why it cannot be, `LogUnavailable`.
        """
        ...

    @property
    def up(self) -> bool:
        """Whether the last contact with the log's storage succeeded. While it is down the log tries again by itself."""
        ...


class Signals(Protocol):
    """Messages between nodes that need not last: typing, presence, heartbeats. At most once, unordered between nodes."""

    def publish(self, data: bytes) -> None:
        """Hand `data` to every OTHER node that is there now.

        Never blocks and never raises: what cannot go, or is longer than 64 KiB, is dropped. A node's last words go before it closes.
        """
        ...

    def subscribe(self, receive: Callable[[bytes], None]) -> None:
        """Call `receive` on the event loop for each message of another node."""
        ...


class Broker(Protocol):
    """What a node opens at its start: the log and the signals of one cluster."""

    @property
    def log(self) -> Log: ...

    @property
    def signals(self) -> Signals: ...

    @property
    def deaf(self) -> str | None:
        """Why what others append or say may not reach this process although the broker answers; None while it does.

        A broker mends it by itself, by other connections.
        """
        ...
