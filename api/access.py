"""What a request needs to be let in: each route says it, one guard looks at it.

A route that says nothing needs `admin`. A route says it with `opt=RUN` and the like.
"""

from __future__ import annotations

from typing import Any, Final, Literal, cast, get_args

import msgspec
from litestar.connection import ASGIConnection
from litestar.handlers.base import BaseRouteHandler

from api.browser_sessions import COOKIE, BrowserSessions
from api.csrf import require_own_page
from api.errors import ApiError
from api.keyring import Keyring
from api.principal import ANYONE, Principal, principal_of, secret_in
from api.throttle import Throttle
from shared.crowds import network_of
from shared.keys import KeyRecord, Scope
from shared.loopback import is_loopback
from shared.settings import Settings

Need = Literal["open", "any", "run", "read", "admin", "metrics"]
"""`open`: no key; `any`: a key; the others: a key with this scope; `metrics`: with that of `admin` too."""
NEEDS: Final = "needs"

OPEN: Final[dict[str, Need]] = {NEEDS: "open"}
ANY_KEY: Final[dict[str, Need]] = {NEEDS: "any"}
RUN: Final[dict[str, Need]] = {NEEDS: "run"}
READ: Final[dict[str, Need]] = {NEEDS: "read"}
ADMIN: Final[dict[str, Need]] = {NEEDS: "admin"}
METRICS: Final[dict[str, Need]] = {NEEDS: "metrics"}

_HOW = "Send it as 'Authorization: Bearer KEY'."


class UnauthorizedError(ApiError):
    """401 as OpenAI says it; a key that was sent is not repeated."""

    def __init__(self, message: str) -> None:
        super().__init__(401, message, code="invalid_api_key", is_retryable=False)

    @property
    def headers(self) -> dict[str, str]:
        """How to come in, beside the rest (RFC 9110)."""
        return {**super().headers, "www-authenticate": "Bearer"}


class Access:
    """Decides who a request is from, and whether it may do what its route does."""

    def __init__(self, keyring: Keyring, sessions: BrowserSessions, settings: Settings) -> None:
        self._keyring = keyring
        self._sessions = sessions
        self._settings = settings
        self._throttle = Throttle()
        self._is_always_on = settings.auth == "on" or not is_loopback(settings.host)

    async def admit(self, connection: ASGIConnection[Any, Any, Any, Any], need: Need) -> Principal:
        """The principal of a request; raises `ApiError` 401, 403 or 429."""
        if need == "open" or not await self.is_on():
            return ANYONE
        principal = principal_of(await self._authenticate(connection))
        if need in get_args(Scope) and not principal.has(need):
            raise ApiError(
                403,
                f"This API key has not the scope '{need}' that the request needs.",
                type="permission_error",
                code="insufficient_permissions",
                is_retryable=False,
            )
        return principal

    async def is_on(self) -> bool:
        """Whether requests need a key at all."""
        if self._is_always_on or self._settings.auth == "off":
            return self._is_always_on
        return await self._keyring.has_keys()

    async def open(self, connection: ASGIConnection[Any, Any, Any, Any], secret: str) -> KeyRecord:
        """The key that this secret opens; raises `ApiError` 401, and 429 to an address that guesses."""
        address = network_of(connection.client.host) if connection.client is not None else ""
        wait_s = self._throttle.wait_s(address)
        if wait_s and not self._keyring.has_met(secret):
            raise _guessing(wait_s)
        record = await self._keyring.find(secret)
        if record is None:
            self._throttle.note(address)
            raise UnauthorizedError(f"Incorrect API key provided. {_HOW}")
        return record

    async def _authenticate(self, connection: ASGIConnection[Any, Any, Any, Any]) -> KeyRecord:
        secret = await secret_in(connection, with_query_and_body=self._settings.keys_in_requests)
        if secret is not None:
            return await self.open(connection, secret)
        record = await self._logged_in(connection)
        if record is None:
            raise UnauthorizedError(f"You did not provide an API key. {_HOW}")
        return record

    async def _logged_in(self, connection: ASGIConnection[Any, Any, Any, Any]) -> KeyRecord | None:
        """The key that the browser has logged in with: its cookie comes by itself, so a change needs more."""
        cookie = connection.cookies.get(COOKIE)
        record = await self._sessions.find(cookie) if cookie else None
        if record is not None:
            await require_own_page(connection)
        return record


async def admitted(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """The guard of every route: puts the principal where `principal_in` finds it."""
    access = cast("Access", connection.app.state.access)
    need = cast("Need", handler.opt.get(NEEDS, "admin"))
    connection.state.principal = await access.admit(connection, need)


async def known_principal(connection: ASGIConnection[Any, Any, Any, Any]) -> Principal | None:
    """Who asks, when a good key was sent or none is needed; for routes that are open."""
    access = cast("Access", connection.app.state.access)
    try:
        return await access.admit(connection, "any")
    except ApiError:
        return None


def principal_in(state: Any) -> Principal:
    """The principal that the guard has let in."""
    return cast("Principal", state.principal)


def settings_for(principal: Principal, settings: Settings) -> Settings:
    """The settings for a principal: its rights widen `client_may`, its agents bound the default."""
    may = tuple(dict.fromkeys((*settings.client_may, *principal.rights)))
    default = settings.default_agent
    if default is not None and not principal.may_use(default):
        default = None
    if may == settings.client_may and default == settings.default_agent:
        return settings
    return msgspec.structs.replace(settings, client_may=may, default_agent=default)


def _guessing(wait_s: float) -> ApiError:
    return ApiError(
        429,
        "Too many requests with wrong API keys came from this address.",
        type="rate_limit_error",
        code="rate_limit_exceeded",
        retry_after_s=wait_s,
        is_retryable=False,
    )
