"""What Backline itself tells of a session when all is over: every run, its log, and every batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import httpx
import msgspec

from chaos.batches import note, take_rows
from chaos.history import Ended, Gathered, History, Seen, numbers_of
from chaos.model_calls import ModelCalls
from chaos.reach import Tenant
from shared.batches.output import request_id_of


class Evidence:
    """Asks an API, in each tenant's name. `began_s` is when the session did, of the monotonic clock."""

    def __init__(self, url: str, tenants: Sequence[Tenant], calls: ModelCalls, began_s: float) -> None:
        self._url = url
        self._tenants = tenants
        self._calls = calls
        self._began_s = began_s

    async def read(self, history: History, effects: Sequence[str], admin: Tenant) -> None:
        """Fill in runs, batches and totals. `effects` are the markers that tools have left."""
        acted = Counter(effects)
        async with httpx.AsyncClient(base_url=self._url, timeout=60) as http:
            for tenant in self._tenants:
                await self._read_batches(http, history, tenant)
            markers = dict(_requests_of(history.batches))
            for tenant in self._tenants:
                async for run in _pages(http, "/v1/runs", tenant, "next"):
                    events = await _log_of(http, run["id"], tenant) if run["ended_at"] else []
                    marker = markers.get(run["request_id"] or "", run["request_id"] or "")
                    history.runs.append(self._ended(run, marker, events, acted[marker], tenant))
            total = (await http.get("/stats", headers=admin.headers)).json()["total"]
            history.counted_output_tokens = total["output_tokens"]

    async def _read_batches(self, http: httpx.AsyncClient, history: History, tenant: Tenant) -> None:
        known = {batch.marker: batch for batch in history.batches}
        seen = {each.marker: each for each in history.requests}
        async for said in _pages(http, "/v1/batches", tenant, "last_id"):
            batch = known[said["metadata"]["marker"]]
            if batch.tenant != tenant.name:
                seen[batch.marker].foreign.append(f"listed for {tenant.name}")
                continue
            note(batch, said)
            if not batch.outputs and not batch.errors:  # its client was cut off from it
                await self._read_files(http, said, batch, seen, tenant)

    async def _read_files(
        self,
        http: httpx.AsyncClient,
        said: dict[str, Any],
        batch: Gathered,
        seen: dict[str, Seen],
        tenant: Tenant,
    ) -> None:
        files = [
            await _rows(http, said[name], tenant) if said[name] else []
            for name in ("output_file_id", "error_file_id")
        ]
        take_rows(batch, files[0], files[1], {marker: seen[marker] for marker in batch.lines})

    def _ended(
        self, run: dict[str, Any], marker: str, events: list[dict[str, Any]], effects: int, tenant: Tenant
    ) -> Ended:
        texts = [event for event in events if event["type"] == "text"]
        calls = self._calls.began(marker)
        return Ended(
            id=run["id"],
            marker=marker,
            state=run["state"],
            attempts=run["attempts"],
            numbers=numbers_of("".join(event["text"] for event in texts)),
            event_numbers=[event["n"] for event in events],
            hidden=(events[-1]["n"] if events else 0) - len(events),
            ends=sum(event["type"] == "ended" for event in events),
            output_tokens=(run["usage"] or {}).get("output_tokens", 0),
            error=(run["error"] or {}).get("kind", ""),
            model_calls=len(calls),
            overlap_s=self._calls.overlap_s(marker),
            effects=effects,
            tenant=tenant.name,
            workers=[int(worker.rsplit("-", 2)[1]) for worker in run["workers"]],
            calls=[began - self._began_s for began in calls],
            shown_by=sorted({event["attempt"] for event in texts}),
        )


def _requests_of(batches: Iterable[Gathered]) -> Iterable[tuple[str, str]]:
    """What the requests of lines are called, and the lines' markers."""
    for batch in batches:
        for number, marker in enumerate(batch.lines, 1):
            yield request_id_of(batch.id, number), marker


async def _pages(
    http: httpx.AsyncClient, path: str, tenant: Tenant, place: str
) -> AsyncIterator[dict[str, Any]]:
    params: dict[str, Any] = {"limit": 100}
    while True:
        page = (await http.get(path, params=params, headers=tenant.headers)).raise_for_status().json()
        for each in page["data"]:
            yield each
        if not page["has_more"]:
            return
        params["after"] = page[place]


async def _log_of(http: httpx.AsyncClient, run_id: str, tenant: Tenant) -> list[dict[str, Any]]:
    where = f"/v1/runs/{run_id}/events"
    answer = await http.get(where, params={"format": "run"}, headers=tenant.headers)
    lines = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
    return [msgspec.json.decode(line) for line in lines]


async def _rows(http: httpx.AsyncClient, file_id: str, tenant: Tenant) -> list[dict[str, Any]]:
    answer = await http.get(f"/v1/files/{file_id}/content", headers=tenant.headers)
    return [msgspec.json.decode(line) for line in answer.raise_for_status().content.splitlines()]
