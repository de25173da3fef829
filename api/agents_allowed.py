"""The registry as a key may see it: other agents are not there at all."""

from __future__ import annotations

import msgspec

from api.principal import Principal
from shared.registry import CachedRegistry, Registry


class _AgentsAllowed(CachedRegistry):
    def __init__(self, whole: CachedRegistry, agents: frozenset[str]) -> None:
        self._whole = whole
        self._agents = agents

    async def look(self, *, fresh: bool = False) -> Registry:
        return _narrowed(await self._whole.look(fresh=fresh), self._agents)


def seen_by(principal: Principal, known: Registry) -> Registry:
    """One look, less the agents that the principal may not use."""
    return known if principal.agents is None else _narrowed(known, principal.agents)


def registry_for(principal: Principal, registry: CachedRegistry) -> CachedRegistry:
    """The registry less the agents that the principal may not use."""
    return registry if principal.agents is None else _AgentsAllowed(registry, principal.agents)


def _narrowed(known: Registry, agents: frozenset[str]) -> Registry:
    return Registry(
        workers=tuple(
            msgspec.structs.replace(
                worker,
                agents=tuple(name for name in worker.agents if name in agents),
                unavailable={name: why for name, why in worker.unavailable.items() if name in agents},
            )
            for worker in known.workers
        ),
        agents={name: record for name, record in known.agents.items() if name in agents},
    )
