"""Where a frame ends is where the WebSocket library has it end; only whole text frames of a server are taken as they stand."""

from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from loadtest.frames import frame_at

MOST = 70_000
sizes = st.one_of(st.integers(0, 300), st.sampled_from([125, 126, 65_535, 65_536, MOST]))
opcodes = st.sampled_from([Opcode.TEXT, Opcode.TEXT, Opcode.CONT, Opcode.BINARY, Opcode.PING, Opcode.CLOSE])


@st.composite
def frames(draw: st.DrawFn) -> tuple[Frame, bytes]:
    """One that may be sent, and its bytes. Only control frames have to be short, and whole."""
    opcode = draw(opcodes)
    control = opcode in (Opcode.PING, Opcode.CLOSE)
    size = draw(st.integers(2, 125)) if control else draw(sizes)
    payload = b"\x03\xe8" + b"x" * (size - 2) if control else b"x" * size
    frame = Frame(opcode, payload, fin=control or draw(st.booleans()))
    return frame, frame.serialize(mask=draw(st.integers(0, 5)) == 0)


@given(st.lists(frames(), min_size=1, max_size=6), st.data())
def test_frames_end_where_the_library_has_them_end(sent: list[tuple[Frame, bytes]], data: st.DataObject) -> None:
    """One behind the other, as far as they have come; what is taken as a packet is what was sent as one, and no frame of another kind."""
    stream = b"".join(whole for _, whole in sent)
    came = stream[: data.draw(st.integers(0, len(stream)))]
    at = 0
    for frame, whole in sent:
        found = frame_at(came, at, most=MOST)
        if at + len(whole) > len(came):
            assert found is None
            break
        assert found is not None and found.end == at + len(whole)
        masked = bool(whole[1] & 0x80)
        assert found.plain == (frame.opcode is Opcode.TEXT and frame.fin and not masked)
        assert not found.plain or came[found.payload : found.end] == frame.data
        at = found.end


@given(st.integers(MOST + 1, 2**40), st.binary(max_size=20))
def test_a_frame_that_is_too_long_is_not_waited_for(size: int, behind: bytes) -> None:
    """It says so in its first bytes: all that has come goes to whoever judges it, and is no packet."""
    came = b"\x81\x7f" + size.to_bytes(8) + behind
    found = frame_at(came, 0, most=MOST)
    assert found is not None and not found.plain and found.end == len(came)
