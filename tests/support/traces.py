"""Spans as a collector receives them over OTLP/HTTP."""

from __future__ import annotations

from typing import NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Wire
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from tests.support.receiver import Received


class Span(NamedTuple):
    service: str
    name: str
    kind: str
    trace_id: str
    id: str
    parent: str
    attributes: dict[str, object]
    is_error: bool


def spans_in(received: list[Received]) -> list[Span]:
    """All spans that have come."""
    found: list[Span] = []
    for one in received:
        for group in ExportTraceServiceRequest.FromString(one.body).resource_spans:
            service = {each.key: _plain(each.value) for each in group.resource.attributes}["service.name"]
            found += [_span(str(service), span) for scope in group.scope_spans for span in scope.spans]
    return found


def _span(service: str, span: Wire) -> Span:
    return Span(
        service,
        span.name,
        Wire.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        {each.key: _plain(each.value) for each in span.attributes},
        span.status.code == Status.STATUS_CODE_ERROR,
    )


def _plain(value: AnyValue) -> object:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_plain(each) for each in value.array_value.values]
    return getattr(value, kind) if kind else None
