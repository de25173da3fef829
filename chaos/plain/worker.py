"""The plain gateway's worker: a job runs the CLI and publishes each piece of text."""

from __future__ import annotations

import asyncio
import json
import os
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from typing import Any

from arq import run_worker
from arq.connections import RedisSettings

TEXT, END, ERROR = "text", "end", "error"
_LINE_BYTES = 16 * 1024 * 1024


async def answer(context: dict[str, Any], run_id: str, prompt: str) -> str:
    """Run the CLI, publish what it says, and give all of it."""
    redis = context["redis"]
    texts: list[str] = []
    process = await asyncio.create_subprocess_exec(
        os.environ["CLAUDE"],
        *("-p", "--output-format", "stream-json", "--include-partial-messages", "--verbose"),
        stdin=PIPE,
        stdout=PIPE,
        limit=_LINE_BYTES,
        cwd=os.environ["AGENT"],
    )
    try:
        async for text in _texts(process, prompt):
            texts.append(text)
            await redis.publish(run_id, json.dumps([TEXT, text]))
        code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    await redis.publish(run_id, json.dumps([ERROR if code else END, f"The CLI exited with {code}."]))
    if code:
        raise RuntimeError(f"The CLI exited with {code}.")
    return "".join(texts)


async def _texts(process: Process, prompt: str) -> AsyncIterator[str]:
    if process.stdin is None or process.stdout is None:
        return
    process.stdin.write(prompt.encode())
    process.stdin.close()
    async for line in process.stdout:
        event = json.loads(line)
        if event["type"] == "stream_event" and event["event"]["type"] == "content_block_delta":
            yield event["event"]["delta"].get("text", "")


class WorkerSettings:
    """As ARQ's own documents have it."""

    functions = (answer,)
    max_jobs = int(os.environ.get("SLOTS", "6"))
    redis_settings = RedisSettings.from_dsn(os.environ.get("REDIS_URL", "redis://127.0.0.1"))


if __name__ == "__main__":
    run_worker(WorkerSettings)  # type: ignore[arg-type]
