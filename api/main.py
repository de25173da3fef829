"""The API process: one server on one address, and its orderly end."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from types import FrameType

import uvicorn

from api.app import create_app
from api.exposure import OpenToAllError, require_keys
from api.front import TELEMETRY, fronted, turned_away
from api.health import Drain
from shared.crowds import Crowds, most_of
from shared.key_import import KeyImportError
from shared.patience import patient_for
from shared.settings import Settings
from shared.telemetry import configure_logs
from shared.tracing import tracing_for


class ApiStartError(Exception):
    """The API cannot start; the message says what to change."""


def serve(settings: Settings, environ: Mapping[str, str]) -> None:
    """Serve until SIGTERM or SIGINT: then readiness goes, streams finish within the drain time.

    `environ` has OpenTelemetry's variables, if there are traces. Raises `ApiStartError`.
    """
    configure_logs(settings, "api")
    if settings.redis_url is None:
        raise ApiStartError("The API needs a Redis: --redis-url URL.")
    if (settings.webhook_url is None) is not (settings.webhook_secret is None):
        raise ApiStartError("webhook_url and webhook_secret go together: give both or none.")
    drain = Drain()
    try:
        asyncio.run(require_keys(settings))
        app = create_app(settings, drain, tracing_for("api", environ))
    except (KeyImportError, OpenToAllError) as error:
        raise ApiStartError(str(error)) from error
    crowds = Crowds(most_of(settings), turned_away(settings, app.state[TELEMETRY]))
    config = uvicorn.Config(
        fronted(app, settings),
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=patient_for(settings.receive_timeout_s, crowds),
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=math.ceil(settings.drain_timeout_s),
    )
    server = _Server(config, drain)
    server.run()
    if not server.started:
        raise ApiStartError(f"The API could not listen on {settings.host}:{settings.port}.")


class _Server(uvicorn.Server):
    """Knows of a signal when it comes: the lifespan would hear of it only after the drain."""

    def __init__(self, config: uvicorn.Config, drain: Drain) -> None:
        super().__init__(config)
        self._drain = drain

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._drain.has_begun = True
        super().handle_exit(sig, frame)
