"""Work for a client that may hang up before there is anything to say."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from litestar import Request

from api.errors import ClientGoneError
from shared.tasks import end_tasks

_T = TypeVar("_T")


async def unless_gone(request: Request[Any, Any, Any], work: Coroutine[Any, Any, _T]) -> _T:
    """Do `work` unless the client hangs up first; raises `ClientGoneError` when it does.

    Litestar ends a streaming response at a disconnect, but not a handler that still prepares one.
    """
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_wait_until_gone(request))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGoneError
        return working.result()
    finally:
        await end_tasks([working, gone])


async def _wait_until_gone(request: Request[Any, Any, Any]) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
