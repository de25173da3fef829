"""How a page is made: its template, its headers, and what every page has of who looks at it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from litestar import MediaType, Request, Response
from litestar.datastructures import Cookie
from litestar.response import Redirect

from api.access import principal_in
from api.browser_sessions import COOKIE, LIFE_S, new_cookie, token_of
from api.dashboard.files import address_of
from api.errors import ApiError
from api.principal import Principal

HEADERS: Final = {
    "cache-control": "no-store",
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:;"
        " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
_HOME: Final = "/dashboard"
_NAV: Final = (
    ("", "Overview", "admin"),
    ("/playground", "Playground", "run"),
    ("/runs", "Runs", "read"),
    ("/workers", "Workers", "admin"),
    ("/agents", "Agents", "read"),
    ("/sessions", "Sessions", "read"),
    ("/batches", "Batches", "read"),
    ("/dead", "Dead letters", "admin"),
    ("/keys", "Keys and usage", "admin"),
)
FRAGMENT: Final = "x-fragment"
"""The header of a request that wants only a page's main part."""

_Request = Request[Any, Any, Any]


def page(request: _Request, template: str, *, status: int = 200, **context: object) -> Response[str]:
    """A page of `template`, whose own words are in `context`; with the header `x-fragment` its main part."""
    cookie = request.cookies.get(COOKIE)
    set_cookies = []
    if cookie is None:  # nobody logs in where no key is needed, but changes want a token all the same
        cookie = new_cookie()
        set_cookies.append(session_cookie(request, cookie))
    principal = _principal(request)
    path = request.url.path.removeprefix(_HOME).rstrip("/")
    html = _templates.get_template(template).render(
        base="fragment.html" if FRAGMENT in request.headers else "base.html",
        csrf=token_of(cookie),
        principal=principal,
        nav=[
            (_HOME + where, name, path == where or (bool(where) and path.startswith(where + "/")))
            for where, name, need in _NAV
            if principal is not None and need in principal.scopes
        ],
        **context,
    )
    return Response(html, status_code=status, media_type=MediaType.HTML, headers=HEADERS, cookies=set_cookies)


def session_cookie(request: _Request, value: str) -> Cookie:
    """The cookie that only this origin's requests bring, and no script reads."""
    is_secure = request.url.scheme == "https"
    return Cookie(
        key=COOKIE,
        value=value,
        path="/",
        httponly=True,
        samesite="strict",
        secure=is_secure,
        max_age=LIFE_S,
    )


def go(path: str, **query: str) -> Redirect:
    """Send the browser to another page, after a change or to the log-in."""
    return Redirect(f"{path}?{urlencode(query)}" if query else path, status_code=303, headers=HEADERS)


def error_page(request: _Request, error: ApiError) -> Response[Any]:
    """An error as a page; who is not logged in is sent to the log-in."""
    if error.status == 401 and FRAGMENT not in request.headers and "text/html" in _accepted(request):
        asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return go(f"{_HOME}/login", **({"next": asked} if request.method == "GET" else {}))
    answer = page(request, "error.html", status=error.status, title="Not possible", error=error)
    answer.headers.update(error.headers)
    return answer


def home_of(principal: Principal) -> str:
    """The first page that a principal may see."""
    return next((_HOME + where for where, _, need in _NAV if need in principal.scopes), f"{_HOME}/login")


def _accepted(request: _Request) -> str:
    return request.headers.get("accept", "text/html")


def _principal(request: _Request) -> Principal | None:
    try:
        return principal_in(request.state)
    except AttributeError:
        return None


def _when(seconds: float | None) -> str:
    """An instant for `<time datetime>`; `live.js` says it in the reader's own clock."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if seconds else ""


def _shown(iso: str) -> str:
    return iso.replace("T", " ").replace("Z", " UTC")


def _usd(value: float) -> str:
    return f"${value:,.2f}" if value >= 1 or value == 0 else f"${value:.4f}"


def _secs(seconds: float | None) -> str:
    if seconds is None:
        return "not yet"
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.globals["file"] = address_of
_templates.filters.update(when=_when, shown=_shown, usd=_usd, bytes=_bytes, secs=_secs)
