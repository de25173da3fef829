"""What a tenant gets that asks for another's: nothing, whatever is broken."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import httpx

from chaos.history import Gathered, Seen
from chaos.reach import Tenant


async def pry(
    http: httpx.AsyncClient, url: str, stranger: Tenant, seen: Seen, batch: Gathered | None
) -> None:
    """Ask an API for all that belongs to a request, in a stranger's name, and note what is given."""
    for method, path in _doors(seen, batch):
        with suppress(httpx.HTTPError):
            answer = await http.request(method, url + path, headers=stranger.headers)
            if answer.status_code < 400:
                seen.foreign.append(f"{method} {path}: {answer.status_code}")


def _doors(seen: Seen, batch: Gathered | None) -> Iterator[tuple[str, str]]:
    if seen.run_id:
        yield "GET", f"/v1/runs/{seen.run_id}"
        yield "GET", f"/v1/runs/{seen.run_id}/events"
        yield "POST", f"/v1/runs/{seen.run_id}/cancel"
    if seen.response_id:
        yield "GET", f"/v1/responses/{seen.response_id}"
        yield "POST", f"/v1/responses/{seen.response_id}/cancel"
        yield "DELETE", f"/v1/responses/{seen.response_id}"
    if batch is not None and batch.id:
        yield "GET", f"/v1/batches/{batch.id}"
        yield "POST", f"/v1/batches/{batch.id}/cancel"
