"""Whether this server may listen where it is told to: beyond loopback only behind keys."""

from __future__ import annotations

import shlex

import structlog
from redis.exceptions import RedisError

from shared.key_import import given_keys
from shared.keys import KeyStore
from shared.loopback import is_loopback
from shared.redis import connect
from shared.settings import Settings

_log = structlog.get_logger(__name__)


class OpenToAllError(Exception):
    """Everybody who reaches the address could run agents; the message has the command that mends it."""


async def require_keys(settings: Settings) -> None:
    """Raise `OpenToAllError` when other machines reach the address and there is no key, `KeyImportError`.

    With `auth` `on` a server may start without keys: it lets nobody in until there is one.
    """
    if is_loopback(settings.host) or settings.auth == "on":
        return
    if settings.auth == "off":
        raise OpenToAllError(
            f"Without keys the API listens on loopback only, not on {settings.host}:"
            " remove the setting auth=off, or give --host 127.0.0.1."
        )
    if given_keys(settings) or await _are_there(settings):
        return
    raise OpenToAllError(
        f"There is no API key, and {settings.host} is not loopback: everybody could run your agents."
        f" Make one: backline keys create --name me {_where(settings)}"
    )


async def _are_there(settings: Settings) -> bool:
    redis = connect(settings.redis_url or "")
    try:
        return await KeyStore(redis).exist()
    except (RedisError, OSError) as error:
        _log.warning("keys_not_looked_for", error=str(error))
        return True  # Beyond loopback keys are asked for in any case.
    finally:
        await redis.aclose()


def _where(settings: Settings) -> str:
    url = settings.redis_url or ""
    if str(settings.data_dir) in url:  # a server of our own, which ends with us
        return f"--data {shlex.quote(str(settings.data_dir))}"
    return "--redis-url …" if "@" in url else f"--redis-url {shlex.quote(url)}"
