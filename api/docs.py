"""`/openapi.json` and the page at `/docs` that shows it, without a network."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
from litestar import MediaType, Request, Response, Router, get
from litestar.datastructures import CacheControlHeader
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.response import Redirect
from litestar.static_files import create_static_files_router

from api.access import OPEN
from api.admin_keys import RotateKey
from api.anthropic.errors import AnthropicError
from api.anthropic.message import (
    BlockDelta,
    BlockStart,
    BlockStop,
    Message,
    MessageDelta,
    MessageStart,
    MessageStop,
    Ping,
)
from api.anthropic.wire import CountRequest, MessagesRequest
from api.openai.completion import ChatCompletion, ChatCompletionChunk, ErrorEnvelope
from api.openai.conversations import CreateConversation, UpdateConversation
from api.openai.responses.events import StreamEvent
from api.openai.responses.objects import Response as ResponseObject
from api.openai.responses.wire import ResponsesRequest
from api.openai.text_wire import CompletionRequest, TextCompletion
from api.openai.wire import ChatRequest
from api.sessions import CreateSession
from api.usage import Reset
from shared.keys import Grant

_STATIC = Path(__file__).parent / "static"
_PAGE_HEADERS = {
    "content-security-policy": (
        "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none';"
        " base-uri 'none'; form-action 'none'"
    ),
}
_REF = "#/components/schemas/{name}"
_CHAT, _COMPLETIONS = "/v1/chat/completions", "/v1/completions"
_RESPONSES = "/v1/responses"
_MESSAGES, _COUNT = "/v1/messages", "/v1/messages/count_tokens"
_BODIES: dict[str, type[msgspec.Struct]] = {
    _CHAT: ChatRequest,
    _COMPLETIONS: CompletionRequest,
    _RESPONSES: ResponsesRequest,
    _MESSAGES: MessagesRequest,
    _COUNT: CountRequest,
    "/v1/conversations": CreateConversation,
    "/v1/conversations/{conversation_id}": UpdateConversation,
    "/v1/sessions": CreateSession,
    "/v1/admin/keys": Grant,
    "/v1/admin/keys/{key_id}/rotate": RotateKey,
    "/v1/api-key/admin/reset": Reset,
}
"""What is sent to each POST."""
_ANSWERS: dict[str, tuple[type[msgspec.Struct], Any]] = {
    _CHAT: (ChatCompletion, ChatCompletionChunk),
    _COMPLETIONS: (TextCompletion, TextCompletion),
    _RESPONSES: (ResponseObject, StreamEvent),
    _MESSAGES: (
        Message,
        MessageStart | BlockStart | BlockDelta | BlockStop | MessageDelta | MessageStop | Ping,
    ),
}
"""What comes of a POST that runs an agent: whole, and each event of a stream."""

static_files = create_static_files_router(
    path="/docs/static",
    directories=[_STATIC / "swagger-ui"],
    include_in_schema=False,
    opt=OPEN,
    cache_control=CacheControlHeader(public=True, max_age=3600),
)


class _Document(JsonRenderPlugin):
    """Litestar's document completed with the bodies that the handlers decode by themselves."""

    def render(self, _: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        return msgspec.json.encode(complete(openapi_schema))


def openapi_config() -> OpenAPIConfig:
    """How Litestar describes the routes."""
    return OpenAPIConfig(
        title="Backline",
        version=version("backline"),
        description="Claude Code agents behind the OpenAI API.",
        use_handler_docstrings=True,
        path="/docs/schema",
        openapi_router=Router(path="/docs/schema", route_handlers=[], opt=OPEN, include_in_schema=False),
        render_plugins=[_Document(path="/openapi.json")],
        components=Components(security_schemes={"key": SecurityScheme(type="http", scheme="bearer")}),
        security=[{"key": []}],
    )


@get("/openapi.json", include_in_schema=False, media_type=MediaType.JSON, opt=OPEN)
async def openapi_json(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Describe every route, as OpenAPI 3.1."""
    document = complete(request.app.openapi_schema.to_schema())
    return Response(msgspec.json.encode(document), media_type="application/json")


@get("/", include_in_schema=False, opt=OPEN)
async def front_door() -> Redirect:
    """Lead who opens the bare address in a browser to the page."""
    return Redirect("/docs", status_code=303)


@get("/docs", include_in_schema=False, media_type=MediaType.HTML, opt=OPEN)
async def docs_page() -> Response[str]:
    """Show the document, with forms to try it."""
    page = (_STATIC / "docs.html").read_text("utf-8")
    return Response(page, media_type=MediaType.HTML, headers=_PAGE_HEADERS)


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """Add the bodies that handlers decode by themselves, and the answers of those that run an agent."""
    answers = [kind for pair in _ANSWERS.values() for kind in pair]
    kinds = [*_BODIES.values(), *answers, ErrorEnvelope, AnthropicError]
    shown, schemas = msgspec.json.schema_components(kinds, ref_template=_REF)
    schema_of = dict(zip(kinds, shown, strict=True))
    document.setdefault("components", {}).setdefault("schemas", {}).update(schemas)
    for path, kind in _BODIES.items():
        content = {"application/json": {"schema": schema_of[kind]}}
        required = path in {*_ANSWERS, _COUNT}
        document["paths"][path]["post"]["requestBody"] = {"required": required, "content": content}
    for path, (answer, event) in _ANSWERS.items():
        content = {
            "application/json": {"schema": schema_of[answer]},
            "text/event-stream": {"schema": schema_of[event]},
        }
        said = "The answer, or with `stream` its server-sent events."
        document["paths"][path]["post"]["responses"] = {"200": {"description": said, "content": content}}
    for path, operations in document["paths"].items():
        if path.startswith("/v1/"):
            _add_errors(path, operations)
    return document


def _add_errors(path: str, operations: dict[str, Any]) -> None:
    is_anthropics = path in {_MESSAGES, _COUNT}
    whose = "Anthropic" if is_anthropics else "OpenAI"
    envelope = AnthropicError if is_anthropics else ErrorEnvelope
    for operation in operations.values():
        operation["responses"].pop("400", None)  # Litestar's own words for an error
        operation["responses"]["default"] = {
            "description": f"An error in {whose}'s envelope.",
            "content": {"application/json": {"schema": _ref(envelope.__name__)}},
        }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": _REF.format(name=name)}
