"""A small OpenAI-compatible service: it says what it is told to, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Chunk = dict[str, Any]
USAGE = {"prompt_tokens": 11, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}


def says(*pieces: str, finish: str = "stop") -> list[Chunk]:
    """The chunks of an answer in these pieces."""
    return [
        *({"choices": [{"delta": {"content": piece}}]} for piece in pieces),
        {"choices": [{"delta": {}, "finish_reason": finish}]},
        {"choices": [], "usage": USAGE},
    ]


def calls(name: str, *pieces: str) -> list[Chunk]:
    """The chunks of a call of a function, its arguments in these pieces."""
    head = {"index": 0, "id": "call_up1", "type": "function", "function": {"name": name, "arguments": ""}}
    return [
        {"choices": [{"delta": {"tool_calls": [head]}}]},
        *(
            {"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}}]}
            for piece in pieces
        ),
        {"choices": [{"delta": {}, "finish_reason": "tool_calls"}]},
        {"choices": [], "usage": USAGE},
    ]


class Upstream:
    """The service. `status` other than 200 is an error; `is_cut` ends answers before their last chunks."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/v1"
        self.status = 200
        self.chunks: Sequence[Chunk] = says("from ", "upstream")
        self.is_cut = False
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []

    def asked(self, marker: str) -> list[dict[str, Any]]:
        """The requests that hold `marker`."""
        return [body for body in self.requests if marker in json.dumps(body)]

    def setting(self, **fields: Any) -> dict[str, Any]:
        """A fallback that leads here."""
        return {"url": self.url, "key": "KEY-OF-THE-UPSTREAM", "name": "spare", "model": "gpt-up", **fields}


@contextmanager
def running_upstream() -> Iterator[Upstream]:
    """A service on a port of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            upstream.requests.append(body)
            upstream.keys.append(self.headers["authorization"])
            self.send_response(upstream.status)
            if upstream.status != 200 or self.path != "/v1/chat/completions":
                self.end_headers()
                return
            self.send_header("content-type", "text/event-stream; charset=utf-8")
            self.end_headers()
            chunks = upstream.chunks[:-2] if upstream.is_cut else upstream.chunks
            for chunk in chunks:
                self.wfile.write(b"data: " + json.dumps({"model": "gpt-up-1", **chunk}).encode() + b"\n\n")
                self.wfile.flush()
            if not upstream.is_cut:
                self.wfile.write(b"data: [DONE]\n\n")

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    upstream = Upstream(server.server_port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield upstream
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
