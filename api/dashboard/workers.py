"""The workers: where they are, what they serve, how busy they are; and a way to end one in order."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, get, post

from api.access import ADMIN
from api.dashboard.page import go, page
from api.errors import ApiError
from shared.happenings import Happening, Happenings
from shared.registry import CachedRegistry, RegistryStore


@get("/workers", opt=ADMIN)
async def workers(request: Request[Any, Any, Any], registry: CachedRegistry) -> Response[str]:
    """Show the live workers."""
    known = await registry.look(fresh=True)
    return page(request, "workers.html", title="Workers", workers=known.workers)


@post("/workers/{worker_id:str}/drain", status_code=200, opt=ADMIN)
async def drain_worker(
    worker_id: str, registry: CachedRegistry, registry_store: RegistryStore, happenings: Happenings
) -> Response[Any]:
    """Ask a worker to take no more runs, and to end when it has finished those it has."""
    known = await registry.look(fresh=True)
    if worker_id not in {worker.id for worker in known.workers} or not await registry_store.drain(worker_id):
        raise ApiError(404, "There is no such worker any more.", code="worker_not_found")
    await happenings.note(Happening(kind="drain", subject=worker_id, said="was asked to end after its runs"))
    return go("/dashboard/workers")
