"""What stands before the routes, outermost first: a request's id, safe headers, and no foreign pages."""

from __future__ import annotations

from litestar.types import ASGIApp

from api.crowds import refuse
from api.origin import without_foreign_pages
from api.request_ids import with_request_id
from api.safe_headers import with_safe_headers
from shared.settings import Settings


def fronted(app: ASGIApp, settings: Settings) -> ASGIApp:
    """Wrap the routes in all that every request passes."""
    return with_request_id(with_safe_headers(without_foreign_pages(app, settings), settings))


def turned_away(settings: Settings) -> ASGIApp:
    """What answers an address that has too many connections, in the words of any other answer."""
    return with_request_id(with_safe_headers(refuse, settings))
