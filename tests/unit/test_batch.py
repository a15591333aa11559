"""The bodies of messages on a stream: read for ever, by every version of ours, whatever a stranger puts between them."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broker.batch import (
    MOST_RECORDS,
    Batch,
    Body,
    Head,
    Mark,
    decode_body,
    encode_batch,
    encode_head,
    encode_mark,
    of_position,
    to_position,
)

#: Written down once. What is in a log today must be read by every later version.
GOLDEN: list[tuple[bytes, Body]] = [
    (b"H\x82\xa5epoch\xb00123456789abcdef\xa5based\xa0", Head("0123456789abcdef")),
    (b"H\x82\xa5epoch\xb00123456789abcdef\xa5based\xad4097:0123abcd", Head("0123456789abcdef", "4097:0123abcd")),
    (b"H\x81\xa5epoch\xa1e", Head("e")),
    (b"B\x91\xc4\x00", Batch([b""])),
    (b"B\x93\xc4\x03one\xc4\x02\x00\xff\xc5\x01\x2c" + b"x" * 300, Batch([b"one", b"\x00\xff", b"x" * 300])),
    (b"M\x00\x01\x02\x03\x04\x05\x06\x07\x08\t\n\x0b\x0c\r\x0e\x0f", Mark(bytes(range(16)))),
]
JUNK = {
    "nothing": b"",
    "another kind": b"X\x91\xc4\x00",
    "a batch of none": b"B\x90",
    "a batch of texts": b"B\x91\xa1a",
    "a batch that is cut off": b"B\x92\xc4\x01a",
    "a batch with something behind it": b"B\x91\xc4\x01a\x00",
    "a batch that says it has four billion records": b"B\xdd\xff\xff\xff\xff",
    "more records than an index can number": b"B\xdc\x10\x00" + b"\xc4\x00" * 4096,
    "a head without an epoch": b"H\x80",
    "a head whose epoch is no text": b"H\x81\xa5epoch\xa2\xff\xfe",
    "a head with nested junk": b"H\x82\xa5epoch\xa1a\xa1x" + b"\x91" * 200_000 + b"\xc0",
}
RECORDS = st.lists(st.binary(max_size=50), min_size=1, max_size=60)


def encode(body: Body) -> bytes:
    match body:
        case Head():
            return encode_head(body)
        case Batch(records):
            return encode_batch(records)
        case Mark(name):
            return encode_mark(name)
        case _:
            raise AssertionError(body)


@pytest.mark.parametrize(("data", "body"), GOLDEN)
def test_what_was_written_once_is_read_for_ever(data: bytes, body: Body) -> None:
    """Each kind of body, as the first version wrote it, says what it said then."""
    assert decode_body(data) == body


@pytest.mark.parametrize(("data", "body"), GOLDEN[:2] + GOLDEN[3:])
def test_what_is_written_has_not_changed(data: bytes, body: Body) -> None:
    """Other nodes may be of the first version: what we write is what it reads."""
    assert encode(body) == data


@given(RECORDS)
@example([b"x"] * MOST_RECORDS)
@example([b"x" * 70_000, b"", b"\x00"])
def test_records_come_back_as_they_were(records: list[bytes]) -> None:
    """Any records, in their order."""
    assert decode_body(encode_batch(records)) == Batch(records)


@given(st.text(), st.text())
def test_a_head_comes_back_as_it_was(epoch: str, based: str) -> None:
    """Whatever the epoch and the base are called."""
    assert decode_body(encode_head(Head(epoch, based))) == Head(epoch, based)


@pytest.mark.parametrize("count", [0, MOST_RECORDS + 1])
def test_a_batch_has_as_many_records_as_an_index_can_number(count: int) -> None:
    """None, or one more than 4,095, is no batch: their positions could not be told apart."""
    with pytest.raises(ValueError, match="1 to 4095 records"):
        encode_batch([b"x"] * count)


@pytest.mark.parametrize("data", JUNK.values(), ids=JUNK.keys())
def test_junk_is_foreign(data: bytes) -> None:
    """What no version of ours has written is passed over, and breaks nobody."""
    assert decode_body(data) == "foreign"


@given(st.sampled_from([b"", b"H", b"B", b"M", b"H\x81\xa5epoch"]), st.binary())
def test_no_bytes_break_the_reader(start: bytes, rest: bytes) -> None:
    """Any bytes are something of ours that says the same when it is written again, or foreign."""
    body = decode_body(start + rest)
    assert body == "foreign" or decode_body(encode(body)) == body


@given(RECORDS, st.integers(min_value=0), st.integers(1, 255))
def test_a_damaged_body_is_never_read_past_its_end(records: list[bytes], at: int, flip: int) -> None:
    """One changed byte gives other records, or none, and never an error."""
    data = bytearray(encode_batch(records))
    data[at % len(data)] ^= flip
    body = decode_body(bytes(data))
    assert body == "foreign" or sum(map(len, body.records if isinstance(body, Batch) else ())) < len(data)


@given(st.integers(0, 1 << 50), st.integers(0, MOST_RECORDS - 1))
def test_a_position_names_a_message_and_a_record(message: int, index: int) -> None:
    """Both come back, and positions are ordered as records stand: by the message, then by the index."""
    assert of_position(to_position(message, index)) == (message, index)
    assert to_position(message, index) < to_position(message, index + 1) <= to_position(message + 1, 0)
