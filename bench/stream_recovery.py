"""How long a killed broker reads in a stream before it serves it again, by the size of the stream's segments and by what stands in it.

Messages stand in the stream one by one, as they do in a log of little traffic: what is read is each chunk of the newest segment.
"""

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

import aio_pika
import aiormq

from bench.report import machine, write_results
from broker.topology import SEGMENT_BYTES, log_arguments
from tests.support.rabbit import Rabbit
from tests.support.wait import block_until

SIZES = (50_000_000, SEGMENT_BYTES)  # bytes of a segment
ROUNDS, MORE = 3, 15_000  # kills, and messages before each
EVENT = b"x" * 230  # bytes of a chat message in the log
OPEN_S = 120.0


def main() -> None:
    """Run it, print each kill, and write the results."""
    measured_on = machine()
    rows = []
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder, Rabbit(Path(folder) / "broker") as broker:
            for number in range(1, ROUNDS + 1):
                asyncio.run(_fill(broker.url, log_arguments() | {"x-stream-max-segment-size-bytes": size}))
                row = {"segment_bytes": size, "messages": number * MORE, "open_after_s": round(_kill(broker), 2)}
                rows.append(row)
                print(f"  {row}", flush=True)
    print(f"  written to {write_results('stream_recovery', rows, measured_on=measured_on)}")


async def _fill(url: str, arguments: dict[str, Any]) -> None:
    properties = aiormq.spec.Basic.Properties(delivery_mode=2, message_id="0123456789abcdef-12345")
    async with await aio_pika.connect(url) as connection:
        channel = await (await connection.channel()).get_underlay_channel()
        await channel.queue_declare("filled", durable=True, arguments=arguments)
        for _ in range(MORE):
            await channel.basic_publish(EVENT, routing_key="filled", properties=properties, mandatory=True)


def _kill(broker: Rabbit) -> float:
    """Seconds from when it takes clients again until its stream is open."""
    broker.kill()
    broker.start()
    broker.wait_ready()
    began = time.monotonic()
    block_until(lambda: broker.serves_streams, OPEN_S, "the stream is open")
    return time.monotonic() - began
