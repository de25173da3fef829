"""Structured logs: one line an event, JSON in production, readable on a terminal."""

from __future__ import annotations

import logging
import sys

import structlog

from shared.settings import Settings


def configure_logs(settings: Settings, process: str) -> None:
    """Set up structlog for this process; every line carries `process`. Prompts and keys are never logged."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    is_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if is_json
        else structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            # No local variables: they hold prompts, keys and URLs with passwords.
            structlog.processors.ExceptionRenderer(
                structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
            )
            if is_json
            else structlog.dev.set_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    structlog.contextvars.bind_contextvars(process=process)
    for name in ("arq.worker", "uvicorn", "uvicorn.error", "uvicorn.access", "litestar"):
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
