"""Traces: when there are any, and how their context travels (W3C Trace Context) from request to run.

Nothing of OpenTelemetry is imported here: without an endpoint to send to it costs neither memory nor time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Literal, Protocol

import structlog

_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")

_log = structlog.get_logger(__name__)

Value = str | int | float | bool | list[str]
Kind = Literal["server", "consumer", "client", "internal"]


class Span(Protocol):
    """Something that takes time, in a trace."""

    @property
    def traceparent(self) -> str:
        """The context that its children elsewhere are given."""

    def note(self, **attributes: Value | None) -> None:
        """Add attributes; `__` in a name stands for a dot, and `None` is left out."""

    def fail(self, kind: str) -> None:
        """Say that it ended in an error of this kind. Never its words, which may hold what was said."""

    def rename(self, name: str) -> None:
        """Give it the name that is known only now."""

    def child(self, name: str, **attributes: Value | None) -> Span:
        """A span below this one, whatever is around; the caller ends it."""

    def end(self) -> None:
        """Say that it is over, if it is not entered as a context."""


class Tracing(Protocol):
    """Makes spans, and sends them in the background."""

    def span(
        self, name: str, kind: Kind = "internal", *, parent: str = "", **attributes: Value | None
    ) -> AbstractContextManager[Span]:
        """A span for a scope; its parent is that `traceparent`, else the span around it, if there is one."""

    async def close(self) -> None:
        """Send what is left, within a bound."""


def valid(traceparent: str) -> str:
    """A `traceparent` of version 00, as it is; what is not one is empty: a stranger wrote it."""
    return traceparent if _TRACEPARENT.fullmatch(traceparent) else ""


def trace_id_of(traceparent: str) -> str:
    """The trace's id (32 hex digits); empty without one."""
    match = _TRACEPARENT.fullmatch(traceparent)
    return match[1] if match else ""


def tracing_for(process: str, environ: Mapping[str, str]) -> Tracing | None:
    """Traces of this process, `api` or `worker`, by OpenTelemetry's variables; `None` when they are off."""
    if not any(environ.get(name, "").strip() for name in _ENDPOINTS):
        return None
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    if environ.get("OTEL_TRACES_EXPORTER", "otlp").strip() != "otlp":
        return None
    try:
        from shared.otel import OtlpTracing  # noqa: PLC0415 - heavy, and of an extra
    except ImportError as error:
        _log.warning("traces_off", because=str(error), fix="pip install 'backline[otel]'")
        return None
    _log.info("traces_on")
    return OtlpTracing(process, environ)
