"""`python relay.py ADDRESS PORT`: who connects to the socket that is its standard input talks to there.

A socket stays in the network that it was made in: so clients of one network speak in another.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from contextlib import suppress

_CHUNK = 64 * 1024


async def _serve(address: str, port: int) -> None:
    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there_writer = await asyncio.open_connection(address, port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pass(reader, there_writer), _pass(there_reader, writer))

    server = await asyncio.start_server(meet, sock=socket.socket(fileno=sys.stdin.fileno()))
    await server.serve_forever()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
    writer.close()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2])))
