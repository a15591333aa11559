"""Spans to an OpenTelemetry collector, over OTLP/HTTP. The only import of `opentelemetry`, and itself imported only when it is asked for.

A trace has the command, the append of its event, and on each node the way of the event to the sockets there. The context goes with the
event, as the W3C's `traceparent` in its envelope.
"""

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar, cast
from urllib.parse import urlsplit

import msgspec
import structlog
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from node.core.events import Event

SEND_EVERY_MS = 1_000
SEND_LIMIT_S = 3.0
MOST_WAITING = 2_048  # spans; what is more is dropped
_PATH = "/v1/traces"
_Event = TypeVar("_Event", bound=msgspec.Struct)
_log = structlog.get_logger()


class Tracer:
    """See `node.spans.Spans`."""

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer("tidegate")
        self._w3c = TraceContextTextMapPropagator()

    @contextlib.contextmanager
    def command(self, name: str, lineage: str, parent: str | None = None) -> Iterator[str]:
        around = self._w3c.extract({"traceparent": parent}) if parent else None
        attributes = {"tidegate.lineage": lineage} if lineage else {}
        with self._tracer.start_as_current_span(name, around, SpanKind.SERVER, attributes):
            yield self.current()

    @contextlib.contextmanager
    def appending(self, event: _Event) -> Iterator[_Event]:
        if not trace.get_current_span().is_recording():
            yield event
            return
        one = cast(Event, event)
        name, attributes = f"append {one.__struct_config__.tag}", {"tidegate.event": one.id}
        with self._tracer.start_as_current_span(name, kind=SpanKind.PRODUCER, attributes=attributes):
            carrier: dict[str, str] = {}
            self._w3c.inject(carrier)
            yield msgspec.structs.replace(event, trace=carrier["traceparent"])

    def applied(self, event: msgspec.Struct, carried: str) -> "Reached | None":
        around = self._w3c.extract({"traceparent": carried})
        if not trace.get_current_span(around).get_span_context().is_valid:
            return None
        one = cast(Event, event)
        name, attributes = f"deliver {one.__struct_config__.tag}", {"tidegate.event": one.id}
        span = self._tracer.start_span(name, around, SpanKind.CONSUMER, attributes)
        return Reached(span) if span.is_recording() else None

    def came_to(self, outcome: str) -> None:
        trace.get_current_span().set_attribute("tidegate.outcome", outcome)

    def current(self) -> str:
        context = trace.get_current_span().get_span_context()
        return trace.format_trace_id(context.trace_id) if context.is_valid and context.trace_flags.sampled else ""


class Reached:
    """See `node.spans.Reach`. What is still unsent holds it, so its last reference goes when nothing is left to write."""

    __slots__ = ("_last_ns", "_sockets", "_span")

    def __init__(self, span: Span) -> None:
        self._span, self._sockets, self._last_ns = span, 0, time.time_ns()

    @property
    def trace(self) -> str:
        return trace.format_trace_id(self._span.get_span_context().trace_id)

    def written(self) -> None:
        self._sockets += 1
        self._last_ns = time.time_ns()

    def __del__(self) -> None:
        self._span.set_attribute("tidegate.sockets", self._sockets)
        self._span.end(self._last_ns)


class _Sender(SpanExporter):
    """Sends spans, and says once that they cannot be sent, and once that they are again: the library has a page for each try."""

    def __init__(self, sender: SpanExporter) -> None:
        self._sender = sender
        self._failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._sender.export(spans)
        failing = result is not SpanExportResult.SUCCESS
        if failing and not self._failing:
            _log.warning("spans cannot be sent: they are dropped")
        elif self._failing and not failing:
            _log.info("spans are sent again")
        self._failing = failing
        return result

    def shutdown(self) -> None:
        self._sender.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._sender.force_flush(timeout_millis)


@contextlib.contextmanager
def traced(url: str, *, share: float, node: str, version: str) -> Iterator[Tracer]:
    """A tracer whose spans go to the collector at `url` (its path, where it has none, is OTLP's). It traces this share of the commands.

    What waits at the end is sent, or given up within `SEND_LIMIT_S`.
    """
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    endpoint = url if urlsplit(url).path.strip("/") else url.rstrip("/") + _PATH
    resource = Resource.create({"service.name": "tidegate", "service.instance.id": node, "service.version": version})
    ours = TraceIdRatioBased(
        share
    )  # judges by the trace's id, so that all nodes judge alike, and a caller's wish alone traces nothing
    provider = TracerProvider(sampler=ParentBased(ours, remote_parent_sampled=ours), resource=resource, shutdown_on_exit=False)
    sender = _Sender(OTLPSpanExporter(endpoint, timeout=SEND_LIMIT_S))
    provider.add_span_processor(BatchSpanProcessor(sender, MOST_WAITING, SEND_EVERY_MS))
    try:
        yield Tracer(provider)
    finally:
        provider.shutdown()
