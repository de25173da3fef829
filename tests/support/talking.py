"""A client that holds a conversation, and what of it stands in Redis."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx

from scripted_model import say
from tests.support.asking import PATH
from tests.support.stack import Stack


class Http:
    """A connection a request, closed with it."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=50)

    def post(self, path: str, json: Any = None) -> httpx.Response:
        return httpx.post(self.url + path, json=json, timeout=50)

    def delete(self, path: str) -> httpx.Response:
        return httpx.delete(self.url + path, timeout=50)


class Talk:
    """A client that says one message at a time."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.marker = f"marker-{uuid4().hex}"
        self.http = Http(stack.url)

    def begin(self, **fields: Any) -> str:
        answer = self.http.post("/v1/conversations", json=fields)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    def send(self, said: str, *, before: list[dict[str, str]] | None = None, **fields: Any) -> httpx.Response:
        prompt = {"role": "user", "content": f"{self.marker} {said} {say(f'answer to {said}')}"}
        body = {"model": "agent", "messages": [*(before or []), prompt], **fields}
        return self.http.post(PATH, json=body)

    def ask(self, said: str, *, before: list[dict[str, str]] | None = None, **fields: Any) -> dict[str, Any]:
        answer = self.send(said, before=before, **fields)
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        assert body["choices"][0]["message"]["content"] == f"answer to {said}"
        return body

    def saw(self) -> list[str]:
        """What the model's newest call with the marker held, by the words `ask` was given."""
        newest = self.stack.model.calls(self.marker)[-1]
        return [_word("".join(texts), self.marker) for _, texts in newest.said]

    def get(self, path: str) -> dict[str, Any]:
        answer = self.http.get(path)
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body


def _word(said: str, marker: str) -> str:
    return said.removeprefix(marker).split()[0] if said.startswith(marker) else said


def names_with(stack: Stack, part: str) -> list[bytes]:
    with stack.redis_client() as client:
        return [name for name in client.scan_iter() if part.encode() in name]
