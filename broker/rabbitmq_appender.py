"""Appending to one stream: what waits together leaves together, one message in flight, each until it is confirmed.

One in flight and not more: what is sent again after a lost confirm must not come to stand behind what followed it. Batches make up
for it (LOG: 213,000 events/s at 100 a batch). In the log a message leaves as soon as the one before it is confirmed; others may have it
linger, see `apart_s`.
"""

import asyncio
import math
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from broker.batch import encode_batch, encode_mark
from broker.log import LogUnavailable
from broker.rabbitmq_channel import Channel, LinkLost, NotConfirmed, NotTaken
from broker.rabbitmq_link import SLOWEST_BYTES_PER_S, Link

CONFIRM_LIMIT_S = 2.0  # past it the connection is taken for dead
PROOF_LIMIT_S = 0.2  # for a channel's first message: a broker that has just started loses it where its stream has no leader yet
LONGER_PROOF = 1.5  # times, after each miss: confirms may just be slow
MOST_WAITING = 10_000  # records: some seconds of what one process appends
MOST_WAITING_BYTES = 16 * 1024 * 1024
MOST_AT_ONCE = 1_000  # records in one message
MOST_AT_ONCE_BYTES = 256 * 1024
FIRST_PAUSE_S, MOST_PAUSE_S = 0.05, 0.2
MARK_BYTES = 16


async def _made_elsewhere() -> None:
    """The stream is made by someone else."""


class Pending:
    """Records on their way together; `done` belongs to whoever waits, if anyone does, and who has given up has cancelled it."""

    __slots__ = ("appended", "done", "due", "records", "size")

    def __init__(self, records: Sequence[bytes], done: "asyncio.Future[None] | None", due: float) -> None:
        self.records, self.done, self.due, self.appended = records, done, due, 0
        self.size = sum(map(len, records))

    @property
    def is_over(self) -> bool:
        """Whether all of it is appended, or nobody wants it to be any more."""
        return self.appended == len(self.records) or (self.done is not None and self.done.done())


