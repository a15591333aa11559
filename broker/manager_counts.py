"""What a manager counts: to be asked for, and put wherever figures of an application go."""

import msgspec


class Counts(msgspec.Struct):
    """Since the manager began. `lost` is what this node knows to have missed, 0 unless the stream was removed or cut off behind it."""

    sent: int = 0  # records put into the buffer
    heard: int = 0  # records that came over the stream or the queue, each counted once
    decoded: int = 0  # those of them that concerned a room with a member here, and were looked into
    delivered: int = 0  # events handed to sockets of this node
    repeated: int = 0  # records that came a second time and were passed over
    lost: int = 0  # records of others that never came
    diverged: int = 0  # times that the stream was not the one that was read
    away: int = 0  # times that the broker was away
    waited: int = 0  # emits that waited for room in the buffer
    transient_dropped: int = 0  # transient events that were not sent, the broker being away or slow
    transient_missed: int = (
        0  # messages with transient events that came faster than this node could deliver them, and were dropped
    )
    strange: int = 0  # records that no version of ours has written
