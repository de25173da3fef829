"""Batches: files of requests that are handed in, watched to their end, and read back line by line."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx

from chaos.history import Gathered, Seen
from chaos.prompts import prompt_of
from chaos.reach import AGAIN_S, Reach

_CHAT = "/v1/chat/completions"
_OVER = {"completed", "failed", "expired", "cancelled"}


async def ask(reach: Reach, model: str, batch: Gathered, lines: list[Seen]) -> None:
    """Hand in a file with these lines, wait for its end, and note what stands in its files."""
    rows = [_line(each, prompt_of(each, reach.rng), model) for each in lines]
    content = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    sent = {"files": {"file": ("in.jsonl", content)}, "data": {"purpose": "batch"}}
    file = await reach.once("POST", "/v1/files", **sent)
    if file is None:
        return
    wish = {"input_file_id": file["id"], "endpoint": _CHAT, "completion_window": "24h"}
    made = await reach.once("POST", "/v1/batches", {**wish, "metadata": {"marker": batch.marker}})
    if made is None:
        return
    batch.id = made["id"]
    while (said := await reach.json("GET", f"/v1/batches/{batch.id}")) is not None:
        reach.turn_away()
        if said["status"] in _OVER:
            await _gather(reach, batch, said, {each.marker: each for each in lines})
            return
        await asyncio.sleep(AGAIN_S)


def note(batch: Gathered, said: dict[str, Any]) -> None:
    """Take over how a batch stands."""
    batch.id, batch.status, counts = said["id"], said["status"], said["request_counts"]
    batch.total, batch.completed, batch.failed = counts["total"], counts["completed"], counts["failed"]


def take_rows(
    batch: Gathered, outputs: list[dict[str, Any]], errors: list[dict[str, Any]], lines: dict[str, Seen]
) -> None:
    """Take over what stands in a batch's files, and what they say of each line."""
    batch.outputs = [row["custom_id"] for row in outputs]
    batch.errors = [row["custom_id"] for row in errors]
    for row in outputs:
        if (seen := lines.get(row["custom_id"])) is not None:
            seen.texts = [row["response"]["body"]["choices"][0]["message"]["content"] or ""]
            seen.outcome, seen.code = "completed", ""
    for row in errors:
        if (seen := lines.get(row["custom_id"])) is not None:
            seen.outcome = "failed"
            seen.code = str((row["error"] or row["response"]["body"]["error"])["code"])


async def _gather(reach: Reach, batch: Gathered, said: dict[str, Any], lines: dict[str, Seen]) -> None:
    note(batch, said)
    outputs = await _rows(reach, said["output_file_id"])
    errors = await _rows(reach, said["error_file_id"])
    if outputs is None or errors is None:
        return
    take_rows(batch, outputs, errors, lines)
    now = reach.clock()
    for each in lines.values():
        each.ended = now
    reach.seen.outcome = said["status"]


async def _rows(reach: Reach, file_id: str | None) -> list[dict[str, Any]] | None:
    """The lines of a file of results; `None` when there is no such file although there should be."""
    if file_id is None:
        return []
    while True:
        answer = await reach.send("GET", f"/v1/files/{file_id}/content", is_retry=True)
        if answer is None:
            return None
        try:
            return [json.loads(line) for line in (await answer.aread()).splitlines()]
        except (httpx.HTTPError, ValueError):
            await asyncio.sleep(AGAIN_S)
        finally:
            await answer.aclose()


def _line(seen: Seen, prompt: str, model: str) -> dict[str, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": prompt}]}
    return {"custom_id": seen.marker, "method": "POST", "url": _CHAT, "body": body}