class Appender:
    """Appends to `stream`, over whatever connections `link` has, while `run` runs. `confirmed(id)` is told of each message by its id.

    `make` is asked to make the stream: at each new connection, and where it turns out to be missing; it may raise `LinkLost`. Every
    message says that it is from `sender`. `most` records, and `most_bytes` of them, may wait; what somebody has waited for for
    `limit_s` is refused, and may be appended all the same. A message follows another by `apart_s` at the soonest: what comes meanwhile
    leaves with it, for a fraction of the work.
    """

    def __init__(
        self,
        link: Link,
        stream: str,
        *,
        confirmed: Callable[[str], None] = lambda _: None,
        make: Callable[[], Awaitable[None]] = _made_elsewhere,
        sender: str | None = None,
        most: int = MOST_WAITING,
        most_bytes: int = MOST_WAITING_BYTES,
        limit_s: float = math.inf,
        apart_s: float = 0.0,
    ) -> None:
        self.link = link  # another one may be given while `run` does not run
        self._stream, self._confirmed, self._make, self._sender = stream, confirmed, make, sender
        self._most, self._most_bytes, self._limit_s = most, most_bytes, limit_s
        self._apart_s, self._next_at = apart_s, 0.0
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None  # one for all: a timer for each record would be a third of its cost
        self._waiting: deque[Pending] = deque()
        self._records = self._bytes = self._awaited = 0
        self.appended_records = 0  # ever
        self._more, self._idle, self._room = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._idle.set()
        self._ids, self._id = secrets.token_hex(8), 0
        self._pause_s = FIRST_PAUSE_S
        self._proven = False  # whether this channel has had a confirm
        self._proof_limit_s = PROOF_LIMIT_S
        self.began = asyncio.Event()  # set once, when there is a stream and a channel to it for the first time
        self.why = ""  # what the last attempt failed with; empty when it did not

    @property
    def failing(self) -> bool:
        """Whether the last message could not be appended, or is late. A mark, now and then, finds out when it can."""
        return bool(self.why)

    @property
    def is_full(self) -> bool:
        """Whether as many records wait as may."""
        return self._records >= self._most or self._bytes >= self._most_bytes

    @property
    def waiting(self) -> int:
        """How many records wait."""
        return self._records

    async def room(self) -> None:
        """Return when there is room again."""
        while self.is_full:
            self._room.clear()
            await self._room.wait()

    def put(self, records: Sequence[bytes]) -> "asyncio.Future[None]":
        """Queue records: done once all of them are confirmed, or failed with `LogUnavailable`. Raises it when too many wait."""
        while self._waiting and self._waiting[0].is_over:
            self._take_out(self._waiting.popleft())
        if self.is_full:
            raise LogUnavailable("too many records wait for the log")
        done: asyncio.Future[None] = self._loop.create_future()
        if records:
            due = self._loop.time() + self._limit_s
            self._add(Pending(records, done, due))
            self._awaited += 1
            if self._timer is None and due < math.inf:
                self._timer = self._loop.call_at(due, self._refuse_late)
        else:
            done.set_result(None)
        return done

    def leave(self, record: bytes) -> None:
        """Queue a record that nobody waits for, full or not: who has no `room` waits for it."""
        self._add(Pending((record,), None, math.inf))

    def _add(self, pending: Pending) -> None:
        self._waiting.append(pending)
        self._records += len(pending.records)
        self._bytes += pending.size
        self._idle.clear()
        self._more.set()

    def _refuse_late(self) -> None:
        """Refuse who has waited for too long, and look again when the next one will have."""
        self._timer, now = None, self._loop.time()
        for pending in self._waiting:
            if pending.done is None or pending.done.done():
                continue
            if pending.due > now:
                self._timer = self._loop.call_at(pending.due, self._refuse_late)
                break
            self.why = self.why or "the log did not answer in time"
            pending.done.set_exception(LogUnavailable(self.why))
        self._forget()
        self._more.set()  # where it is not known whether anything can be appended, that is to be found out

    async def appended(self) -> None:
        """Return when nothing waits."""
        self._forget()
        await self._idle.wait()

    async def run(self) -> None:
        """Append what waits, for ever."""
        while True:
            try:
                async with self.link.channel(confirms=True) as channel:
                    await self._make()
                    self.began.set()
                    self._proven = False
                    channel.when_closed(self._more.set)  # who waits for records is to wait on the next one
                    while True:
                        await self._append_next(channel)
            except LinkLost as error:
                self.why = str(error) or "the connection was lost"
                # a proof that was not confirmed has taken its time already, and the connection is whole
                if self._proven or not isinstance(error, NotConfirmed):
                    await self._pause()

    async def _append_next(self, channel: Channel) -> None:
        while not self._more.is_set() and not self.why:
            await self._more.wait()
        if self._apart_s:
            await self._keep_apart()
        channel.check()
        taken = self._take() if self._proven else []  # what is lost unproven is a mark: nothing that counts comes twice
        body = encode_batch([record for _, records in taken for record in records]) if taken else self._mark()
        if body is None:
            return
        name = self._next_id()
        try:
            limit_s = (CONFIRM_LIMIT_S if self._proven else self._proof_limit_s) + len(body) / SLOWEST_BYTES_PER_S
            with self.link.carrying(len(body)):
                await channel.append(self._stream, body, name, limit_s=limit_s, sender=self._sender)
        except NotTaken as error:
            self.why = str(error)
            await self._pause()
            await self._make()
            return
        except NotConfirmed:
            if self._proven:
                channel.drop("an append was not confirmed")
            self._proof_limit_s = min(LONGER_PROOF * self._proof_limit_s, CONFIRM_LIMIT_S)
            raise
        self._proven, self._proof_limit_s = True, PROOF_LIMIT_S
        self.why, self._pause_s = "", FIRST_PAUSE_S
        self._confirmed(name)
        self._settle([(pending, len(records)) for pending, records in taken])

    async def _keep_apart(self) -> None:
        if self._records < MOST_AT_ONCE and (early_s := self._next_at - self._loop.time()) > 0:
            await asyncio.sleep(early_s)
        self._next_at = self._loop.time() + self._apart_s

    def _mark(self) -> bytes | None:
        """Something to append where it is not known whether anything could be."""
        return encode_mark(secrets.token_bytes(MARK_BYTES)) if self.why or not self._proven else None

    def number_of(self, id: str) -> int:
        """Which of our messages this is, counted from 1; 0 for another's."""
        ours, _, number = id.partition("-")
        return int(number) if ours == self._ids else 0

    def _next_id(self) -> str:
        self._id += 1
        return f"{self._ids}-{self._id}"

    def _take(self) -> list[tuple[Pending, Sequence[bytes]]]:
        """What the next message has: a part of the first of those who wait, or some of them whole, or with a beginning of the last."""
        self._forget()
        taken: list[tuple[Pending, Sequence[bytes]]] = []
        count = size = 0
        for pending in self._waiting:
            rest = pending.records[pending.appended :] if pending.appended else pending.records
            end = 0
            for record in rest:
                if count == MOST_AT_ONCE or (count and size + len(record) > MOST_AT_ONCE_BYTES):
                    break
                end, count, size = end + 1, count + 1, size + len(record)
            if end:
                taken.append((pending, rest[:end] if end < len(rest) else rest))
            if end < len(rest):
                break
        return taken

    def _settle(self, taken: Sequence[tuple[Pending, int]]) -> None:
        for pending, count in taken:
            pending.appended += count
            self.appended_records += count
            if pending.done is not None and pending.appended == len(pending.records) and not pending.done.done():
                pending.done.set_result(None)
        self._forget()

    def _forget(self) -> None:
        """Take out those who are done, or have given up."""
        while self._waiting and self._waiting[0].is_over:
            self._take_out(self._waiting.popleft())
        if self._awaited and any(pending.is_over for pending in self._waiting):
            over = [pending for pending in self._waiting if pending.is_over]
            self._waiting = deque(pending for pending in self._waiting if not pending.is_over)
            for pending in over:
                self._take_out(pending)
        if not self.is_full:
            self._room.set()
        if not self._waiting:
            self._more.clear()
            self._idle.set()

    def _take_out(self, pending: Pending) -> None:
        self._records -= len(pending.records)
        self._bytes -= pending.size
        self._awaited -= pending.done is not None

    async def _pause(self) -> None:
        await asyncio.sleep(self._pause_s)
        self._pause_s = min(2 * self._pause_s, MOST_PAUSE_S)
