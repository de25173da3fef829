"""A key and a prompt, put in by every entry there is: where they are found afterwards, and where not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import httpx
import psutil
import pytest

from scripted_model import Script, call, fail, say, script, text, tokens, use_tool
from shared.keys import new_secret
from tests.integration.test_nobody_reaches_what_was_made import batch_of
from tests.support.asking import PATH, body
from tests.support.parties import Parties, Party, asking, new_parties
from tests.support.redis_dump import redis_dump
from tests.support.stack import Stack
from tests.support.waiting import wait_for

PROMPTS_STAND_IN = (
    *("completion", "conversation", "added", "session", "transcript"),
    *("response", "events", "batch-results", "batch-parts", "file"),
)
"""Kinds of Redis key that hold what clients said, as docs/security.md says."""


@pytest.fixture(scope="module")
def parties(guarded: Stack) -> Parties:
    return new_parties(guarded)


@pytest.fixture
def canary() -> str:
    return f"canary{uuid4().hex}"


def logs(stack: Stack) -> str:
    return "".join(place.read_text(errors="replace") for place in stack.root.glob("*.log"))


def sinks(stack: Stack, admin: Party) -> dict[str, str]:
    """All that operators, other users of the host and other clients may look at."""
    with asking(stack, admin) as http:
        told = {
            path: http.get(path).text for path in ("/stats", "/v1/admin/usage", "/v1/admin/keys", "/ready")
        }
    return {"logs": logs(stack), "names in Redis": "\n".join(redis_dump(stack)), **told, **command_lines()}


def command_lines() -> dict[str, str]:
    """Of every process of the host: any user may read them."""
    found = {}
    for process in psutil.process_iter():
        try:
            found[f"process {process.pid}"] = " ".join(process.cmdline())
        except psutil.Error:
            continue
    return found


Entry = Callable[[httpx.Client, str], httpx.Response | None]


def chat(http: httpx.Client, canary: str) -> httpx.Response:
    asked = body(canary, say("Ok."), store=True, metadata={"m": canary}, user=canary)
    return http.post(PATH, json=asked)


def stream(http: httpx.Client, canary: str) -> httpx.Response:
    return http.post(PATH, json=body(canary, script(tokens(5)), stream=True))


def system_prompt(http: httpx.Client, canary: str) -> httpx.Response:
    messages = [{"role": "system", "content": canary}, {"role": "user", "content": str(say("Ok."))}]
    return http.post(PATH, json={"model": "agent", "messages": messages})


def history(http: httpx.Client, canary: str) -> httpx.Response:
    messages = [{"role": "user", "content": canary}, {"role": "assistant", "content": canary}]
    messages.append({"role": "user", "content": str(say("Ok."))})
    return http.post(PATH, json={"model": "agent", "messages": messages})


def client_tool(http: httpx.Client, canary: str) -> httpx.Response:
    schema = {"type": "object", "properties": {canary: {"type": "string"}}}
    tool = {"type": "function", "function": {"name": "look", "description": canary, "parameters": schema}}
    return http.post(PATH, json=body(say("Ok."), tools=[tool]))


def sub_agent(http: httpx.Client, canary: str) -> httpx.Response:
    helper = {"description": canary, "prompt": canary}
    return http.post(PATH, json=body(say("Ok."), claude_options={"agents": {"helper": helper}}))


def completion(http: httpx.Client, canary: str) -> httpx.Response:
    return http.post("/v1/completions", json={"model": "agent", "prompt": f"{canary} {say('Ok.')}"})


def message(http: httpx.Client, canary: str) -> httpx.Response:
    return http.post("/v1/messages", json={**body(canary, say("Ok.")), "max_tokens": 99, "system": canary})


def response(http: httpx.Client, canary: str) -> httpx.Response:
    asked = {"model": "agent", "input": f"{canary} {say('Ok.')}", "instructions": canary}
    return http.post("/v1/responses", json=asked)


def batch(http: httpx.Client, canary: str) -> None:
    done, _ = batch_of(http, body(canary, say("Ok.")), body(canary, nonsense=1, n=-1))
    assert done["status"] == "completed", done


def upload(http: httpx.Client, canary: str) -> httpx.Response:
    return http.post(
        "/v1/files", data={"purpose": "user_data"}, files={"file": (f"{canary}.txt", canary.encode())}
    )


def conversation(http: httpx.Client, canary: str) -> httpx.Response:
    item = {"type": "message", "role": "user", "content": canary}
    made = http.post("/v1/conversations", json={"items": [item], "metadata": {"m": canary}}).json()["id"]
    http.post(f"/v1/conversations/{made}/items", json={"items": [item]})
    return http.post(PATH, json=body(canary, say("Ok."), conversation_id=made))


def headers(http: httpx.Client, canary: str) -> httpx.Response:
    names = ("user-agent", "referer", "cookie", "x-forwarded-for", "openai-organization", "last-event-id")
    return http.get("/v1/models", headers=dict.fromkeys(names, canary))


def query(http: httpx.Client, canary: str) -> httpx.Response:
    return http.get("/v1/models", params={"prompt": canary, canary: "1"})


def agents_tool(http: httpx.Client, canary: str) -> httpx.Response:
    shell = use_tool("Bash", {"command": f": {canary}"})
    return http.post(PATH, json=body(script(call(shell), call(text("Ok.")))))


ENTRIES: tuple[Entry, ...] = (
    *(chat, stream, system_prompt, history, client_tool, sub_agent, completion, message, response),
    *(batch, upload, conversation, headers, query, agents_tool),
)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.__name__)
def test_what_clients_say_is_only_where_it_is_kept(
    guarded: Stack, parties: Parties, canary: str, entry: Entry
) -> None:
    with asking(guarded, parties.owner) as http:
        answer = entry(http, canary)
        assert answer is None or answer.status_code == 200, answer.text
    for name, said in sinks(guarded, parties.admin).items():
        assert canary not in said, name
    holding = {name.split(":")[1] for name, value in redis_dump(guarded).items() if canary in value}
    assert holding <= set(PROMPTS_STAND_IN)


def errors(canary: str, answer: Script) -> Iterator[tuple[str, Any]]:
    yield PATH, body(canary, answer, temperature=canary)
    yield PATH, {**body(canary), "model": canary}
    yield PATH, {"model": "agent", "messages": [{"role": canary, "content": canary}]}
    yield PATH, body(canary, script(fail(400, message=canary)))
    yield PATH, body(canary, claude_options={"session_id": canary})
    yield "/v1/messages", body(canary, max_tokens=canary)
    yield "/v1/responses", {"model": "agent", "input": [{"type": canary}], "previous_response_id": canary}
    yield "/v1/completions", {"model": "agent", "prompt": {canary: canary}}
    yield "/v1/batches", {"input_file_id": canary, "endpoint": canary, "completion_window": canary}
    yield "/v1/conversations", {"items": [{"type": "message", "role": "user", "content": [canary]}]}
    yield "/v1/sessions", {"agent": canary}
    yield "/v1/projects", {"agent": canary, "name": canary}


def test_no_refusal_tells_a_log_what_was_said(guarded: Stack, parties: Parties, canary: str) -> None:
    with asking(guarded, parties.owner) as http:
        for path, asked in errors(canary, say("Ok.")):
            http.post(path, json=asked)
            torn = json.dumps(asked)[:-1].encode()
            assert http.post(path, content=torn, headers={"content-type": "application/json"}).is_client_error
    for name, said in sinks(guarded, parties.admin).items():
        assert canary not in said, name


def test_no_command_line_tells_what_a_run_is_about(guarded: Stack, parties: Parties, canary: str) -> None:
    """While it runs; with every option that becomes part of a command."""
    helper = {"description": canary, "prompt": canary}
    asked = body(canary, script(tokens(40, pace_ms=50)), stream=True, user=canary)
    asked |= {"claude_options": {"agents": {"helper": helper}}, "metadata": {"m": canary}}
    with asking(guarded, parties.owner) as http, http.stream("POST", PATH, json=asked) as answer:
        next(line for line in answer.iter_lines() if '"content"' in line)
        lines = command_lines()
        assert [line for line in lines.values() if "--output-format=stream-json" in line]
        secrets = (canary, parties.owner.secret, "sk-ant-scripted")
        assert not [(name, s) for name, line in lines.items() for s in secrets if s in line]


def entries_of(key: str) -> Iterator[dict[str, Any]]:
    """Every way in which a request may bring a key, good or not; and some in which it may not."""
    yield {"headers": {"authorization": f"Bearer {key}"}}
    yield {"headers": {"authorization": f"Basic {key}"}}
    yield {"headers": {"authorization": key}}
    yield {"headers": {"x-api-key": key}}
    yield {"headers": {"api-key": key, "cookie": f"key={key}"}}
    yield {"headers": {"x-request-id": key}}
    yield {"params": {"api_key": key}}
    yield {"params": {"key": key}}


@pytest.mark.parametrize("kind", ["good", "unknown"])
def test_a_key_is_in_no_sink_however_it_came(guarded: Stack, kind: str) -> None:
    parties = new_parties(guarded)
    key = parties.owner.secret if kind == "good" else new_secret()
    with asking(guarded, parties.nobody) as http:
        for where in entries_of(key):
            for path in ("/v1/models", "/ready", "/nowhere", f"/v1/files/{key}"):
                answer = http.get(path, **where)
                assert key not in answer.text or path.endswith(key), "only an id is repeated"
            http.post(PATH, json=body(say("Ok.")), **where)
        for path in (PATH, "/v1/messages", "/v1/responses", "/v1/completions"):
            asked = {**body(say("Ok."), store=True), "input": str(say("Ok.")), "prompt": str(say("Ok."))}
            http.post(path, json={**asked, "api_key": key})
    wait_for(lambda: "request" in logs(guarded), 5, "the log has something")
    secret = key[8:40]
    for name, said in sinks(guarded, parties.admin).items():
        assert secret not in said, name
    assert not [name for name, value in redis_dump(guarded).items() if secret in value]
