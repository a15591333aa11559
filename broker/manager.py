"""`RabbitManager(url)`: a client manager for python-socketio on RabbitMQ, in the place of its `AsyncAioPikaManager(url)`.

`docs/manager.md` says what it promises. This file, `manager_rooms.py` and `manager_delivery.py` are the only ones here that know
`socketio` and `engineio`, which have no types.
"""

import asyncio
import inspect
import json as stock_json
import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec
from socketio.async_pubsub_manager import AsyncPubSubManager

from broker.address import AmqpAddress, parse_address
from broker.manager_counts import Counts
from broker.manager_delivery import Delivery
from broker.manager_life import LAST_LIMIT_S, Life, Running
from broker.manager_rooms import RoomManager
from broker.manager_stream import LARGEST, Settings
from broker.manager_wire import (
    Answer,
    Asked,
    Close,
    Disconnect,
    Emit,
    Enter,
    Leave,
    Room,
    Said,
    address_of,
    address_of_node,
    decode_arguments,
    decode_said,
    encode_arguments,
    encode_said,
    to_addresses,
    to_record,
)
from broker.topology import emit_arguments

MOST_ASKED = 10_000  # callbacks that wait for an answer
MOST_SAID = 20_000  # rooms of which it is known which of our emits came last
SENT_AT_ONCE = 500  # packets, then the event loop has its turn
PUT_AT_ONCE = 100  # emits, likewise
ORDER_LIMIT_S = 10.0  # where the broker is there, and slow
KICK_LIMIT_S = 1.0  # who is to go goes, with or without a broker
_default_log = logging.getLogger("tidegate.manager")


