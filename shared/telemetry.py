"""Structured logs: one line an event, JSON in production, readable on a terminal."""

from __future__ import annotations

import logging
import re
import sys
from typing import Any

import structlog

from shared.settings import Settings

_SECRETS = re.compile(
    r"\bbl_[A-Za-z0-9_-]{16,}"  # our own keys
    r"|\bsk-[A-Za-z0-9_-]{16,}"  # Anthropic's (sk-ant-…) and OpenAI's
    r"|\bwhsec_[A-Za-z0-9+/=]{16,}"  # what webhooks are signed with
    r"|(?<=bearer )[^\s\"',;}]{4,}"
    r"|(?<=basic )[A-Za-z0-9+/=]{8,}"
    r"|(?<=api_key=)[^\s&\"',;}]+",
    re.IGNORECASE,
)
_HIDDEN = "[redacted]"


def redacted(text: str) -> str:
    """`text` without what looks like a key: ours, Anthropic's, the value of an `Authorization` header."""
    return _SECRETS.sub(_HIDDEN, text)


def _redacting(renderer: structlog.typing.Processor) -> structlog.typing.Processor:
    """The renderer, and what it gives redacted: whatever a line is made of, it passes here."""

    def render(logger: Any, name: str, event: structlog.typing.EventDict) -> str:
        return redacted(str(renderer(logger, name, event)))

    return render


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
            _redacting(renderer),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    structlog.contextvars.bind_contextvars(process=process)
    for name in ("arq.worker", "uvicorn", "uvicorn.error", "uvicorn.access", "litestar"):
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
