"""How the commands take a moment and a place in the log, and how they write them."""

import re
import time
from datetime import UTC, datetime

import msgspec

from node.config_values import Taken, quoted

_EARLIEST_MS = 100_000_000_000  # March 1973: whole numbers from here on are times, below they are offsets
_LATEST_MS = 253_402_300_799_999  # the end of 9999, as far as `written` goes
_AGO = re.compile(r"([0-9]{1,9})\s*(s|m|h|d)(?:\s+ago)?\Z")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class Place(msgspec.Struct, frozen=True):
    """The event at `offset` of one partition, or (None) of each."""

    partition: int | None
    offset: int


class Moment(msgspec.Struct, frozen=True):
    """A time, ms since the Unix epoch."""

    ms: int


def _moment(text: str) -> Moment:
    if text == "now":
        return Moment(int(time.time() * 1000))
    if (ago := _AGO.match(text)) is not None:
        return Moment(int((time.time() - int(ago[1]) * _SECONDS[ago[2]]) * 1000))
    if re.fullmatch(r"[0-9]{12,15}", text) and _EARLIEST_MS <= int(text) <= _LATEST_MS:
        return Moment(int(text))
    if re.fullmatch(r"[0-9]{2}:[0-9]{2}(:[0-9]{2})?", text):
        text = f"{datetime.now().astimezone().date()}T{text}"
    try:
        if not re.match(r"[0-9]{4}-", text):
            raise ValueError
        return Moment(round(datetime.fromisoformat(text).timestamp() * 1000))
    except (ValueError, OverflowError):
        raise ValueError(quoted(text)) from None


def _place(text: str) -> Place:
    match = re.fullmatch(r"(?:([0-9]{1,3}):)?([0-9]{1,15})", text)
    if match is None or (match[1] is None and int(match[2]) >= _EARLIEST_MS):
        raise ValueError(quoted(text))
    return Place(int(match[1]) if match[1] else None, int(match[2]))


def _either(text: str) -> Moment | Place:
    try:
        return _place(text)
    except ValueError:
        return _moment(text)


def _begin(text: str) -> Place | None:
    return {"start": Place(None, 0), "end": None}[text] if text in ("start", "end") else _place(text)


_TIME_FORMS = "2026-05-04T13:00:00Z (without a zone: local time), 13:00 (today), ms since 1970, `5m ago` or `now`"
TIME = Taken(f"a time: {_TIME_FORMS}", _moment)
UNTIL = Taken(
    f"a time ({_TIME_FORMS}), or a position: P:N is the event N of partition P (the others whole), N that of each", _either
)
BEGIN = Taken("start, end, N (the event N of each partition) or P:N (partition P alone, from its event N)", _begin)


def written(ms: int) -> str:
    """The time as people and programs read it: ISO 8601 in UTC, to the millisecond."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def written_locally(ms: int) -> str:
    """The time by the clock on the wall, to the second; with the day where it is another."""
    moment = datetime.fromtimestamp(ms / 1000, UTC).astimezone()
    today = datetime.now(UTC).astimezone().date()
    return moment.strftime("%H:%M:%S" if moment.date() == today else "%Y-%m-%d %H:%M:%S")
