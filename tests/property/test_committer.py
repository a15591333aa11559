"""The life of sessions reaches the log in the order in which it was recorded, whatever the log refuses on the way."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing

from hypothesis import given
from hypothesis import strategies as st

from broker.log import START, Log, LogUnavailable
from broker.memory import MemoryLog
from node.core.events import ControlEvent, NodeStarted, SessionClosed, SessionOpened, decode
from node.core.limits import Limits
from node.core.memory_view import MemoryView
from node.flow import committer as module
from node.flow.committer import Committer
from node.flow.lag import Lag

PATIENCE_S = 20.0


class RefusingLog(MemoryLog):
    """A log that refuses the records at some places among all that it is handed, before it has taken them or behind that."""

    def __init__(self, refused: dict[int, bool]) -> None:
        super().__init__(1)
        self._refused, self._handed = refused, 0

    async def append(self, partition: int, data: bytes) -> None:
        kept = self._refused.get(self._handed)
        self._handed += 1
        if kept is not False:
            await super().append(partition, data)
        if kept is not None:
            raise LogUnavailable("refused")


def committer_of(log: Log, new_id: Callable[[], str] = lambda: "") -> Committer:
    """A committer whose control partition is the log's only one."""
    return Committer(
        log=log,
        view=MemoryView(),
        room_partitions=1,
        control_partition=0,
        limits=Limits(),
        clock=lambda: 1_000,
        new_id=new_id,
        lag=Lag(1),
        observe_append=lambda seconds, trace: None,
    )


def lives(count: int) -> list[ControlEvent]:
    """A node's start, and sessions that open and close."""
    found: list[ControlEvent] = [NodeStarted(id="start", at=1, by="n1")]
    for number in range(count):
        one = f"s{number}"
        opened = SessionOpened(
            id=f"open {number}", at=1, by="ann", session=one, node="n1", namespace="/", transport="websocket", expires_at=1 << 50
        )
        found += [opened, SessionClosed(id=f"close {number}", at=2, by="ann", session=one, reason="transport")]
    return found


async def appearances(log: Log) -> list[str]:
    """The ids in the log, each once, in the order in which they first appear."""
    end, found = await log.end(0), dict[str, None]()
    async with aclosing(log.follow(0, START)) as batches, asyncio.timeout(PATIENCE_S):
        while True:
            batch = await anext(batches)
            found |= dict.fromkeys(decode(record.data).id for record in batch)
            if batch[-1].position == end:
                return list(found)


async def _record(events: list[ControlEvent], refused: dict[int, bool], pauses: set[int]) -> list[str]:
    log = RefusingLog(refused)
    committer = committer_of(log)
    running = asyncio.ensure_future(committer.run())
    for number, event in enumerate(events):
        committer.record(event)
        if number in pauses:
            await asyncio.sleep(0)
    await committer.recorded(limit_s=PATIENCE_S)
    assert committer.unrecorded == 0
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return await appearances(log)


@given(st.integers(1, 20), st.dictionaries(st.integers(0, 60), st.booleans(), max_size=8), st.sets(st.integers(0, 40)))
def test_the_order_of_record_is_the_order_of_the_log(count: int, refused: dict[int, bool], pauses: set[int]) -> None:
    """Wherever appends fail, kept all the same or not, every record is there, and none first appears in front of an earlier one."""
    retry_s, module.RETRY_S = module.RETRY_S, 0.0
    try:
        events = lives(count)
        assert asyncio.run(_record(events, refused, pauses)) == [event.id for event in events]
    finally:
        module.RETRY_S = retry_s
