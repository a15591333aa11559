"""How a node logs: structlog, lines for people on a terminal, JSON elsewhere, on stderr. Nothing secret leaves through it."""

import contextlib
import logging
import re
import sys
import time
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

from node.config import Settings
from node.line_rate import LineRate
from node.metrics import SESSION_LINES

_SECRET_NAMES = re.compile(r"token|secret|password|authorization|cookie|ticket|credential|api_?key", re.IGNORECASE)
_HARMLESS_NAMES = frozenset({"token_source", "token_bytes"})
_SECRET_PARTS = (
    (re.compile(r"\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"), "[token]"),
    (re.compile(r"(?i)\b(token|ticket|access_token|secret|password)=[^&\s\"']+"), r"\1=[redacted]"),
    (re.compile(r"(?i)\b(bearer)\s+[A-Za-z0-9._~+/=-]+"), r"\1 [redacted]"),
    (re.compile(r"(?<=://)[^/@\s]*@"), ""),
)
_REDACTED = "[redacted]"
LINES_PER_S, LINES_BURST = 20.0, 200  # of one kind; those of sessions have had an allowance of their own (`node.edge.witness`)


def open_journal(settings: Settings, stream: TextIO | None = None) -> None:
    """Send what the node and its libraries log to `stream` (stderr), in the configured form and from the configured level on."""
    stream = stream or sys.stderr
    text = settings.log_format == "text" or (settings.log_format is None and stream.isatty())
    first: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if text else "iso", utc=not text),
        structlog.processors.format_exc_info,
        redact,
    ]
    last: structlog.typing.Processor
    if text:
        last = structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
        )
    else:
        first.insert(0, _Named(settings.node_id))
        last = structlog.processors.JSONRenderer()
    level = logging.getLevelName(settings.log_level.upper())
    structlog.configure(
        processors=[_Rated(), *first, last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _Lasting(stream),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(_Lasting(stream))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *first],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
        )
    )
    for library in ("aiormq", "aio_pika"):  # each lost connection is told by them in a page; the node tells it in a line
        logging.getLogger(library).setLevel(logging.CRITICAL)
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: takes out values whose names say that they are secret, and what looks like a token or a login."""
    for name, value in event.items():
        if _SECRET_NAMES.search(name) and name not in _HARMLESS_NAMES and not isinstance(value, bool | int | float):
            event[name] = _REDACTED
        elif isinstance(value, str):
            event[name] = without_secrets(value)
        elif not isinstance(value, bool | int | float | None):
            event[name] = without_secrets(str(value))
    return event


def without_secrets(text: str) -> str:
    """The text without tokens, tickets and logins of URLs."""
    for pattern, instead in _SECRET_PARTS:
        text = pattern.sub(instead, text)
    return text


class _Rated:
    """Leaves out what comes too often, and says so on the next line of its kind."""

    def __init__(self) -> None:
        self._rate = LineRate(per_s=LINES_PER_S, burst=LINES_BURST)

    def __call__(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        kind = str(event["event"])
        if kind in SESSION_LINES:
            return event
        if not self._rate.take(kind, time.monotonic()):
            raise structlog.DropEvent
        if dropped := self._rate.dropped_of(kind):
            event["left_out"] = dropped
        return event


class _Named:
    """Puts the node's id on every line."""

    def __init__(self, node_id: str) -> None:
        self._id = node_id

    def __call__(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event.setdefault("node", self._id)
        return event


class _Lasting:
    """A stream whose reader may go away: a node goes on without its journal rather than fail in the middle of its work.

    For the standard library's logging it is a stream; for structlog a logger, each of whose levels writes the line.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._stream.flush()

    def msg(self, message: str) -> None:
        self.write(f"{message}\n")
        self.flush()

    debug = info = warning = warn = error = critical = exception = fatal = log = msg
