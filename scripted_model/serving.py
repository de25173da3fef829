"""Puts the application on a port, for a process of its own or within a test's."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from scripted_model.server import ScriptedModel, create_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KEEP_ALIVE_S = 600
"""Longer than any client keeps an idle connection: it must not meet one that is just being closed."""

FAREWELL_S = 2.0
"""For replies to notice that their connection is gone; they need a turn of the loop."""


class CuttableProtocol(HttpToolsProtocol):
    """uvicorn's HTTP, with a way for the application to close the connection under a reply."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Hand the transport's close to every request on the connection."""
        super().connection_made(transport)
        self.access_log = False
        self.app_state = {**self.app_state, "close_connection": transport.close}


@asynccontextmanager
async def serve(
    app: ScriptedModel | None = None, *, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[str]:
    """Listen within this event loop and yield the base URL; on exit, open replies are cut.

    Only uvicorn's protocol is used and not its server, which would take the process's signals and needs up to
    100 ms to stop. Port 0 chooses a free one. Raises OSError when the port is taken.
    """
    config = Config(
        app or create_app(), log_config=None, lifespan="off", ws="none", timeout_keep_alive=KEEP_ALIVE_S
    )
    state = ServerState()
    listener = await asyncio.get_running_loop().create_server(
        lambda: CuttableProtocol(config=config, server_state=state, app_state={}), host, port, backlog=1024
    )
    try:
        yield f"http://{host}:{listener.sockets[0].getsockname()[1]}"
    finally:
        listener.close()
        for connection in list(state.connections):
            connection.transport.abort()
        if state.tasks:
            await asyncio.wait(state.tasks, timeout=FAREWELL_S)
        await listener.wait_closed()
