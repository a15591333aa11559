"""What managers tell each other: round trips, the packets of python-socketio to the letter, and who is concerned."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from socketio.packet import EVENT, Packet

from broker.manager_interest import Interest
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
    buckets_of,
    decode_arguments,
    decode_said,
    encode_arguments,
    encode_said,
    number_of,
    sid_in_bucket,
    to_addresses,
    to_record,
)
from broker.topology import BUCKETS, bucket_of, to_bucket_of

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ROOMS: st.SearchStrategy[Room] = st.one_of(
    st.none(), TEXT, st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False), st.booleans()
)
BYTES = st.binary(max_size=20)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), TEXT, BYTES)
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=20)
ARGUMENTS = st.lists(JSON, max_size=4)
NAMESPACES = st.just("/") | TEXT.map(lambda text: f"/{text.replace(',', '')}")
ASKED = st.builds(Asked, TEXT, st.integers(0, 2**64 - 1))
ATTACHMENTS = st.lists(BYTES, max_size=3)
SAID: st.SearchStrategy[Said] = st.one_of(
    st.builds(
        Emit, NAMESPACES, ROOMS | st.lists(ROOMS, max_size=4), st.lists(TEXT, max_size=3), TEXT, ATTACHMENTS, st.none() | ASKED
    ),
    st.builds(Answer, ASKED, TEXT, ATTACHMENTS),
    st.builds(Disconnect, TEXT, NAMESPACES),
    st.builds(Enter, TEXT, NAMESPACES, ROOMS),
    st.builds(Leave, TEXT, NAMESPACES, ROOMS),
    st.builds(Close, NAMESPACES, ROOMS),
)
ADDRESSES = st.builds(address_of, NAMESPACES, ROOMS)


@given(SAID, st.lists(ADDRESSES, max_size=5), st.integers(1, 2**64 - 1))
def test_a_record_comes_back_as_it_was(said: Said, addresses: list[bytes], number: int) -> None:
    """What is said, by which number, comes out of the record again; nothing of it is lost on the way."""
    record = to_record(to_addresses(addresses), number, encode_said(said))
    assert decode_said(record) == said
    assert number_of(record) == number


@given(st.binary(max_size=60))
def test_junk_is_refused(junk: bytes) -> None:
    """Bytes of a stranger are a `DecodeError` or something that could have been said, and their number is a number."""
    assert 0 <= number_of(junk) < 2**64
    list(Interest().concerned([junk]))
    try:
        said = decode_said(junk)
    except msgspec.DecodeError:
        return
    assert isinstance(said, Said)


@given(TEXT, ARGUMENTS, NAMESPACES, st.none() | st.integers(0, 10**9))
def test_the_packet_is_python_socketios(event: str, arguments: list[Any], namespace: str, id: int | None) -> None:
    """What goes to a socket is what python-socketio would have sent, byte for byte, attachments included."""
    text, attachments = encode_arguments([event, *arguments])
    expected = Packet(EVENT, data=[event, *arguments], namespace=namespace, id=id).encode()
    ours = Emit(namespace, None, [], text, attachments).packet(id)
    assert ([ours, *attachments] if attachments else ours) == expected


@given(ARGUMENTS)
def test_arguments_come_back(arguments: list[Any]) -> None:
    """Arguments that are taken out of the text again are what they were, whatever is binary in them."""
    assert decode_arguments(*encode_arguments(arguments)) == arguments


@pytest.mark.parametrize("value", [object(), {1, 2}, {"a": [object()]}, {b"a": 1}])
def test_what_json_does_not_have_is_refused(value: object) -> None:
    """An argument that cannot be sent is a `TypeError` for who emits, not a surprise for who receives."""
    with pytest.raises(TypeError):
        encode_arguments([value])


@given(NAMESPACES, TEXT)
def test_an_address_begins_with_its_bucket(namespace: str, room: str) -> None:
    """The first byte of a room's address is its bucket, the one that is bound for what is transient."""
    address = address_of(namespace, room)
    assert address[0] == bucket_of(f"{namespace},{room}")
    assert buckets_of(to_addresses([address])) == [address[0]]


def test_equal_rooms_have_one_address() -> None:
    """Rooms that are one key of a dictionary have one address; others, of other types too, have others."""
    assert address_of("/", 1) == address_of("/", 1.0) == address_of("/", True)
    assert len({address_of("/", room) for room in (1, "1", None, "None", 2, -1)}) == 6
    assert address_of("/", "a") != address_of("/b", "a")


@given(NAMESPACES, TEXT, st.integers(0, BUCKETS - 1))
def test_the_sids_of_a_node_have_one_bucket(namespace: str, id: str, bucket: int) -> None:
    """A sid can be chosen in any bucket, and begins with what was given: it is as hard to guess as that."""
    sid = sid_in_bucket(id, namespace, bucket)
    assert sid.startswith(id)
    assert len(sid) == len(id) + 2
    assert address_of(namespace, sid)[0] == bucket


def test_more_rooms_than_fit_concern_everyone() -> None:
    """A record for more rooms than its head can name is looked into by everyone, and goes to all buckets."""
    addresses = to_addresses(address_of("/", room) for room in range(300))
    assert buckets_of(addresses) == list(range(BUCKETS))
    record = to_record(addresses, 1, b"")
    assert list(Interest().concerned([record])) == [record]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 12))), st.lists(st.lists(st.integers(0, 12), min_size=1, max_size=4)))
def test_interest_is_what_has_members(changes: list[tuple[bool, int]], asked: list[list[int]]) -> None:
    """After any comings and goings a record concerns the node if and only if one of its rooms has a member, and its buckets are theirs."""
    addresses = [bytes([number % 5, number, 0, 0]) for number in range(13)]
    interest, members = Interest(), [0] * 13
    for comes, room in changes:
        if comes:
            interest.add(addresses[room])
        elif members[room]:
            interest.remove(addresses[room])
        else:
            with pytest.raises(KeyError):
                interest.remove(addresses[room])
            continue
        members[room] += 1 if comes else -1
    assert interest.buckets == {room % 5 for room in range(13) if members[room]}
    for rooms in asked:
        record = to_record(to_addresses(addresses[room] for room in rooms), 1, b"x")
        assert any(interest.concerned([record])) == any(members[room] for room in rooms)
        assert any(interest.concerned([to_record(to_addresses([addresses[rooms[0]]]), 1, b"")])) == bool(members[rooms[0]])


@given(NAMESPACES, NAMESPACES)
def test_a_node_is_no_room(node: str, namespace: str) -> None:
    """What is addressed to a node is not addressed to a room that is called like it."""
    assert address_of_node(node) != address_of(namespace, node)


@pytest.mark.parametrize("channel", ["#", "*", "a.#.b", "socketio", "é"])
def test_no_wildcard_in_a_binding(channel: str) -> None:
    """Whatever a channel is called, its bindings match its own keys only."""
    key = to_bucket_of(channel, 7)
    assert key.startswith("bucket.7.")
    assert not {"#", "*"} & set(key.split("."))
