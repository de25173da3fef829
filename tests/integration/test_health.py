"""Liveness, readiness, and the documentation."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import jsonschema
import openai
import pytest

from scripted_model import script, text
from tests.conftest import NewStack
from tests.support.asking import ask, check_envelope, text_of
from tests.support.stack import Stack


async def test_health_is_liveness(http: httpx.AsyncClient) -> None:
    answer = await http.get("/health")
    assert answer.status_code == 200
    assert answer.json()["status"] == "ok"


async def test_ready_says_what_is_served(stack: Stack, http: httpx.AsyncClient) -> None:
    answer = await http.get("/ready")
    assert answer.status_code == 200
    said = answer.json()
    assert (said["status"], said["agents"], said["workers"]) == ("ready", ["agent", "other"], 1)
    assert said["slots"] == 8
    assert re.fullmatch(r"\d+\.\d+\.\d+", said["cli_versions"][0])


async def test_readiness_follows_the_workers(new_stack: NewStack, marker: str) -> None:
    stack = new_stack(workers=0)
    async with stack.http() as http, stack.sdk() as sdk:
        assert (await http.get("/health")).status_code == 200
        answer = await http.get("/ready")
        assert answer.status_code == 503
        assert "worker" in answer.json()["reason"]
        assert [each async for each in sdk.models.list()] == []
        with pytest.raises(openai.InternalServerError) as unserved:
            await ask(sdk, "hello", model="haiku")
        check_envelope(unserved.value.response, 503, "agent_unavailable")

        worker = stack.start_worker()
        stack.wait_ready()
        assert text_of(await ask(sdk, marker, script(text("yes")))) == "yes"

        worker.ask_to_end()
        assert worker.exit_code() == 0
        assert (await http.get("/ready")).status_code == 503
        with pytest.raises(openai.InternalServerError) as gone:
            await ask(sdk, "hello")
        error = check_envelope(gone.value.response, 503, "agent_unavailable")
        assert "agent" in error["message"]
        assert 1 <= int(gone.value.response.headers["retry-after"]) <= 60
        assert gone.value.response.headers["x-should-retry"] == "true"


async def test_the_bare_address_leads_to_the_docs_page(http: httpx.AsyncClient) -> None:
    answer = await http.get("/")
    assert (answer.status_code, answer.headers["location"]) == (303, "/docs")


async def test_the_docs_page_needs_no_other_host(http: httpx.AsyncClient) -> None:
    page = await http.get("/docs")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    linked = re.findall(r"""(?:src|href)=["']([^"']+)["']""", page.text)
    assert linked
    for link in linked:
        assert not re.match(r"(?:https?:)?//", link), link
        if not link.startswith(("#", "data:")):
            answer = await http.get(str(httpx.URL("http://x/docs").join(link).path))
            assert answer.status_code == 200, link
    assert not re.findall(r"https?://(?!127\.0\.0\.1|localhost)[^\s\"'<]+", page.text)


async def test_the_openapi_document_is_whole(http: httpx.AsyncClient) -> None:
    answer = await http.get("/openapi.json")
    document: dict[str, Any] = answer.json()
    assert document["openapi"].startswith("3.1")
    assert {"/v1/chat/completions", "/v1/models", "/health", "/ready"} <= document["paths"].keys()
    assert any(path.startswith("/v1/models/{") for path in document["paths"])
    for reference in re.findall(r'"\$ref":\s*"#/([^"]+)"', json.dumps(document)):
        found: Any = document
        for name in reference.split("/"):
            found = found[name.replace("~1", "/").replace("~0", "~")]
        assert found
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


async def test_answers_fit_the_openapi_document(http: httpx.AsyncClient) -> None:
    document = (await http.get("/openapi.json")).json()
    wrong = await http.post("/v1/chat/completions", content=b"{")
    schema = {"$ref": "#/components/schemas/ErrorEnvelope", "components": document["components"]}
    jsonschema.validate(wrong.json(), schema)
