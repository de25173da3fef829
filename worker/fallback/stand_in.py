"""Agents that no live worker serves: whoever has fallbacks stands in for them."""

from __future__ import annotations

from collections.abc import Sequence

from shared.fallbacks import Fallback
from shared.registry import Registry


class StandIn:
    """Tells for which agents to stand in. One look too few is a restart's grace."""

    def __init__(self, fallbacks: Sequence[Fallback]) -> None:
        self._fallbacks = fallbacks
        self._orphans: frozenset[str] = frozenset()

    def look(self, registry: Registry) -> tuple[str, ...]:
        """Agents without a worker at this look and at the one before, for which a fallback has a model."""
        served = frozenset(registry.served)
        orphans = frozenset(
            name
            for name in registry.agents
            if name not in served and any(each.model_for(name, None) for each in self._fallbacks)
        )
        lasting, self._orphans = orphans & self._orphans, orphans
        return tuple(sorted(lasting))
