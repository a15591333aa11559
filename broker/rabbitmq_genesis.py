"""Which log this is: its epoch and its number of partitions, said once, in a stream of its own, by whoever came first.

Everyone who finds no log makes all streams and proposes one; the first proposal in the stream counts, so that nodes that start together
agree. Then each stream of the log gets its head, and a last message says that the log is whole: from then on a stream that is missing,
or that has no head of this log, was lost, and nobody makes it anew in silence.
"""

import asyncio
import contextlib
import secrets

import msgspec

from broker.batch import UNREADABLE, Head, decode_body, encode_head
from broker.log import LogDiverged, LogMissing, LogUnavailable
from broker.rabbitmq_appender import CONFIRM_LIMIT_S
from broker.rabbitmq_channel import Delivery, LinkLost, NoSuchQueue
from broker.rabbitmq_link import Link
from broker.together import together
from broker.topology import GENESIS, Arguments, log_arguments, stream_of

SILENCE_S = 0.3  # what stands in a stream comes within milliseconds
FOUND_LIMIT_S = 20.0  # for all of it, on brokers that choose leaders for a dozen new streams
MISSING_S = 3.0
PAUSE_S = 0.2


class Genesis(msgspec.Struct, frozen=True, tag="genesis"):
    """A proposal; the first one in the stream is the log's."""

    epoch: str
    partitions: int


class Whole(msgspec.Struct, frozen=True, tag="whole"):
    """Every stream of the log of this epoch has its head."""

    epoch: str


class Asked(msgspec.Struct, frozen=True, tag="asked"):
    """Says nothing: whoever reads up to his own has read all that stood before it."""

    name: str


_Said = Genesis | Whole | Asked
_decoder: msgspec.json.Decoder[_Said] = msgspec.json.Decoder(_Said)


async def found(link: Link, partitions: int | None, *, create: bool) -> Genesis:
    """The log that is there, or a new one.

    Raises `LogMissing` where there is none and `create` or `partitions` do not say to make one, `LogUnavailable`, `LogDiverged` when
    they do and a stream of it is gone, or is another log's, `ValueError` when it has another number of partitions than asked for.
    """
    why, began = "", asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(FOUND_LIMIT_S):
            while True:
                try:
                    return await _found(link, partitions if create else None, partitions)
                except LogMissing:  # a broker that has just started knows of no stream
                    if asyncio.get_running_loop().time() - began > MISSING_S:
                        raise
                    await asyncio.sleep(PAUSE_S)
                except LinkLost as error:  # a broker that starts says all sorts of things
                    why = str(error)
                    await asyncio.sleep(PAUSE_S)
    except TimeoutError:
        raise LogUnavailable(f"the log could not be opened: {why or 'no answer'}") from None


async def _found(link: Link, to_make: int | None, wanted: int | None) -> Genesis:
    said = await _read(link, until=None)
    if not said or not isinstance(said[0], Genesis):
        if to_make is None:
            raise LogMissing("there is no log yet; the first node makes it")
        said = await _propose(link, to_make)
    genesis = next(one for one in said if isinstance(one, Genesis))
    if wanted is not None and genesis.partitions != wanted:
        raise ValueError(
            f"the log has {genesis.partitions - 1} partitions, not {wanted - 1}: their number is fixed once it exists"
        )
    if Whole(genesis.epoch) not in said:
        await _make_whole(link, genesis)
    if to_make is not None:
        await _check_streams(link, genesis)
    return genesis


async def _propose(link: Link, partitions: int) -> list[_Said]:
    """Make the streams and propose a log; what then stands in the stream begins with the one that was first."""
    epoch = await _epoch_of_streams(link, partitions) or secrets.token_hex(8)
    await together(make_stream(link, stream, log_arguments()) for stream in (GENESIS, *map(stream_of, range(partitions))))
    proposal = Genesis(epoch, partitions)
    await _say(link, proposal)
    return await _read(link, until=proposal)


async def _epoch_of_streams(link: Link, partitions: int) -> str | None:
    """The epoch of a log whose genesis alone was lost, as the head of one of its streams says."""
    for stream in map(stream_of, range(partitions)):
        try:
            async with link.channel() as channel:
                inbox = await channel.consume(stream, offset="first", prefetch=1)
                async with asyncio.timeout(SILENCE_S):
                    head = decode_body((await inbox.take(1))[0].body)
        except (NoSuchQueue, TimeoutError):
            continue
        if isinstance(head, Head):
            return head.epoch
    return None


async def _say(link: Link, what: _Said) -> None:
    async with link.channel(confirms=True) as channel:
        await channel.append(GENESIS, msgspec.json.encode(what), secrets.token_hex(8), limit_s=CONFIRM_LIMIT_S)


async def _read(link: Link, *, until: _Said | None) -> list[_Said]:
    """What stands in the stream from the log's genesis on, up to `until` or the word that it is whole; nothing without a stream."""
    said: list[_Said] = []
    async with link.channel() as channel:
        try:
            inbox = await channel.consume(GENESIS, offset="first", prefetch=100)
        except NoSuchQueue:
            return []
        while not (said and (said[-1] == until or said[-1] == Whole(getattr(said[0], "epoch", "")))):
            try:
                async with asyncio.timeout(SILENCE_S if until is None else None):
                    deliveries = await inbox.take(1)
            except TimeoutError:
                until = Asked(secrets.token_hex(8))
                await _say(link, until)
                continue
            await channel.acknowledge(deliveries[-1].tag)
            with contextlib.suppress(*UNREADABLE):  # a stranger's
                one = _decoder.decode(deliveries[0].body)
                if said or isinstance(one, Genesis) or one == until:
                    said.append(one)
    return said


async def make_stream(link: Link, stream: str, arguments: Arguments) -> None:
    """Make it where it is missing; one that is there stays as it is, whatever its arguments. Raises `LinkLost`."""
    try:
        async with link.channel() as channel:
            await channel.has_queue(stream)
    except NoSuchQueue:
        async with link.channel() as channel:
            await channel.make_stream(stream, arguments)


async def _make_whole(link: Link, genesis: Genesis) -> None:
    await together(_give_head_or_diverge(link, stream_of(p), Head(genesis.epoch)) for p in range(genesis.partitions))
    await _say(link, Whole(genesis.epoch))


async def _give_head_or_diverge(link: Link, stream: str, head: Head) -> None:
    first = await give_head(link, stream, head)
    if first.offset != 0 or first.body != encode_head(head):
        raise LogDiverged(f"{stream} is of another log, whose {GENESIS} is gone")


async def give_head(link: Link, stream: str, head: Head) -> Delivery:
    """The first message of a stream, which is `head` where the stream was empty or missing."""
    await make_stream(link, stream, log_arguments())
    async with link.channel(confirms=True) as channel:
        await channel.append(
            stream, encode_head(head), secrets.token_hex(8), limit_s=CONFIRM_LIMIT_S
        )  # behind another it says nothing
    async with link.channel() as channel:
        inbox = await channel.consume(stream, offset="first", prefetch=1)
        try:
            async with asyncio.timeout(CONFIRM_LIMIT_S):
                return (await inbox.take(1))[0]
        except TimeoutError:
            raise LinkLost(f"{stream} does not give its first message") from None


async def _check_streams(link: Link, genesis: Genesis) -> None:
    async with link.channel() as channel:
        for partition in range(genesis.partitions):
            try:
                await channel.has_queue(stream_of(partition))
            except NoSuchQueue:
                raise LogDiverged(f"{stream_of(partition)} is gone") from None
