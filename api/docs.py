"""`/openapi.json` and the page at `/docs` that shows it, without a network."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
from litestar import MediaType, Request, Response, get
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.static_files import create_static_files_router

from api.openai.completion import ChatCompletion, ChatCompletionChunk, ErrorEnvelope
from api.openai.conversations import CreateConversation, UpdateConversation
from api.openai.wire import ChatRequest
from api.sessions import CreateSession

_STATIC = Path(__file__).parent / "static"
_PAGE_HEADERS = {
    "content-security-policy": (
        "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
}
_REF = "#/components/schemas/{name}"
_CHAT = "/v1/chat/completions"
_BODIES: dict[str, type[msgspec.Struct]] = {
    _CHAT: ChatRequest,
    "/v1/conversations": CreateConversation,
    "/v1/conversations/{conversation_id}": UpdateConversation,
    "/v1/sessions": CreateSession,
}
"""What is sent to each POST."""

static_files = create_static_files_router(
    path="/docs/static", directories=[_STATIC / "swagger-ui"], include_in_schema=False
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
        path="/docs/schema",
        render_plugins=[_Document(path="/openapi.json")],
    )


@get("/openapi.json", include_in_schema=False, media_type=MediaType.JSON)
async def openapi_json(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Describe every route, as OpenAPI 3.1."""
    document = complete(request.app.openapi_schema.to_schema())
    return Response(msgspec.json.encode(document), media_type="application/json")


@get("/docs", include_in_schema=False, media_type=MediaType.HTML)
async def docs_page() -> Response[str]:
    """Show the document, with forms to try it."""
    page = (_STATIC / "docs.html").read_text("utf-8")
    return Response(page, media_type=MediaType.HTML, headers=_PAGE_HEADERS)


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """Add the bodies that handlers decode by themselves, and the answers of chat completions."""
    bodies = _BODIES.values()
    kinds = [ChatRequest, ChatCompletion, ChatCompletionChunk, ErrorEnvelope, *bodies]
    _, schemas = msgspec.json.schema_components(kinds, ref_template=_REF)
    document.setdefault("components", {}).setdefault("schemas", {}).update(schemas)
    for path, kind in _BODIES.items():
        content = {"application/json": {"schema": _ref(kind.__name__)}}
        document["paths"][path]["post"]["requestBody"] = {"required": path == _CHAT, "content": content}
    chat = document["paths"][_CHAT]["post"]
    chat["responses"] = {
        "200": {
            "description": "The answer, or with `stream` its chunks as server-sent events.",
            "content": {
                "application/json": {"schema": _ref("ChatCompletion")},
                "text/event-stream": {"schema": _ref("ChatCompletionChunk")},
            },
        },
    }
    for path, operations in document["paths"].items():
        if path.startswith("/v1/"):
            for operation in operations.values():
                operation["responses"].pop("400", None)  # Litestar's own words for an error
                operation["responses"]["default"] = {
                    "description": "An error in OpenAI's envelope.",
                    "content": {"application/json": {"schema": _ref("ErrorEnvelope")}},
                }
    return document


def _ref(name: str) -> dict[str, str]:
    return {"$ref": _REF.format(name=name)}
