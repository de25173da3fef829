"""Dead letters by their reasons: begin them anew, or forget them, one or all of a reason."""

from __future__ import annotations

from collections import Counter
from typing import Any

from litestar import Request, Response, get, post

from api.access import ADMIN
from api.dashboard.page import go, page
from api.dead_letters import Retries, discard_letter, discard_letters, list_letters, retry_letters
from api.openai.pages import After
from shared.dead_letters import DeadLetters

_PAGE = 50
_HERE = "/dashboard/dead"


@get("/dead", opt=ADMIN)
async def dead_page(
    request: Request[Any, Any, Any], dead_letters: DeadLetters, reason: str = "", after: After = ""
) -> Response[str]:
    """Show dead letters, the newest first."""
    found = await list_letters.fn(dead_letters=dead_letters, reason=reason[:200], after=after, limit=_PAGE)
    return page(
        request,
        "dead.html",
        title="Dead letters",
        letters=found.data,
        reasons=Counter(letter.reason for letter in found.data).most_common(),
        reason=reason,
        older=found.next or "",
    )


@post("/dead/{run_id:str}/retry", status_code=200, opt=ADMIN)
async def retry_dead(run_id: str, retries: Retries) -> Response[Any]:
    """Begin a dead run anew, and show the new one."""
    return go(f"/dashboard/runs/{await retries.retry(run_id)}")


@post("/dead/{run_id:str}/discard", status_code=200, opt=ADMIN)
async def discard_dead(run_id: str, dead_letters: DeadLetters) -> Response[Any]:
    """Forget a dead run."""
    await discard_letter.fn(run_id=run_id, dead_letters=dead_letters)
    return go(_HERE)


@post("/dead", status_code=200, opt=ADMIN)
async def change_dead(
    request: Request[Any, Any, Any], dead_letters: DeadLetters, retries: Retries
) -> Response[Any]:
    """Begin all of a reason anew, or forget them."""
    form = await request.form()
    reason = str(form.get("reason", ""))[:200]
    if reason and form.get("do") == "retry":
        await retry_letters.fn(reason=reason, dead_letters=dead_letters, retries=retries)
    elif reason and form.get("do") == "discard":
        await discard_letters.fn(reason=reason, dead_letters=dead_letters)
    return go(_HERE)
