"""What stands in the embedded log of a cluster, read beside its nodes."""

from contextlib import aclosing
from pathlib import Path

from broker.log import START
from broker.sqlite import open_sqlite
from node.core.events import Event, decode


async def recorded(folder: Path) -> list[Event]:
    """All events, partition by partition in the order of the log."""
    events: list[Event] = []
    async with open_sqlite(folder / "log.db", partitions=None, name="reader", create=False) as broker:
        for partition in range(broker.log.partitions):
            end = (await broker.log.end(partition)).offset
            if end == 0:
                continue
            async with aclosing(broker.log.follow(partition, START)) as batches:
                async for batch in batches:
                    events += [decode(record.data) for record in batch if record.position.offset <= end]
                    if batch[-1].position.offset >= end:
                        break
    return events
