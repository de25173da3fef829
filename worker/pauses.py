"""No run is started while the model's service refuses them, by any worker with the same credentials."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Mapping

import structlog
from redis.exceptions import RedisError

from shared.claims import Claim
from shared.pauses import PauseStore
from shared.run_events import ErrorKind, RunError

_FIRST_S, _MOST_S = 1.0, 10.0
_MOST_ASKED_S = 300.0
_CREDENTIALS = (
    "ANTHROPIC_BASE_URL",
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "ANTHROPIC_FOUNDRY_API_KEY",
)
REFUSALS = frozenset({ErrorKind.UPSTREAM_RATE_LIMITED, ErrorKind.UPSTREAM_OVERLOADED})
"""Failures that are nothing against the run: the service takes none for now."""

_log = structlog.get_logger(__name__)


class PutBackError(Exception):
    """The model's service refused the run before it had shown anything: it is to wait again."""


def upstream_of(environ: Mapping[str, str]) -> str:
    """What the credentials are known by, without giving them away; those of a login are this host's."""
    found = [f"{name}={environ[name]}" for name in _CREDENTIALS if environ.get(name)]
    if not any("KEY" in entry or "TOKEN" in entry for entry in found):
        found.append(
            f"{socket.gethostname()}:{environ.get('HOME', '')}:{environ.get('CLAUDE_CONFIG_DIR', '')}"
        )
    return hashlib.sha256("\n".join(found).encode(errors="surrogateescape")).hexdigest()[:16]


class Pauses:
    """The pause that goes with this worker's credentials. Redis away is no reason to fail a run."""

    def __init__(self, store: PauseStore, upstream: str) -> None:
        self._store = store
        self._upstream = upstream
        self.begun = 0
        """How often this worker was refused."""

    async def begin(self, error: RunError) -> None:
        """A run was refused."""
        self.begun += 1
        asked_s = min(_MOST_ASKED_S, error.retry_after_s or 0.0)
        try:
            pause_s = await self._store.begin(self._upstream, asked_s, first_s=_FIRST_S, most_s=_MOST_S)
        except (RedisError, OSError) as failure:
            _log.warning("pause_not_noted", error=str(failure))
            return
        _log.warning("queue_paused", because=error.kind, for_s=round(pause_s, 1))

    async def end(self, claim: Claim, place: str) -> None:
        """A probe was answered."""
        try:
            await self._store.end(self._upstream, claim.queue, place)
        except (RedisError, OSError) as failure:  # the pause lapses, and the next probe says so again
            _log.warning("pause_not_ended", error=str(failure))
            return
        _log.info("queue_resumed")
