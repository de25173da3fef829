"""The ASGI application: Anthropic's endpoints, and a door through which tests read what came in."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import msgspec

from scripted_model import wire
from scripted_model.directive import BadDirectiveError, ModelRequest, choose_call
from scripted_model.play import FailureCounts, Player, ScriptedCutError, ScriptedFailureError
from scripted_model.record import Received, RequestLog

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, HTTPScope, Scope

    from scripted_model.language import Call

CONTROL_PATH = "/_control/requests"
BYTES_PER_TOKEN = 4
"""Roughly, for English and JSON: good enough for numbers that only have to look real."""


class Reply:
    """The response to one request: events or JSON out through ASGI's ``send``."""

    def __init__(self, send: ASGISendCallable) -> None:
        self._send = send
        self.has_begun = False

    async def json(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        """Answer at once and whole."""
        content = msgspec.json.encode(body)
        await self._begin(
            status,
            {"content-type": "application/json", "content-length": f"{len(content)}"} | (headers or {}),
        )
        await self._write(content, more=False)

    async def event(self, event: wire.Event) -> None:
        """Send one event of a stream in one write."""
        if not self.has_begun:
            await self._begin(
                200, {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
            )
        await self._write(wire.sse(event), more=True)

    async def end(self) -> None:
        """End a stream."""
        await self._write(b"", more=False)

    async def failure(self, failed: ScriptedFailureError) -> None:
        """Answer with the script's error, in the way that is still open."""
        step = failed.step
        body = wire.error(step.status, step.error, step.message)
        if self.has_begun:
            await self.event(body)
            await self.end()
        else:
            await self.json(step.status, body, step.headers)

    async def _begin(self, status: int, headers: dict[str, str]) -> None:
        self.has_begun = True
        headers = {"request-id": wire.new_id("req"), **headers}
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": raw, "trailers": False})

    async def _write(self, body: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": more})


class ScriptedModel:
    """The application. It keeps requests and the counts of failures; replies come from the prompts."""

    def __init__(self) -> None:
        self.requests = RequestLog()
        self._failures = FailureCounts()

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Serve one HTTP request."""
        if scope["type"] != "http":
            return
        body = await _read_body(receive)
        if body is None:
            return
        reply = Reply(send)
        if scope["path"] == CONTROL_PATH:
            await self._control(scope, reply)
            return
        received = self.requests.add(scope, body)
        match scope["method"], scope["path"]:
            case "POST", "/v1/messages":
                await self._while_connected(self._message(received, scope, reply), received, receive)
            case "POST", "/v1/messages/count_tokens":
                await reply.json(200, {"input_tokens": _estimate(body)})
            case "GET" | "HEAD", _:
                await reply.json(200, {})
            case _:
                await reply.json(404, wire.error(404, None, "no such endpoint"))
        received.end("completed")

    async def _while_connected(
        self, replying: Coroutine[Any, Any, None], received: Received, receive: ASGIReceiveCallable
    ) -> None:
        """Reply until done or until the client is gone, whichever comes first."""
        async with asyncio.TaskGroup() as tasks:
            reply = tasks.create_task(replying)
            gone = tasks.create_task(_disconnected(receive))
            await asyncio.wait({reply, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not reply.done():
                received.end("disconnected")
            reply.cancel()
            gone.cancel()

    async def _message(self, received: Received, scope: HTTPScope, reply: Reply) -> None:
        try:
            request = msgspec.json.decode(received.body, type=ModelRequest)
            await self._play(choose_call(request), request, reply, estimated_input=_estimate(received.body))
        except (msgspec.DecodeError, BadDirectiveError) as error:
            await reply.json(400, wire.error(400, None, str(error)))
        except ScriptedFailureError as failed:
            await reply.failure(failed)
        except ScriptedCutError:
            received.end("cut")
            _close_connection(scope)
            await asyncio.Event().wait()  # until the loss of the connection is noticed and ends this task
        # Noted in the very step that wrote the last byte: who has read it all may ask at once.
        received.end("completed")

    async def _play(self, call: Call, request: ModelRequest, reply: Reply, *, estimated_input: int) -> None:
        collected: list[wire.Event] = []

        async def collect(event: wire.Event) -> None:
            collected.append(event)

        emit = reply.event if request.stream else collect
        player = Player(emit, self._failures, model=request.model, estimated_input=estimated_input)
        await player.play(call)
        if request.stream:
            await reply.end()
        else:
            await reply.json(200, wire.fold(collected))

    async def _control(self, scope: HTTPScope, reply: Reply) -> None:
        match scope["method"]:
            case "GET":
                asked = parse_qs(scope["query_string"].decode())
                found = self.requests.matching(asked.get("marker", [""])[0])
                await reply.json(200, [received.view(find=asked.get("find", [""])[0]) for received in found])
            case "DELETE":
                self.requests.clear()
                await reply.json(200, {})
            case _:
                await reply.json(405, wire.error(405, None, "GET or DELETE"))


def create_app() -> ScriptedModel:
    """Make a model that has received nothing yet."""
    return ScriptedModel()


async def _read_body(receive: ASGIReceiveCallable) -> bytes | None:
    """Read the whole body; None when the client left before its end."""
    chunks: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        chunks.append(message["body"])
        if not message["more_body"]:
            return b"".join(chunks)


async def _disconnected(receive: ASGIReceiveCallable) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _close_connection(scope: HTTPScope) -> None:
    # ASGI has no word for it: `serving` puts the transport's close into every scope's state.
    scope["state"]["close_connection"]()


def _estimate(body: bytes) -> int:
    return len(body) // BYTES_PER_TOKEN + 1
