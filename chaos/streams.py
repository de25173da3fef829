"""Streams that are read, broken off, and picked up at another API: what their frames say."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx

from chaos.reach import AGAIN_S, Reach, frames_of

Take = Callable[[Reach, str], bool]
"""Takes the data of a frame in; whether it was the last."""


async def read(reach: Reach, answer: httpx.Response, take: Take, break_at: int | None) -> bool:
    """Read a stream to its end or until so many texts have come; whether the end was told."""
    seen = reach.seen
    try:
        async for frame_id, data in frames_of(answer):
            is_over = take(reach, data)
            if frame_id:
                seen.ids.append(frame_id)
            if is_over:
                return True
            if break_at is not None and len(seen.texts) >= break_at:
                return False
    except httpx.HTTPError:
        return False
    finally:
        await answer.aclose()
    return False


async def pick_up_run(reach: Reach) -> None:
    """Go on with a chat behind the last frame that came, by the parameter or the header, until the end."""
    path = f"/v1/runs/{reach.seen.run_id}/events"
    while True:
        place = reach.seen.ids[-1:]
        if reach.rng.random() < 0.5:
            how: dict[str, Any] = {"headers": {"Last-Event-ID": place[0]} if place else {}}
        else:
            how = {"params": {"after": place[0]} if place else {}}
        if await _go_on(reach, path, chat, how):
            return


async def pick_up_response(reach: Reach) -> None:
    """The same for a response in the background."""
    path = f"/v1/responses/{reach.seen.response_id}"
    while True:
        after = {"starting_after": reach.seen.ids[-1]} if reach.seen.ids else {}
        if await _go_on(reach, path, response, {"params": {"stream": "true", **after}}):
            return


async def _go_on(reach: Reach, path: str, take: Take, how: dict[str, Any]) -> bool:
    """Read on at another API than before; whether there is no more to read."""
    reach.turn_away()
    answer = await reach.send("GET", path, is_retry=True, **how)
    if answer is None:
        return True
    reach.seen.resumed += 1
    if await read(reach, answer, take, None):
        return True
    await asyncio.sleep(AGAIN_S)
    return False


def chat(reach: Reach, data: str) -> bool:
    """Take in a chunk of a chat completion."""
    seen = reach.seen
    if data == "[DONE]":
        seen.outcome = "completed"
        return True
    chunk = json.loads(data)
    if "error" in chunk:
        seen.code = str(chunk["error"].get("code"))
        seen.outcome = "cancelled" if seen.code == "run_cancelled" else "failed"
        return True
    for choice in chunk["choices"]:
        reach.said(choice["delta"].get("content") or "")
    return False


def response(reach: Reach, data: str) -> bool:
    """Take in an event of a response."""
    seen, event = reach.seen, json.loads(data)
    match event["type"]:
        case "response.created":
            seen.response_id = event["response"]["id"]
        case "response.output_text.delta":
            reach.said(event["delta"])
        case "response.completed":
            seen.outcome = "completed"
            return True
        case "response.failed" | "response.incomplete":
            seen.outcome = event["response"]["status"]
            seen.code = (event["response"].get("error") or {}).get("code", "")
            return True
        case "error":
            seen.outcome, seen.code = "failed", str(event.get("code"))
            return True
    return False
