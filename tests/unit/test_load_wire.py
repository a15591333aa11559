"""The load test's own view of the packets."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest import wire

ERROR = {"message": "busy", "data": {"code": "server_busy", "retry_after": 2000}}


@pytest.mark.parametrize(
    ("packet", "meant"),
    [
        (
            b'0{"sid":"n1.x","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":65536}',
            wire.Opened(25_000, 20_000),
        ),
        (b"2", wire.Ping()),
        (b'40{"sid":"abc"}', wire.Connected()),
        (b"44" + json.dumps(ERROR).encode(), wire.Refusal("server_busy", 2000)),
        (b'44{"message":"Invalid namespace"}', wire.Refusal("disconnected", None)),
        (b"41", wire.Disconnected()),
        (b"1", wire.Closed()),
        (b'42["typing",{"room":"r"}]', wire.Event("typing", msgspec.Raw(b'{"room":"r"}'))),
        (b'42["a later one",{"room":"r"}]', wire.Event("a later one", msgspec.Raw(b'{"room":"r"}'))),
        (b'42["resync",{"room":"r","after":3}]', wire.Event("resync", wire.Resync(room="r", after=3))),
        (b'4312[{"ok":true}]', wire.Acked(12, wire.Answer(ok=True))),
    ],
)
def test_each_packet_of_a_server_is_understood(packet: bytes, meant: wire.Packet) -> None:
    """Engine.IO's handshake, ping and close; Socket.IO's CONNECT, its refusal, events and acks."""
    assert wire.parse(packet) == meant


@given(st.one_of(st.binary(), st.tuples(st.sampled_from([b"0", b"40", b"42", b"43", b"44", b"45"]), st.binary()).map(b"".join)))
def test_junk_is_malformed_and_nothing_else(packet: bytes) -> None:
    """Whatever a server sends is a packet or `Malformed`."""
    try:
        found = wire.parse(packet)
    except wire.Malformed:
        return
    assert isinstance(found, wire.Packet)


@pytest.mark.parametrize("payload", ['{"room":1,"seq":1}', '{"room":"r"}', "[]", "{"])
@pytest.mark.parametrize("name", ["message", "left", "replay", "resync"])
def test_an_event_of_the_wrong_shape_is_malformed(name: str, payload: str) -> None:
    """A sequenced event has at least its room and its seq; nothing that this client knows passes for something that it does not."""
    with pytest.raises(wire.Malformed):
        wire.parse(f'42["{name}",{payload}]'.encode())


def test_what_a_client_sends_reads_as_the_protocol_has_it() -> None:
    """CONNECT with its auth, a command with its number."""
    auth: dict[str, Any] = {"token": "t", "resume": {"session": "s", "cursors": {"lobby": 12}}}
    assert json.loads(wire.connect(auth).removeprefix(b"40")) == auth
    said = {"room": "lobby", "id": "a1", "text": 'hi "all"'}
    assert json.loads(wire.command(7, "message:send", said).removeprefix(b"427")) == ["message:send", said]
    assert wire.PONG == b"3"


def test_fields_that_nobody_knows_are_passed_over() -> None:
    """A newer server may send more."""
    packet = wire.parse(b'42["edited",{"room":"r","seq":3,"from":"ann","text":"hi","id":"a","at":5,"mood":{"x":1}}]')
    assert isinstance(packet, wire.Event)
    event = packet.payload
    assert isinstance(event, wire.RoomEvent)
    assert (packet.name, event.event) == ("edited", "edited")
    assert (event.room, event.seq, event.author, event.text, event.id, event.at) == ("r", 3, "ann", "hi", "a", 5)
