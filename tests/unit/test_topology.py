"""Which partition a room is in: fixed for ever, since the log outlives the code."""

import pytest

from broker.topology import control_partition, partition_for

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
