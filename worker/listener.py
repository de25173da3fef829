"""`GET /metrics` of a worker, on a port of its own; a worker needs no other."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import structlog
from redis.exceptions import RedisError

from shared.keys import KeyStore, digest_of
from shared.loopback import is_loopback
from shared.metrics import ProcessMetrics
from shared.settings import Settings

if TYPE_CHECKING:
    from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, HTTPScope

_SCOPES = frozenset({"metrics", "admin"})
_ANY = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - looked for, not listened on
_BACKLOG = 16
_MOST_AT_ONCE = 64

_log = structlog.get_logger(__name__)


class ListenerError(Exception):
    """The address cannot be listened on; the message says what to change."""


class MetricsListener:
    """Shows `metrics` after `look` has been awaited; `run` serves until cancelled.

    On loopback it answers to loopback's names alone, so that no web page whose name leads here may read it.
    Beyond it asks for a key. Raises `ListenerError`.
    """

    def __init__(
        self,
        metrics: ProcessMetrics,
        look: Callable[[], Awaitable[None]],
        keys: KeyStore,
        settings: Settings,
    ) -> None:
        self._metrics = metrics
        self._look = look
        self._keys = keys
        self._receive_timeout_s = settings.receive_timeout_s
        self._is_open = is_loopback(settings.metrics_host)
        self._socket = _listening(settings.metrics_host, settings.metrics_port or 0)
        host = socket.gethostname() if settings.metrics_host in _ANY else settings.metrics_host
        port = self._socket.getsockname()[1]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        """As Prometheus is to be given it."""

    async def run(self) -> None:
        """Serve until cancelled."""
        import uvicorn  # noqa: PLC0415 - a worker that does not listen need not have it in memory

        from shared.patience import patient_for  # noqa: PLC0415 - likewise

        config = uvicorn.Config(
            self._answer,
            loop="none",
            http=patient_for(self._receive_timeout_s),
            interface="asgi3",
            proxy_headers=False,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=_MOST_AT_ONCE,
            timeout_keep_alive=75,
        )

        class Server(uvicorn.Server):
            @contextmanager
            def capture_signals(self) -> Iterator[None]:
                yield  # they are the worker's

        server = Server(config)
        server.servers = []
        _log.info("metrics_shown", at=self.address)
        try:
            await server.serve(sockets=[self._socket])
        finally:
            for listening in server.servers:
                listening.close()
            for connection in list(server.server_state.connections):
                connection.shutdown()
            self._socket.close()

    async def _answer(self, scope: HTTPScope, _: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        status = await self._judge(scope["method"], scope["path"], headers)
        content, media_type = b"", "text/plain; charset=utf-8"
        if status == 200:
            try:
                await self._look()
            except (RedisError, OSError, TimeoutError) as error:
                _log.warning("metrics_without_redis", error=str(error))
            content, media_type = self._metrics.exposition(headers.get(b"accept", ""))
        more = [(b"www-authenticate", b"Bearer")] if status == 401 else []
        await send(_start(status, [(b"content-type", media_type.encode()), *more]))
        await send({"type": "http.response.body", "body": content, "more_body": False})

    async def _judge(self, method: str, path: str, headers: dict[bytes, str]) -> int:
        if path != "/metrics":
            return 404
        if method != "GET":
            return 405
        if self._is_open:
            return 200 if is_loopback(_name_of(headers.get(b"host", ""))) else 403
        return await self._admit(headers.get(b"authorization", ""))

    async def _admit(self, authorization: str) -> int:
        scheme, _, secret = authorization.partition(" ")
        if scheme.lower() != "bearer" or not secret:
            return 401
        digest = digest_of(secret.strip())
        try:
            record, now_s = await self._keys.find(digest)
        except (RedisError, OSError):
            return 503
        if record is None or not record.is_good(digest, now_s):
            return 401
        return 200 if _SCOPES & set(record.scopes) else 403


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ListenerError(
            f"The metrics cannot be shown on {host}:{port}: {error.strerror}. Each worker of a host needs a"
            " metrics_port of its own; 0 takes one that is free."
        ) from error


def _name_of(host: str) -> str:
    return host.rpartition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]


def _start(status: int, headers: list[tuple[bytes, bytes]]) -> Any:
    return {"type": "http.response.start", "status": status, "headers": headers, "trailers": False}
