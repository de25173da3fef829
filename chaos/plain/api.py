"""The plain gateway's API: enqueue a job, pass on what its channel says."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import uvicorn
from arq import create_pool
from arq.connections import ArqRedis, RedisSettings
from arq.jobs import Job, JobStatus
from litestar import Litestar, Request, Response, get, post
from litestar.response import Stream
from redis.asyncio.client import PubSub

from chaos.plain.worker import END, ERROR

_RUN_ID = "x-backline-run-id"
Asked = Request[Any, Any, Any]


@get("/ready")
async def ready(request: Asked) -> dict[str, str]:
    """Answer when Redis does."""
    await request.app.state.redis.ping()
    return {"status": "ready"}


@post("/v1/chat/completions", status_code=200)
async def complete(request: Asked, data: dict[str, Any]) -> Response[Any]:
    """Enqueue, and stream or gather."""
    redis: ArqRedis = request.app.state.redis
    run_id = uuid4().hex
    channel = redis.pubsub()
    await channel.subscribe(run_id)
    await redis.enqueue_job("answer", run_id, data["messages"][-1]["content"], _job_id=run_id)
    if data.get("stream"):
        return Stream(_frames(channel), media_type="text/event-stream", headers={_RUN_ID: run_id})
    texts = [text async for kind, text in _said(channel) if kind != END]
    return Response({"choices": [{"message": {"content": "".join(texts)}}]}, headers={_RUN_ID: run_id})


@post("/v1/responses", status_code=200)
async def respond(request: Asked, data: dict[str, Any]) -> Response[Any]:
    """Enqueue, to be polled."""
    run_id = uuid4().hex
    await request.app.state.redis.enqueue_job("answer", run_id, data["input"], _job_id=run_id)
    return Response({"id": run_id, "status": "queued"}, headers={_RUN_ID: run_id})


@get("/v1/responses/{run_id:str}")
async def look(request: Asked, run_id: str) -> dict[str, Any]:
    """Say how a job stands, by what ARQ keeps of it."""
    job = Job(run_id, request.app.state.redis)
    if await job.status() is not JobStatus.complete:
        return {"id": run_id, "status": "in_progress"}
    ended = await job.result_info()
    if ended is None or not ended.success:
        return {"id": run_id, "status": "failed", "output": [], "error": {"code": "failed"}}
    return {"id": run_id, "status": "completed", "output": [{"content": [{"text": ended.result}]}]}


async def _said(channel: PubSub) -> AsyncIterator[tuple[str, str]]:
    try:
        async for message in channel.listen():
            if message["type"] == "message":
                kind, text = json.loads(message["data"])
                yield kind, text
                if kind in {END, ERROR}:
                    return
    finally:
        await channel.aclose()  # type: ignore[no-untyped-call]


async def _frames(channel: PubSub) -> AsyncIterator[str]:
    async for kind, text in _said(channel):
        if kind == ERROR:
            yield f"data: {json.dumps({'error': {'code': 'failed', 'message': text}})}\n\n"
        elif kind == END:
            yield "data: [DONE]\n\n"
        else:
            yield f"data: {json.dumps({'choices': [{'delta': {'content': text}}]})}\n\n"


@asynccontextmanager
async def _connected(app: Litestar) -> AsyncIterator[None]:
    app.state.redis = await create_pool(RedisSettings.from_dsn(os.environ["REDIS_URL"]))
    yield
    await app.state.redis.aclose()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    app = Litestar([ready, complete, respond, look], lifespan=[_connected])
    uvicorn.run(app, port=parser.parse_args().port, log_level="warning", timeout_graceful_shutdown=5)
