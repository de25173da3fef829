"""What handlers are given that depends on who asks: the tenant, the agents, what a request may widen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from litestar import Request
from litestar.di import Provide

from api.access import principal_in, settings_for
from api.agents_allowed import registry_for
from api.principal import Principal
from api.rates import Caller
from api.repeats import repeat_of
from api.runs import Runs
from shared.registry import CachedRegistry
from shared.settings import Settings


def asked_for(runs: Runs, registry: CachedRegistry, settings: Settings) -> dict[str, Provide]:
    """The dependencies `principal`, `tenant`, `runs`, `registry` and `settings`."""

    def principal_of(request: Request[Any, Any, Any]) -> Principal:
        return principal_in(request.state)

    def tenant_of(principal: Principal) -> str:
        return principal.tenant

    async def runs_of(request: Request[Any, Any, Any], principal: Principal) -> Runs:
        caller = Caller(principal, cast("dict[str, Any]", request.scope))
        return runs.on_behalf_of(caller, await repeat_of(request, principal, settings))

    def registry_of(principal: Principal) -> CachedRegistry:
        return registry_for(principal, registry)

    def settings_of(principal: Principal) -> Settings:
        return settings_for(principal, settings)

    made: dict[str, Callable[..., object]] = {
        "principal": principal_of,
        "tenant": tenant_of,
        "registry": registry_of,
        "settings": settings_of,
    }
    provided = {name: Provide(function, sync_to_thread=False) for name, function in made.items()}
    return {**provided, "runs": Provide(runs_of)}
