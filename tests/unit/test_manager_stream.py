"""What a manager does with the messages of its stream, with no broker in between."""

import asyncio
import logging
from collections.abc import Iterable

import pytest

from broker.batch import encode_batch
from broker.manager_counts import Counts
from broker.manager_stream import EmitStream, Settings
from broker.manager_wire import address_of, number_of, to_addresses, to_record
from broker.rabbitmq_channel import Delivery

pytestmark = pytest.mark.anyio

SETTINGS = Settings(("amqp://user:a-secret@127.0.0.1:1/",), "channel", {}, 10, 1_000, 1_000, 0.0, listen=True)
ADDRESSES = to_addresses([address_of("/", "room")])
MESSAGE = Delivery(encode_batch([to_record(ADDRESSES, number, b"x") for number in range(3, 8)]), 5, "id", "other", 1)


async def test_an_end_within_a_message() -> None:
    """What of a message was not carried out when its reader was ended is carried out when it is read again, and the rest is not again."""
    heard: list[int] = []
    held = asyncio.Event()

    async def receive(records: Iterable[bytes]) -> None:
        for record in records:
            if len(heard) == 2:
                held.set()
                await asyncio.sleep(3_600 if ending else 0)
            heard.append(number_of(record))

    counts, ending = Counts(), True
    stream = EmitStream(SETTINGS, "n" * 32, counts, logging.getLogger, receive)
    reading = asyncio.ensure_future(stream._take(MESSAGE))
    await held.wait()
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert (heard, counts.heard) == ([3, 4], 2)
    ending = False
    for _ in range(2):
        await stream._take(MESSAGE)
    assert heard == [3, 4, 5, 6, 7]
    assert (counts.heard, counts.lost, counts.repeated) == (5, 0, 2 + 5)


def test_no_password_is_shown() -> None:
    """What ends in a log or a traceback of the settings says where the broker is, and not how to get in."""
    assert "a-secret" not in f"{SETTINGS!r} {SETTINGS}"
    assert "127.0.0.1:1" in repr(SETTINGS)
