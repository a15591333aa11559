"""Which partition a room's events go to, and what the others are for. Pure and fixed for ever: the log outlives the code."""

import zlib


def partition_for(room: str, partitions: int) -> int:
    """The room's partition, of 0 to `partitions` - 1."""
    return zlib.crc32(room.encode()) % partitions


def control_partition(partitions: int) -> int:
    """The partition behind the rooms': the life of sessions, withdrawals of tokens.

    The log is opened with one more than `partitions`.
    """
    return partitions
