"""A turn, asked for in each of the ways there are, or several in a row."""

from __future__ import annotations

import asyncio
from typing import Any

from chaos.prompts import prompt_of
from chaos.reach import AGAIN_S, Reach
from chaos.streams import chat, pick_up_response, pick_up_run, read, response

_ENDED = {"completed", "failed", "cancelled", "incomplete"}
_CHAT = "/v1/chat/completions"
_TURNS = (3, 8)


async def ask(reach: Reach, model: str) -> None:
    """Ask as `reach.seen.kind` says, and follow it to its end."""
    match reach.seen.kind:
        case "stream":
            await _stream(reach, model)
        case "leave":
            await _leave(reach, model)
        case "resumed":
            await _resumed(reach, model)
        case "whole":
            await _whole(reach, model)
        case "background":
            await _background(reach, model)
        case "poll":
            await _poll(reach, model, cancel_after_s=None)
        case "cancel":
            await _poll(reach, model, cancel_after_s=reach.rng.random() * 3)
        case "talk":
            await _talk(reach, model)


async def _stream(reach: Reach, model: str, **fields: Any) -> None:
    answer = await reach.send("POST", _CHAT, _chat(reach, model, stream=True, **fields))
    if answer is not None and not await read(reach, answer, chat, None):
        reach.seen.outcome = "broken"


async def _talk(reach: Reach, model: str) -> None:
    """Several turns of a conversation, each with all that was said before it, as plain clients do."""
    messages: list[dict[str, str]] = []
    for _ in range(reach.rng.randint(*_TURNS)):
        messages.append({"role": "user", "content": prompt_of(reach.seen, reach.rng)})
        heard = len(reach.seen.texts)
        await _stream(reach, model, messages=messages)
        if reach.seen.outcome != "completed":
            return
        messages.append({"role": "assistant", "content": "".join(reach.seen.texts[heard:])})


async def _leave(reach: Reach, model: str) -> None:
    """Hang up in the middle."""
    leave_at = reach.rng.randint(0, reach.seen.tokens)
    answer = await reach.send("POST", _CHAT, _chat(reach, model, stream=True))
    if answer is not None and not await read(reach, answer, chat, leave_at):
        reach.seen.outcome = "left"


async def _resumed(reach: Reach, model: str) -> None:
    """Break off, and come back elsewhere."""
    body = _chat(reach, model, stream=True, backline={"on_disconnect": "continue"})
    break_at = reach.rng.randint(0, 2 * reach.seen.tokens)
    answer = await reach.send("POST", _CHAT, body)
    if answer is None or await read(reach, answer, chat, break_at):
        return
    if reach.seen.run_id:
        await pick_up_run(reach)
    else:
        reach.seen.outcome = "broken"


async def _whole(reach: Reach, model: str) -> None:
    said = await reach.once("POST", _CHAT, _chat(reach, model))
    if said is not None:
        reach.said(said["choices"][0]["message"]["content"] or "")
        reach.seen.outcome = "completed"


async def _background(reach: Reach, model: str) -> None:
    """A response in the background that is streamed, broken off, and picked up elsewhere."""
    break_at = reach.rng.randint(0, 2 * reach.seen.tokens)
    answer = await reach.send("POST", "/v1/responses", _response(reach, model, stream=True))
    if answer is None or await read(reach, answer, response, break_at):
        return
    if reach.seen.response_id:
        await pick_up_response(reach)
    else:
        reach.seen.outcome = "broken"


async def _poll(reach: Reach, model: str, cancel_after_s: float | None) -> None:
    """A response in the background that is looked at from time to time, at one API and the other."""
    made = await reach.once("POST", "/v1/responses", _response(reach, model))
    if made is None:
        return
    reach.seen.response_id = made["id"]
    where = f"/v1/responses/{made['id']}"
    if cancel_after_s is not None:
        await asyncio.sleep(cancel_after_s)
        await reach.json("POST", f"{where}/cancel")
    while True:
        reach.turn_away()
        said = await reach.json("GET", where)
        if said is None:
            return
        if said["status"] in _ENDED:
            _take(reach, said)
            return
        await asyncio.sleep(AGAIN_S)


def _take(reach: Reach, said: dict[str, Any]) -> None:
    for item in said["output"]:
        for part in item.get("content") or ():
            reach.said(part.get("text", ""))
    reach.seen.outcome = said["status"]
    reach.seen.code = (said.get("error") or {}).get("code", "")


def _chat(reach: Reach, model: str, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": prompt_of(reach.seen, reach.rng)}]
    return {"model": model, "messages": messages} | fields


def _response(reach: Reach, model: str, **fields: Any) -> dict[str, Any]:
    return {"model": model, "input": prompt_of(reach.seen, reach.rng), "background": True, **fields}
