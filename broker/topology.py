"""Which partition a room's events go to, what the others are for, and the names that RabbitMQ gets to see.

Pure and fixed for ever: the log outlives the code. No queue, exchange or binding is ever made for a user, a socket or a room.
"""

import zlib
from urllib.parse import quote

Arguments = dict[str, str | int]

GENESIS = "tidegate.log.genesis"  # a stream: which log this is, and of how many partitions
SIGNALS = "tidegate.signal"  # a topic exchange: what need not last
TO_ALL = "all"  # a routing key of it
BUCKETS = 256  # rooms hash into so many, and who wants to hear of a room binds its bucket
SEGMENT_BYTES = 4_000_000  # retention drops whole ones, and a broker reads the newest one whole before it serves the stream again


def partition_for(room: str, partitions: int) -> int:
    """The room's partition, of 0 to `partitions` - 1."""
    return zlib.crc32(room.encode()) % partitions


def control_partition(partitions: int) -> int:
    """The partition behind the rooms': the life of sessions, withdrawals of tokens.

    The log is opened with one more than `partitions`.
    """
    return partitions


def stream_of(partition: int) -> str:
    """The stream that is this partition of the log."""
    return f"tidegate.log.{partition}"


def log_arguments() -> Arguments:
    """What a stream of the log is declared with, where nobody has declared it before: it keeps everything, and a policy may say otherwise.

    Three replicas where there are three brokers; leaders where there are fewest. RabbitMQ 4 still knows all of them.
    """
    return {
        "x-queue-type": "stream",
        "x-initial-cluster-size": 3,
        "x-queue-leader-locator": "balanced",
        "x-stream-max-segment-size-bytes": SEGMENT_BYTES,
    }


def emits_of(channel: str) -> str:
    """The stream of what the Socket.IO managers of one channel tell each other."""
    return f"tidegate.emit.{channel}"


def emit_arguments(max_age: str, max_bytes: int) -> Arguments:
    """As `log_arguments`, but short-lived: `max_age` as RabbitMQ has it (`1h`), `max_bytes` for all segments together."""
    segment = min(SEGMENT_BYTES, max(1_000_000, max_bytes // 4))
    return log_arguments() | {
        "x-max-age": max_age,
        "x-max-length-bytes": max_bytes,
        "x-stream-max-segment-size-bytes": segment,
    }


def hash_of(room: str) -> int:
    """What stands for a room in the head of a record, of 32 bits."""
    return zlib.crc32(room.encode())


def bucket_of(room: str) -> int:
    """The bucket of a room, of 0 to `BUCKETS` - 1: the last bits of its hash."""
    return hash_of(room) % BUCKETS


def to_bucket(bucket: int) -> str:
    """The routing key of a bucket on the exchange of signals."""
    return f"bucket.{bucket}"


def to_bucket_of(channel: str, bucket: int) -> str:
    """As `to_bucket`, among the Socket.IO managers of one channel; whatever its name is, no wildcard stands in it."""
    return f"{to_bucket(bucket)}.{quote(channel, safe='')}"
