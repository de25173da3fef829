"""A batch with a line that fails."""

from __future__ import annotations

import json

import httpx

from scripted_model import say

_URL = "/v1/chat/completions"


async def a_batch(client: httpx.AsyncClient, custom_id: str = "good") -> str:
    """Have a file of two lines executed; gives the batch's id."""
    lines = [
        {"custom_id": name, "method": "POST", "url": _URL, "body": {"model": model, "messages": messages}}
        for name, model in ((custom_id, "agent"), (f"{custom_id}-bad", "nobody"))
        if (messages := [{"role": "user", "content": str(say("Done."))}])
    ]
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    files = {"file": ("lines.jsonl", content)}
    file = (await client.post("/v1/files", data={"purpose": "batch"}, files=files)).json()
    wish = {"input_file_id": file["id"], "endpoint": _URL, "completion_window": "24h"}
    return str((await client.post("/v1/batches", json=wish)).json()["id"])
