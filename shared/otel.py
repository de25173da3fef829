"""`shared.tracing` by OpenTelemetry's SDK, over OTLP/HTTP. Imported only where traces are on."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

import structlog
from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared.tracing import Kind, Value

_FLUSH_S = 3.0
_KINDS = {
    "server": SpanKind.SERVER,
    "consumer": SpanKind.CONSUMER,
    "client": SpanKind.CLIENT,
    "internal": SpanKind.INTERNAL,
}
_PROPAGATOR = TraceContextTextMapPropagator()

_log = structlog.get_logger(__name__)


class OtlpTracing:
    """Traces of one process. Endpoint, headers, sampler, resource, batch: the standard `OTEL_…` variables."""

    def __init__(self, process: str, environ: Mapping[str, str]) -> None:
        # The SDK reads the process's environment alone; ours may have more, from `.env`.
        os.environ.update({name: value for name, value in environ.items() if name.startswith("OTEL_")})
        _log_by_structlog()
        named = Resource({"service.name": f"backline-{process}", "service.namespace": "backline"})
        self._provider = TracerProvider(
            resource=Resource.get_empty().merge(named).merge(OTELResourceDetector().detect()),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("backline")

    @contextmanager
    def span(
        self, name: str, kind: Kind = "internal", *, parent: str = "", **attributes: Value | None
    ) -> Iterator[_Span]:
        """A span for a scope: `shared.tracing.Tracing.span`."""
        above = _PROPAGATOR.extract({"traceparent": parent}, context.Context()) if parent else None
        span = _Span(self._tracer, self._tracer.start_span(name, above, _KINDS[kind]))
        span.note(**attributes)
        token = context.attach(trace.set_span_in_context(span.span, above))
        try:
            yield span
        except Exception as error:
            span.fail(type(error).__name__)
            raise
        finally:
            context.detach(token)
            span.end()

    async def close(self) -> None:
        """Send what is left, within a bound."""
        loop, is_done = asyncio.get_running_loop(), asyncio.Event()

        def flush() -> None:
            self._provider.force_flush()
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(is_done.set)

        # A thread that holds nobody up: the SDK (1.45) flushes without a limit while a collector is away.
        threading.Thread(target=flush, daemon=True).start()
        with suppress(TimeoutError):
            async with asyncio.timeout(_FLUSH_S):
                await is_done.wait()


class _Span:
    def __init__(self, tracer: trace.Tracer, span: trace.Span) -> None:
        self._tracer = tracer
        self.span = span

    @property
    def traceparent(self) -> str:
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier, trace.set_span_in_context(self.span, context.Context()))
        return carrier.get("traceparent", "")

    def note(self, **attributes: Value | None) -> None:
        for name, value in attributes.items():
            if value is not None:
                self.span.set_attribute(name.replace("__", "."), value)

    def fail(self, kind: str) -> None:
        self.span.set_status(Status(StatusCode.ERROR))
        self.span.set_attribute("error.type", kind)

    def rename(self, name: str) -> None:
        self.span.update_name(name)

    def child(self, name: str, **attributes: Value | None) -> _Span:
        above = trace.set_span_in_context(self.span, context.Context())
        span = _Span(self._tracer, self._tracer.start_span(name, above))
        span.note(**attributes)
        return span

    def end(self) -> None:
        self.span.end()


class _ToStructlog(logging.Handler):
    """The SDK's warnings, such as of a collector that is away, as lines like all others."""

    def emit(self, record: logging.LogRecord) -> None:
        _log.warning("traces_not_sent", said=record.getMessage())


def _log_by_structlog() -> None:
    logger = logging.getLogger("opentelemetry")
    logger.propagate = False
    logger.handlers = [_ToStructlog(logging.WARNING)]
