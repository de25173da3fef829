from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from scripted_model import script, serve, stall, text


def endless() -> dict[str, Any]:
    prompt = f"{script(text('x'), stall(60))}"
    return {"model": "m", "messages": [{"role": "user", "content": prompt}], "stream": True}


async def test_leaving_serve_cuts_open_streams_at_once() -> None:
    async with AsyncExitStack() as serving, httpx.AsyncClient(timeout=10) as http:
        url = await serving.enter_async_context(serve())
        async with http.stream("POST", f"{url}/v1/messages", json=endless()) as reply:
            began = time.monotonic()
            await serving.aclose()
            assert time.monotonic() - began < 0.5
            with pytest.raises(httpx.TransportError):
                await reply.aread()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_command_says_its_url_and_ends_on_a_signal(number: signal.Signals) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "scripted_model",
        "--port",
        "0",
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        url = json.loads(await process.stdout.readline())["url"]
        async with (
            httpx.AsyncClient(base_url=url, timeout=10) as http,
            http.stream("POST", "/v1/messages", json=endless()) as reply,
        ):
            began = time.monotonic()
            process.send_signal(number)
            with pytest.raises(httpx.TransportError):
                await reply.aread()
            assert await process.wait() == 0
            assert time.monotonic() - began < 2
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_port_that_is_taken_is_said_in_one_line() -> None:
    async with serve() as url:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "scripted_model",
            "--port",
            url.rsplit(":")[-1],
            stderr=asyncio.subprocess.PIPE,
        )
        _, complaint = await process.communicate()
    assert process.returncode == 1
    assert complaint.count(b"\n") == 1
    assert b"address already in use" in complaint
