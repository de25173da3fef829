"""``python -m scripted_model --port N``: serve until SIGTERM or SIGINT, then end at once."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys

import uvloop

from scripted_model.serving import serve


async def serve_until_signal(host: str, port: int) -> None:
    """Print ``{"url": …}`` on one line once listening; return on SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with serve(host=host, port=port) as url:
        sys.stdout.write(json.dumps({"url": url}) + "\n")
        sys.stdout.flush()
        await stop.wait()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(
        prog="scripted_model", description="A scripted Messages API on loopback."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 chooses a free one")
    arguments = parser.parse_args()
    try:
        uvloop.run(serve_until_signal(arguments.host, arguments.port))
    except OSError as error:
        sys.exit(f"scripted_model: {error}")


if __name__ == "__main__":
    main()
