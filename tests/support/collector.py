"""An OTLP/HTTP collector of OpenTelemetry on a free port, which keeps the spans that it is sent."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.trace.v1.trace_pb2 import Span as RawSpan


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """One span, with the node that sent it; times are in nanoseconds since the Unix epoch."""

    node: str
    trace: str
    id: str
    parent: str
    name: str
    kind: str
    began: int
    ended: int
    attributes: dict[str, Any]


class Collector:
    """What was sent, in the order of arrival."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.spans: list[Span] = []
        self.answer = 200

    def named(self, beginning: str) -> list[Span]:
        """Those whose names begin so."""
        return [span for span in self.spans if span.name.startswith(beginning)]

    def take(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            node = _values(resource.resource.attributes)["service.instance.id"]
            self.spans += [_span(node, raw) for scope in resource.scope_spans for raw in scope.spans]


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


def _span(node: str, raw: RawSpan) -> Span:
    return Span(
        node=node,
        trace=raw.trace_id.hex(),
        id=raw.span_id.hex(),
        parent=raw.parent_span_id.hex(),
        name=raw.name,
        kind=RawSpan.SpanKind.Name(raw.kind).removeprefix("SPAN_KIND_"),
        began=raw.start_time_unix_nano,
        ended=raw.end_time_unix_nano,
        attributes=_values(raw.attributes),
    )


@contextmanager
def collector() -> Iterator[Collector]:
    """A collector for as long as the block runs."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if found.answer == 200 and self.path == "/v1/traces":
                found.take(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(found.answer)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Collector(f"http://127.0.0.1:{server.server_port}")
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    serving.start()
    try:
        yield found
    finally:
        server.shutdown()
        serving.join()
        server.server_close()
