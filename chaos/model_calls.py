"""When each call of the scripted model was under way; gathered as it goes, for the model forgets."""

from __future__ import annotations

from itertools import pairwise

import httpx

from chaos.history import MARKER


class ModelCalls:
    """The calls of each request, by its marker."""

    def __init__(self, url: str) -> None:
        self._url = f"{url}/_control/requests"
        self._calls: dict[str, dict[int, tuple[int, int]]] = {}

    async def gather(self) -> None:
        """Take over what the model knows now."""
        async with httpx.AsyncClient(timeout=30) as http:
            answer = await http.get(self._url, params={"marker": "chaos-", "find": MARKER})
        for view in answer.json():
            if view["path"] == "/v1/messages" and view["body"]:
                span = (view["received_at_ns"], view["ended_at_ns"] or 2**62)
                self._calls.setdefault(view["body"], {})[view["n"]] = span

    def began(self, marker: str) -> list[float]:
        """When they began, in seconds of the monotonic clock."""
        return sorted(began / 1e9 for began, _ in self._calls.get(marker, {}).values())

    def overlap_s(self, marker: str) -> float:
        """The longest time for which two were under way."""
        spans = sorted(self._calls.get(marker, {}).values())
        overlaps = [min(a[1], b[1]) - b[0] for a, b in pairwise(spans)]
        return max(0, *overlaps, 0) / 1e9
