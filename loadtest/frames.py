"""Where a WebSocket frame ends, so that plain text frames need not go through the library. Pure.

A node sends next to nothing else. The parser of `websockets` is a chain of generators: where 1,000 connections take turns, it costs more
than all that is done with the event in it (`bench/load_floor.py`). Everything but a whole text frame is the library's.
"""

from typing import NamedTuple

_TEXT = 0x81  # the whole of a text message, without extensions
_MASKED, _SIZE = 0x80, 0x7F
_WIDTHS = {126: 2, 127: 8}  # of a size that has bytes of its own


class Frame(NamedTuple):
    """From where to where, in the bytes that it was found in. `plain`: a text that is the packet as it stands."""

    plain: bool
    payload: int
    end: int


def frame_at(data: bytes, at: int, *, most: int) -> Frame | None:
    """The frame that begins at `at`; None where it is not whole yet.

    One that says of itself that it has more than `most` bytes counts as whole as soon as it says so: whoever judges it need not wait.
    """
    if len(data) < at + 2:
        return None
    size, payload = data[at + 1], at + 2
    if size > 125:
        masked, size = size & _MASKED, size & _SIZE
        width = _WIDTHS.get(size, 0)
        payload += width
        if len(data) < payload:
            return None
        if width:
            size = int.from_bytes(data[payload - width : payload])
        if size > most:
            return Frame(False, payload, len(data))
        if masked:
            payload += 4
            return Frame(False, payload, payload + size) if len(data) >= payload + size else None
    end = payload + size
    return Frame(data[at] == _TEXT, payload, end) if len(data) >= end else None
