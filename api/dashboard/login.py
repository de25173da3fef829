"""Logging in with an API key, and out. The key itself is not kept anywhere."""

from __future__ import annotations

from typing import Any, cast

from litestar import Request, Response, get, post

from api.access import ANY_KEY, OPEN, Access
from api.browser_sessions import COOKIE, BrowserSessions
from api.dashboard.page import go, home_of, page, session_cookie
from api.errors import ApiError
from api.principal import ANYONE, principal_of
from shared.keys import KeyRecord

_NEXT = "/dashboard"
_LONGEST_KEY = 500


@get("/login", opt=OPEN)
async def login_page(request: Request[Any, Any, Any]) -> Response[Any]:
    """Ask for a key; where none is needed, go on."""
    if not await _access(request).is_on():
        return go(home_of(ANYONE))
    return page(request, "login.html", title="Log in", next=_next(request), error=None)


@post("/login", status_code=200, opt=OPEN)
async def log_in(request: Request[Any, Any, Any], browsers: BrowserSessions) -> Response[Any]:
    """Open a session for the key in the form."""
    secret = str((await request.form()).get("key", "")).strip()[:_LONGEST_KEY]
    try:
        record = await _opened(request, secret)
    except ApiError as error:
        said = {401: "That is not a key of this server."}.get(error.status, error.message)
        return page(
            request, "login.html", status=error.status, title="Log in", next=_next(request), error=said
        )
    answer = go(_next(request) or home_of(principal_of(record)))
    answer.set_cookie(session_cookie(request, await browsers.begin(record, secret)))
    return answer


@post("/logout", status_code=200, opt=ANY_KEY)
async def log_out(request: Request[Any, Any, Any], browsers: BrowserSessions) -> Response[Any]:
    """End the session."""
    await browsers.end(request.cookies.get(COOKIE, ""))
    answer = go("/dashboard/login")
    answer.delete_cookie(COOKIE, path="/")
    return answer


async def _opened(request: Request[Any, Any, Any], secret: str) -> KeyRecord:
    record = await _access(request).open(request, secret)
    if not {"read", "admin"} & set(record.scopes):
        raise ApiError(403, "A key for the dashboard needs the scope 'read' or 'admin'.")
    return record


def _next(request: Request[Any, Any, Any]) -> str:
    """Where the browser wanted to go: a page of ours, or nowhere."""
    wanted = str(request.query_params.get("next", ""))
    is_ours = wanted == _NEXT or wanted.startswith((f"{_NEXT}/", f"{_NEXT}?"))
    return wanted if is_ours and "\\" not in wanted and wanted.isprintable() else ""


def _access(request: Request[Any, Any, Any]) -> Access:
    return cast("Access", request.app.state.access)
