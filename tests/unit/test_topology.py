"""Which partition a room is in, and what RabbitMQ gets to see: fixed for ever, since the log outlives the code."""

import pytest

from broker.topology import (
    BUCKETS,
    GENESIS,
    SIGNALS,
    TO_ALL,
    bucket_of,
    control_partition,
    emit_arguments,
    emits_of,
    log_arguments,
    partition_for,
    stream_of,
    to_bucket,
)

COUNTS = (1, 3, 8, 16, 256)
#: Written down once. A change here would look for the past of a room where it is not.
GOLDEN = {
    "general": (0, 0, 2, 10, 74),
    "lobby": (0, 2, 7, 7, 247),
    "a": (0, 0, 3, 3, 67),
    "team-1": (0, 0, 1, 9, 137),
    "room.with.dots": (0, 2, 2, 10, 186),
    "direct_a_b": (0, 1, 3, 11, 219),
    "0": (0, 2, 1, 1, 33),
    "x" * 64: (0, 2, 2, 2, 18),
    "käse": (0, 0, 7, 7, 247),
}


@pytest.mark.parametrize("room", GOLDEN)
def test_a_room_is_where_it_always_was(room: str) -> None:
    """The partition of a room, for several numbers of partitions, is the one it had in the first version."""
    assert tuple(partition_for(room, count) for count in COUNTS) == GOLDEN[room]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 255, 256])
def test_rooms_are_spread_over_all_partitions(count: int) -> None:
    """Every partition exists, and of many rooms each gets about its share."""
    rooms = 400 * count
    sizes = [0] * count
    for number in range(rooms):
        sizes[partition_for(f"room-{number}", count)] += 1
    assert sum(sizes) == rooms
    assert min(sizes) > 200 and max(sizes) < 800


@pytest.mark.parametrize("count", [1, 8, 256])
def test_no_room_is_in_the_control_partition(count: int) -> None:
    """The life of sessions has the partition behind the rooms' last one."""
    assert control_partition(count) == count
    assert all(partition_for(f"room-{number}", count) < control_partition(count) for number in range(1000))


def test_names_on_a_broker_are_what_they_always_were() -> None:
    """Who comes with a later version finds the streams and the exchange of the first."""
    assert [stream_of(0), stream_of(8), stream_of(256)] == ["tidegate.log.0", "tidegate.log.8", "tidegate.log.256"]
    assert (GENESIS, SIGNALS, TO_ALL) == ("tidegate.log.genesis", "tidegate.signal", "all")
    assert (emits_of("socketio"), to_bucket(7)) == ("tidegate.emit.socketio", "bucket.7")


def test_a_stream_is_declared_with_what_it_always_was() -> None:
    """A broker refuses a stream that is there with other arguments; nothing is thrown away unless a policy says so."""
    assert log_arguments() == {
        "x-queue-type": "stream",
        "x-initial-cluster-size": 3,
        "x-queue-leader-locator": "balanced",
        "x-stream-max-segment-size-bytes": 4_000_000,
    }


def test_what_managers_say_is_kept_for_a_while() -> None:
    """By age and by size, in segments of which several fit, so that dropping one leaves most of it; not smaller than 1 MB."""
    assert emit_arguments("1h", 100_000_000) == log_arguments() | {
        "x-max-age": "1h",
        "x-max-length-bytes": 100_000_000,
        "x-stream-max-segment-size-bytes": 4_000_000,
    }
    assert emit_arguments("5m", 2_000_000)["x-stream-max-segment-size-bytes"] == 1_000_000
    assert emit_arguments("5m", 10**12)["x-stream-max-segment-size-bytes"] == 4_000_000


def test_rooms_are_spread_over_all_buckets() -> None:
    """Each of the 256 buckets gets about its share, and a room stays in its own."""
    sizes = [0] * BUCKETS
    for number in range(400 * BUCKETS):
        sizes[bucket_of(f"room-{number}")] += 1
    assert BUCKETS == 256
    assert min(sizes) > 200 and max(sizes) < 800
    assert [bucket_of(room) for room in GOLDEN] == [buckets for *_, buckets in GOLDEN.values()]