class RabbitManager(RoomManager):
    """Everything but the transient goes over one stream, and reaches the sockets of every node in its one order, the sender's own too.

    `url`: `amqp://` or `amqps://`, several hosts separated by commas. `channel`, `write_only`, `logger` and `json` as python-socketio has
    them. `transient`: the names of events that need not last, such as "typing". `buffer` and `buffer_bytes`: what is kept while
    the broker is away; past it `emit` waits. `max_age` (as RabbitMQ writes it) and `max_bytes`: what the stream is made with; one that
    is there stays as it is. `largest`: bytes of one emit, at most. `apart_s`: messages follow each other by so much at the soonest,
    with what was emitted meanwhile. `counts` says what has happened so far.
    """

    name = "rabbitmq"

    def __init__(
        self,
        url: str = "amqp://guest:guest@localhost:5672//",
        channel: str = "socketio",
        write_only: bool = False,
        logger: Any = None,
        json: Any = None,
        *,
        transient: Collection[str] = (),
        buffer: int = 10_000,
        buffer_bytes: int = 16 * 1024 * 1024,
        max_age: str = "1h",
        max_bytes: int = 1_000_000_000,
        largest: int = 1024 * 1024,
        apart_s: float = 0.005,
    ) -> None:
        super().__init__(channel=channel, write_only=write_only, logger=logger, json=json)
        if not url.startswith(("amqp://", "amqps://")):
            raise ValueError("a RabbitManager takes amqp:// or amqps://")
        if not 0 < largest <= LARGEST:
            raise ValueError(f"largest is 1 to {LARGEST} bytes")
        address = parse_address(url)
        assert isinstance(address, AmqpAddress)
        arguments = emit_arguments(max_age, max_bytes)
        self._settings = Settings(address.urls, channel, arguments, buffer, buffer_bytes, largest, apart_s, listen=not write_only)
        self._transient_events = frozenset(transient)
        self.counts = Counts()
        self._asked: dict[int, Callable[..., Any]] = {}
        self._questions = 0
        self._said: dict[tuple[str, Room], int] = {}
        self._delivery: Delivery | None = None
        self._node = ""  # our name, in the event loop that we run in now
        self._life = Life(self._settings, self.counts, self._interest, self._log, self._receive)

    # Its life

    def set_server(self, server: Any) -> None:
        """Called by the server that has it."""
        super().set_server(server)
        self._delivery = Delivery(server, self._life.set_aside)

    def initialize(self) -> None:
        """Called by the server before its first client."""
        self._running()
        self._get_logger().info("%s backend initialized.", self.name)

    async def flush(self) -> None:
        """Return once the broker has confirmed everything that was emitted so far."""
        if self._life.running is not None:
            await self._life.running.stream.flushed()

    async def aclose(self, limit_s: float = LAST_LIMIT_S) -> None:
        """Send what waits, for so long at most, and leave no task and no connection. Idempotent; an emit after it is a `RuntimeError`.

        Who ends his event loop as `asyncio.run` does need not call it: it is done then.
        """
        await self._life.aclose(limit_s)

    def _running(self) -> Running:
        running = self._life.begun()
        if running.node != self._node:
            self._node = self.host_id = running.node
            self._said.clear()
        return running

    def _log(self) -> Any:
        """Where an outage is told: python-socketio's own logger says errors only, unless it was asked for more."""
        return self.logger or _default_log

    # What a server or a process without one asks for

    async def emit(
        self,
        event: str,
        data: Any,
        namespace: str | None = None,
        room: Any = None,
        skip_sid: Any = None,
        callback: Callable[..., Any] | None = None,
        to: Any = None,
        **kwargs: Any,
    ) -> None:
        """As python-socketio's, and `transient=True` for an event that need not last. Returns once it is in the buffer.

        Raises `TypeError` and `ValueError` for what cannot be sent: an argument that JSON does not have, a room that is no string or
        number, more bytes than `largest`.
        """
        room, namespace = to or room, namespace or "/"
        if kwargs.get("ignore_queue"):
            await super(AsyncPubSubManager, self).emit(
                event, data, namespace=namespace, room=room, skip_sid=skip_sid, callback=callback
            )
            return
        rooms = _rooms(room)
        if not rooms:
            return
        asked = self._ask(room, callback) if callback is not None else None
        text, attachments = encode_arguments([event, *_arguments(data)], self._own_dumps())
        skip = [skip_sid] if isinstance(skip_sid, str) else list(skip_sid or ())
        said = Emit(namespace, rooms if _is_list(room) else rooms[0], skip, text, attachments, asked)
        if kwargs.get("transient", event in self._transient_events and callback is None):
            await self._say_in_passing(namespace, rooms, said)
        else:
            await self._say(said, [address_of(namespace, one) for one in rooms], namespace, rooms)
        if self.write_only and self.server is not None:
            await self._deliver(said)  # nothing comes back to who does not listen

    async def can_disconnect(self, sid: str, namespace: str) -> bool:
        """Whether the client is here, and has had what was emitted before, if that comes soon; elsewhere it is disconnected there."""
        if self._is_here(sid, namespace):
            with suppress(TimeoutError):
                async with asyncio.timeout(KICK_LIMIT_S):
                    await self._behind_own(namespace, self.rooms_of(sid, namespace))
            return bool(self.is_connected(sid, namespace))
        await self._say(Disconnect(sid, namespace or "/"), [address_of(namespace or "/", sid)])
        return False

    async def disconnect(self, sid: str, namespace: str, **kwargs: Any) -> None:
        """Disconnect a client wherever it is."""
        if kwargs.get("ignore_queue"):
            await super(AsyncPubSubManager, self).disconnect(sid, namespace=namespace)
        elif self.server is not None:
            await self.server.disconnect(sid, namespace=namespace)
        else:
            await self.can_disconnect(sid, namespace)

    async def enter_room(self, sid: str, namespace: str, room: Room, eio_sid: str | None = None) -> None:
        """See python-socketio; takes place behind what this process has emitted to the room before."""
        if self._is_here(sid, namespace):
            await self._behind_own(namespace, (room,))
            if self._is_here(sid, namespace):
                self.basic_enter_room(sid, namespace, room, eio_sid=eio_sid)
        else:
            await self._say(Enter(sid, namespace or "/", *_rooms(room)), [address_of(namespace or "/", sid)])

    async def leave_room(self, sid: str, namespace: str, room: Room) -> None:
        """See python-socketio; takes place behind what this process has emitted to the room before."""
        if self._is_here(sid, namespace):
            await self._behind_own(namespace, (room,))
            self.basic_leave_room(sid, namespace, room)
        else:
            await self._say(Leave(sid, namespace or "/", *_rooms(room)), [address_of(namespace or "/", sid)])

    async def close_room(self, room: Room, namespace: str | None = None) -> None:
        """Take everyone out of a room, on every node, behind what was emitted to it before."""
        namespace = namespace or "/"
        if self.is_sid_room(namespace, room):
            raise ValueError("cannot close a sid room")
        await self._say(Close(namespace, *_rooms(room)), [address_of(namespace, room)], namespace, (room,))

    # Out

    async def _say(self, said: Said, addresses: Iterable[bytes], namespace: str = "", rooms: Sequence[Room] = ()) -> None:
        """Put it into the buffer, and remember that it is the last for these rooms."""
        body, stream = encode_said(said), self._running().stream
        number = await stream.put(to_addresses(addresses), body)
        for room in rooms:
            self._said[namespace, room] = number
        if len(self._said) > MOST_SAID:
            outstanding = ((key, last) for key, last in self._said.items() if last > stream.returned)
            self._said = dict(sorted(outstanding, key=lambda item: item[1])[-MOST_SAID // 2 :])
        if number % PUT_AT_ONCE == 0:
            await asyncio.sleep(0)

    async def _say_in_passing(self, namespace: str, rooms: Sequence[Room], said: Emit) -> None:
        if said.asked is not None:
            raise ValueError("who wants an answer cannot emit in passing")
        addresses, body = to_addresses(address_of(namespace, room) for room in rooms), encode_said(said)
        self._settings.check_size(body)
        self._running().transients.publish(addresses, to_record(addresses, 0, body))

    async def _behind_own(self, namespace: str, rooms: Iterable[Room]) -> None:
        """Wait until what we emitted to these rooms has come back, so that a change of them takes place behind it as it was asked for.

        Where the broker is away, nothing is waited for.
        """
        last = max((self._said.get((namespace, room), 0) for room in rooms), default=0)
        if self._life.running is None or self.write_only or last <= self._life.running.stream.returned:
            return
        stream = self._life.running.stream
        try:
            async with asyncio.timeout(ORDER_LIMIT_S):
                await stream.came_back(last)
        except TimeoutError:
            self._said = {key: number for key, number in self._said.items() if number > last}
            self._log().warning("what was emitted has not come back within %g s: a room is changed before it", ORDER_LIMIT_S)

    def _own_dumps(self) -> Callable[..., str] | None:
        """The function of another JSON module, where the application has one."""
        dumps: Callable[..., str] = self.json.dumps
        return None if dumps is stock_json.dumps else dumps

    # In

    async def _receive(self, records: Iterable[bytes]) -> None:
        """A record counts as carried out once the next is asked for; so the event loop has its turns between these two."""
        sent = 0
        for record in self._interest.concerned(records):
            if sent >= SENT_AT_ONCE:
                sent = 0
                await asyncio.sleep(0)
            self.counts.decoded += 1
            try:
                sent += await self._carry_out(decode_said(record))
            except msgspec.DecodeError:
                self.counts.strange += 1
            except Exception:
                logger = self._log()
                logger.exception("what another node said could not be carried out")
        await asyncio.sleep(0)

    async def _carry_out(self, said: Said) -> int:
        """Returns how many packets that took."""
        match said:
            case Emit():
                return await self._deliver(said)
            case Enter(sid, namespace, room):
                if self._is_here(sid, namespace):
                    self.basic_enter_room(sid, namespace, room)
            case Leave(sid, namespace, room):
                if self._is_here(sid, namespace):
                    self.basic_leave_room(sid, namespace, room)
            case Close(namespace, room):
                self.basic_close_room(room, namespace)
            case Disconnect(sid, namespace):
                if self._is_here(sid, namespace):
                    await self._life.set_aside(self.server.disconnect(sid, namespace=namespace, ignore_queue=True))
            case Answer(asked, text, attachments):
                if asked.node == self._node:
                    await self._life.set_aside(
                        self._call_back(asked.number, decode_arguments(text, attachments, self.json.loads))
                    )
        return 1

    async def _deliver(self, emit: Emit) -> int:
        skip = emit.skip
        sockets = [pair for pair in self.get_participants(emit.namespace, emit.room) if pair[0] not in skip]
        self.counts.delivered += len(sockets)
        if not sockets or self._delivery is None:
            return 0
        answered = None if emit.asked is None else partial(self._answer, emit.asked)
        if self._delivery.takes_packets:
            new_id = None if answered is None else partial(self._generate_ack_id, callback=answered)
            await self._delivery.deliver(emit, sockets, new_id)
        else:
            event, *arguments = decode_arguments(emit.text, emit.attachments, self.json.loads)
            await super(AsyncPubSubManager, self).emit(
                event, tuple(arguments), namespace=emit.namespace, room=emit.room, skip_sid=skip, callback=answered
            )
        return len(sockets)

    # Answers

    def _ask(self, room: Any, callback: Callable[..., Any]) -> Asked:
        if self.server is None:
            raise RuntimeError("Callbacks can only be issued from the context of a server.")
        if room is None:
            raise ValueError("Cannot use callback without a room set.")
        self._questions += 1
        self._asked[self._questions] = callback
        if len(self._asked) > MOST_ASKED:
            del self._asked[next(iter(self._asked))]
            self._log().warning("%d callbacks wait for an answer: the oldest is forgotten", MOST_ASKED)
        return Asked(self._running().node, self._questions)

    async def _answer(self, asked: Asked, *arguments: Any) -> None:
        """A client of this node has acked an emit of some node."""
        if asked.node == self._node:
            await self._call_back(asked.number, arguments)
        else:
            text, attachments = encode_arguments(arguments, self._own_dumps())
            await self._say(Answer(asked, text, attachments), [address_of_node(asked.node)])

    async def _call_back(self, number: int, arguments: Sequence[Any]) -> None:
        callback = self._asked.pop(number, None)
        if callback is None:
            self._get_logger().warning("Unknown callback received, ignoring.")
            return
        result = callback(*arguments)
        if inspect.isawaitable(result):
            await result


def _is_list(room: Any) -> bool:
    return hasattr(room, "__len__") and not isinstance(room, str)


def _rooms(room: Any) -> list[Room]:
    """One room or several, as a list. Raises `TypeError` for what is none."""
    rooms = list(room) if _is_list(room) else [room]
    for one in rooms:
        if one is not None and not isinstance(one, str | int | float):
            raise TypeError(f"a room is a string or a number, not {type(one).__name__}")
    return rooms


def _arguments(data: Any) -> list[Any]:
    """A tuple is several arguments, None is none."""
    return list(data) if isinstance(data, tuple) else [] if data is None else [data]
