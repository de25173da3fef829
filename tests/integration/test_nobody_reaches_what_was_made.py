"""What runs, uploads and batches really left, asked for by its owner, another tenant, an admin, and nobody.

`MATRIX` says of each operation of our OpenAPI document what it is; one that is not in it fails the test.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial
from typing import Any, Literal, NamedTuple

import httpx
import pytest

from scripted_model import Script, call, say, script, text, use_tool
from tests.support.asking import PATH, body
from tests.support.parties import Parties, answered, asking, new_parties
from tests.support.stack import Stack
from tests.support.waiting import wait_for
from tests.unit.support_api import make_app

Kind = Literal["owned", "list", "start", "models", "self", "admin", "open"]
"""`owned`: a path that names what is a tenant's; `list`: all that is a tenant's; `start`: makes something;
`models`: the same for all with a key; `self`: about the key itself."""

MATRIX: dict[str, Kind] = {
    "GET /v1/chat/completions": "list",
    "POST /v1/chat/completions": "start",
    "POST /v1/completions": "start",
    "POST /v1/messages": "start",
    "POST /v1/messages/count_tokens": "start",
    "GET /v1/chat/completions/{completion_id}/status": "owned",
    "GET /v1/chat/completions/{completion_id}": "owned",
    "POST /v1/chat/completions/{completion_id}": "owned",
    "DELETE /v1/chat/completions/{completion_id}": "owned",
    "GET /v1/chat/completions/{completion_id}/messages": "owned",
    "GET /v1/runs": "list",
    "GET /v1/runs/{run_id}": "owned",
    "POST /v1/runs/{run_id}/cancel": "owned",
    "GET /v1/runs/{run_id}/events": "owned",
    "POST /v1/responses": "start",
    "POST /v1/responses/input_tokens": "start",
    "POST /v1/responses/compact": "start",
    "GET /v1/responses/{response_id}": "owned",
    "DELETE /v1/responses/{response_id}": "owned",
    "POST /v1/responses/{response_id}/cancel": "owned",
    "GET /v1/responses/{response_id}/input_items": "owned",
    "DELETE /v1/admin/cache": "admin",
    "GET /v1/models": "models",
    "GET /v1/models/{model_id}": "models",
    "GET /v1/conversations": "list",
    "POST /v1/conversations": "start",
    "GET /v1/conversations/{conversation_id}": "owned",
    "POST /v1/conversations/{conversation_id}": "owned",
    "DELETE /v1/conversations/{conversation_id}": "owned",
    "GET /v1/conversations/{conversation_id}/items": "owned",
    "POST /v1/conversations/{conversation_id}/items": "owned",
    "GET /v1/conversations/{conversation_id}/items/{item_id}": "owned",
    "DELETE /v1/conversations/{conversation_id}/items/{item_id}": "owned",
    "GET /v1/sessions": "list",
    "POST /v1/sessions": "start",
    "GET /v1/sessions/stats": "list",
    "GET /v1/sessions/{session_id}": "owned",
    "DELETE /v1/sessions/{session_id}": "owned",
    "GET /v1/projects": "list",
    "POST /v1/projects": "start",
    "GET /v1/projects/{project_id}": "owned",
    "DELETE /v1/projects/{project_id}": "owned",
    "GET /v1/files": "list",
    "POST /v1/files": "start",
    "GET /v1/files/{file_id}": "owned",
    "DELETE /v1/files/{file_id}": "owned",
    "GET /v1/files/{file_id}/content": "owned",
    "GET /v1/batches": "list",
    "POST /v1/batches": "start",
    "GET /v1/batches/{batch_id}": "owned",
    "POST /v1/batches/{batch_id}/cancel": "owned",
    "GET /v1/webhook_event_types": "models",
    "GET /v1/webhooks": "list",
    "POST /v1/webhooks": "start",
    "GET /v1/webhooks/{webhook_id}": "owned",
    "POST /v1/webhooks/{webhook_id}": "owned",
    "DELETE /v1/webhooks/{webhook_id}": "owned",
    "POST /v1/webhooks/{webhook_id}/rotate_secret": "owned",
    "POST /v1/webhooks/{webhook_id}/test": "owned",
    "GET /v1/webhook_endpoints": "list",
    "POST /v1/webhook_endpoints": "start",
    "GET /v1/webhook_endpoints/{webhook_id}": "owned",
    "POST /v1/webhook_endpoints/{webhook_id}": "owned",
    "DELETE /v1/webhook_endpoints/{webhook_id}": "owned",
    "POST /v1/webhook_endpoints/{webhook_id}/rotate_secret": "owned",
    "POST /v1/webhook_endpoints/{webhook_id}/test": "owned",
    "GET /v1/webhooks/{webhook_id}/deliveries": "owned",
    "POST /v1/webhooks/{webhook_id}/deliveries/{event_id}/redeliver": "owned",
    "GET /v1/admin/agents": "admin",
    "GET /v1/admin/keys": "admin",
    "POST /v1/admin/keys": "admin",
    "GET /v1/admin/keys/{key_id}": "admin",
    "DELETE /v1/admin/keys/{key_id}": "admin",
    "POST /v1/admin/keys/{key_id}/rotate": "admin",
    "GET /v1/admin/dead-letters": "admin",
    "DELETE /v1/admin/dead-letters": "admin",
    "POST /v1/admin/dead-letters/retry": "admin",
    "GET /v1/admin/dead-letters/{run_id}": "admin",
    "DELETE /v1/admin/dead-letters/{run_id}": "admin",
    "POST /v1/admin/dead-letters/{run_id}/retry": "admin",
    "GET /v1/admin/usage": "admin",
    "GET /v1/api-key/stats": "self",
    "GET /v1/api-key/admin/stats": "admin",
    "POST /v1/api-key/admin/reset": "admin",
    "GET /stats": "admin",
    "GET /metrics": "admin",
    "GET /metrics/workers": "admin",
    "GET /health": "open",
    "GET /ready": "open",
}

ITEMS = {"items": [{"type": "message", "role": "user", "content": "Owner's words"}]}
BODIES = {
    "POST /v1/chat/completions/{completion_id}": {"metadata": {}},
    "POST /v1/conversations/{conversation_id}": {"metadata": {}},
    "POST /v1/conversations/{conversation_id}/items": ITEMS,
    "POST /v1/webhooks/{webhook_id}": {},
    "POST /v1/webhook_endpoints/{webhook_id}": {},
}
LEADS_OUT = ("/test", "/redeliver")
"""These call the owner's endpoint, which is none of ours."""
GO_ON: Any = {"backline": {"on_disconnect": "continue"}}
SETTLED = {"POST /v1/batches/{batch_id}/cancel", "POST /v1/responses/{response_id}/cancel"}
"""Too late for what is done: its owner is told so, which nobody else is."""


class World(NamedTuple):
    stack: Stack
    parties: Parties
    ids: dict[str, str]
    """What is the owner's, by the parameter that names it."""
    missing: dict[str, str]
    """Ids of the same form, of nothing."""

    def ask(self, operation: str, who: str, ids: dict[str, str]) -> httpx.Response:
        method, path = operation.split()
        names = set(re.findall(r"{(\w+)}", path))
        assert names <= ids.keys(), f"say in this test what {names} names"
        with asking(self.stack, getattr(self.parties, who)) as http:
            return http.request(method, path.format(**ids), json=BODIES.get(operation))

    def as_if_missing(self, said: str) -> str:
        for name, known in self.ids.items():
            said = said.replace(known, self.missing[name])
        return said


@pytest.fixture(scope="module")
def world(guarded: Stack) -> World:
    return new_world(guarded)


def new_world(stack: Stack) -> World:
    """One of each thing that has an id, left by real runs; nobody else's keys open it."""
    parties = new_parties(stack)
    with asking(stack, parties.owner) as http:
        post = partial(posted, http)
        conversation = post("/v1/conversations", ITEMS)["id"]
        items = answered(http.get(f"/v1/conversations/{conversation}/items"))["data"]
        chat = post(PATH, body(say("Kept."), store=True, metadata={"of": "owner"}))
        stream = http.post(PATH, json=body(say("Kept."), stream=True, **GO_ON))
        response = post("/v1/responses", {"model": "agent", "input": str(say("Kept."))})
        project = post("/v1/projects", {"agent": "agent", "name": "owners"})["id"]
        wait_for(lambda: answered(http.get(f"/v1/projects/{project}"))["state"] == "ready", 20, "a copy")
        webhook = post("/v1/webhooks", {"url": "https://93.184.215.14/", "event_types": ["batch.failed"]})
        batch, file = batch_of(http, body(say("Kept.")))
        assert batch["status"] == "completed", batch
    ids = {
        "conversation_id": conversation,
        "item_id": items[0]["id"],
        "completion_id": chat["id"],
        "run_id": stream.headers["x-backline-run-id"],
        "session_id": chat["backline"]["session_id"],
        "response_id": response["id"],
        "project_id": project,
        "file_id": file,
        "output_file_id": batch["output_file_id"],
        "batch_id": batch["id"],
        "webhook_id": webhook["id"],
        "event_id": f"evt_{'1' * 32}",
    }
    missing = {name: re.sub(r"[0-9a-f]{8}$", "00000000", known) for name, known in ids.items()}
    assert not set(ids.values()) & set(missing.values())
    shared = {"model_id": "agent", "key_id": parties.spare.id}
    return World(stack, parties, ids | shared, missing | shared)


def posted(http: httpx.Client, path: str, json: dict[str, Any]) -> dict[str, Any]:
    return answered(http.post(path, json=json))


def batch_of(http: httpx.Client, *bodies: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """A batch that has ended, and the id of its input file."""
    lines = [
        {"custom_id": str(number), "method": "POST", "url": PATH, "body": asked}
        for number, asked in enumerate(bodies)
    ]
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    sent = http.post("/v1/files", data={"purpose": "batch"}, files={"file": ("in.jsonl", content)})
    file = answered(sent)["id"]
    wish = {"input_file_id": file, "endpoint": PATH, "completion_window": "24h"}
    batch = posted(http, "/v1/batches", wish)

    def has_ended() -> dict[str, Any] | None:
        seen = answered(http.get(f"/v1/batches/{batch['id']}"))
        return seen if seen["status"] in {"completed", "failed"} else None

    ended = wait_for(has_ended, 30, "the batch has ended")
    assert ended is not None
    return ended, file


ADMINS_SEE = {"GET /v1/runs", "GET /v1/runs/{run_id}", "POST /v1/runs/{run_id}/cancel"}
"""Runs, in which nothing is told of what was said."""


def strangers(operation: str) -> tuple[str, ...]:
    return ("other",) if operation in ADMINS_SEE else ("other", "admin")


def of_kind(*kinds: Kind) -> list[str]:
    return [operation for operation, kind in MATRIX.items() if kind in kinds]


def test_the_matrix_has_every_operation() -> None:
    paths = make_app("redis://127.0.0.1:1").openapi_schema.to_schema()["paths"]
    operations = {f"{method.upper()} {path}" for path, item in paths.items() for method in item}
    assert operations == MATRIX.keys()


def test_what_is_anothers_is_to_everybody_else_what_is_not_there(world: World) -> None:
    for operation in of_kind("owned"):
        for who in strangers(operation):
            foreign = world.ask(operation, who, world.ids)
            absent = world.ask(operation, who, world.missing)
            assert foreign.status_code == absent.status_code == 404, (operation, who, foreign.text)
            assert world.as_if_missing(foreign.text) == absent.text
    for name in ("file_id", "output_file_id"):
        for ending in ("", "/content"):
            with asking(world.stack, world.parties.other) as http:
                assert http.get(f"/v1/files/{world.ids[name]}{ending}").status_code == 404
    for operation in of_kind("owned"):
        if operation.startswith("GET"):
            assert world.ask(operation, "owner", world.ids).status_code == 200, operation


def test_a_run_that_is_followed_tells_its_words_to_its_own_tenant(world: World) -> None:
    parties = new_parties(world.stack)
    with asking(world.stack, parties.owner) as http:
        used = script(
            call(use_tool("Bash", {"command": "echo tool-words-of-a-tenant"})),
            call(text("answer-of-a-tenant")),
        )
        run_id = http.post(PATH, json=body(used)).headers["x-backline-run-id"]

    def followed(who: str) -> httpx.Response:
        with asking(world.stack, getattr(parties, who)) as http:
            return http.get(f"/v1/runs/{run_id}/events", params={"format": "run"})

    own, admins = followed("owner").text, followed("admin").text
    for words in ("tool-words-of-a-tenant", "answer-of-a-tenant"):
        assert words in own
        assert words not in admins
    for kind in ("started", "tool_started", "tool_finished", "ended"):
        assert f'"type":"{kind}"' in admins
    assert followed("other").status_code == 404


def test_lists_show_everybody_their_own_alone(world: World) -> None:
    own = {known for name, known in world.ids.items() if name not in {"model_id", "key_id"}}
    for operation in of_kind("list"):
        seen = world.ask(operation, "owner", world.ids)
        assert seen.status_code == 200, (operation, seen.text)
        assert operation.endswith("stats") or any(known in seen.text for known in own), operation
        for who in strangers(operation):
            answer = world.ask(operation, who, world.ids)
            assert answer.status_code == 200, (operation, who, answer.text)
            assert not [known for known in own if known in answer.text], (operation, who)


def test_without_a_key_only_health_is_told(world: World) -> None:
    for operation, kind in MATRIX.items():
        answer = world.ask(operation, "nobody", world.ids)
        assert answer.status_code == (200 if kind == "open" else 401), (operation, answer.text)
        assert not [name for name in ("agent", "2.") if kind == "open" and name in answer.json().values()]


def test_an_admins_work_is_for_admins(world: World) -> None:
    for operation in of_kind("admin"):
        for who in ("owner", "other"):
            assert world.ask(operation, who, world.ids).status_code == 403, (operation, who)
        if operation.startswith("GET"):  # the run is no dead letter
            expected = 404 if "dead-letters/{" in operation else 200
            assert world.ask(operation, "admin", world.ids).status_code == expected, operation
    for operation in of_kind("models", "self"):
        assert world.ask(operation, "other", world.ids).status_code == 200, operation


def run_for(**fields: Any) -> dict[str, Any]:
    return body("PROMPT-OF-ANOTHER", **fields)


def response_for(**fields: Any) -> dict[str, Any]:
    return {"model": "agent", "input": "PROMPT-OF-ANOTHER", **fields}


def naming(ids: dict[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field of a request in which an id can stand, with the owner's."""
    session = {"session_id": ids["session_id"]}
    places: list[dict[str, Any]] = [
        {"conversation_id": ids["conversation_id"]},
        {"project_id": ids["project_id"]},
        {"claude_options": session},
    ]
    file = {"type": "file", "file": {"file_id": ids["file_id"]}}
    for place in places:
        yield PATH, run_for(**place)
        yield "/v1/messages", {**run_for(**place), "max_tokens": 100}
    yield PATH, {"model": "agent", "messages": [{"role": "user", "content": [file]}]}
    source = {"type": "file", "file_id": ids["file_id"]}
    document = {"model": "agent", "max_tokens": 100}
    said = {"role": "user", "content": [{"type": "document", "source": source}]}
    yield "/v1/messages", {**document, "messages": [said]}
    yield "/v1/responses", response_for(previous_response_id=ids["response_id"])
    yield "/v1/responses", response_for(conversation=ids["conversation_id"])
    yield "/v1/responses", response_for(project_id=ids["project_id"])
    part = {"type": "input_file", "file_id": ids["file_id"]}
    yield "/v1/responses", {"model": "agent", "input": [{"role": "user", "content": [part]}]}
    batch = {"endpoint": PATH, "completion_window": "24h"}
    for name in ("file_id", "output_file_id"):
        yield "/v1/batches", {**batch, "input_file_id": ids[name]}


def test_no_request_uses_what_is_anothers(world: World) -> None:
    stranger = new_parties(world.stack).other  # whose batches name what it asked for
    with asking(world.stack, stranger) as http:
        for (path, foreign), (_, absent) in zip(naming(world.ids), naming(world.missing), strict=True):
            answer, known = http.post(path, json=foreign), http.post(path, json=absent)
            if path == "/v1/batches":  # a batch is made, and then fails by its file
                told, known_told = (ended(http, each.json()) for each in (answer, known))
                assert told == known_told
                continue
            assert 400 <= answer.status_code < 500, (path, foreign, answer.text)
            assert answer.status_code == known.status_code
            assert without_ids(world.as_if_missing(answer.text)) == without_ids(known.text)
    assert not world.stack.model.calls("PROMPT-OF-ANOTHER"), "no run of these reached the model"


def without_ids(said: str) -> str:
    """An Anthropic error names its request."""
    return re.sub(r"req_\w+", "req_", said)


def ended(http: httpx.Client, made: dict[str, Any]) -> list[str]:
    if "error" in made:
        return [made["error"]["code"]]

    def has_failed() -> list[str] | None:
        seen = answered(http.get(f"/v1/batches/{made['id']}"))
        return (
            [seen["status"], *(each["code"] for each in seen["errors"]["data"])] if seen["errors"] else None
        )

    found = wait_for(has_failed, 20, "the batch has failed")
    assert found is not None
    return found


def test_no_line_of_a_batch_uses_what_is_anothers(world: World) -> None:
    lines = [asked for path, asked in naming(world.ids) if path == PATH]
    with asking(world.stack, new_parties(world.stack).other) as http:
        batch, _ = batch_of(http, *lines)
        assert batch["request_counts"]["failed"] == len(lines), batch
        failed = http.get(f"/v1/files/{batch['error_file_id']}/content").text
    said = [json.loads(line)["response"]["status_code"] for line in failed.splitlines()]
    assert all(400 <= status < 500 for status in said), failed
    assert not world.stack.model.calls("PROMPT-OF-ANOTHER")


def test_no_list_begins_after_what_is_anothers(world: World) -> None:
    places = {
        PATH: "completion_id",
        "/v1/conversations": "conversation_id",
        "/v1/sessions": "session_id",
        "/v1/projects": "project_id",
        "/v1/files": "file_id",
        "/v1/batches": "batch_id",
        "/v1/runs": "run_id",
        "/v1/webhooks": "webhook_id",
    }
    with asking(world.stack, world.parties.other) as http:
        for path, name in places.items():
            foreign = http.get(path, params={"after": world.ids[name]})
            absent = http.get(path, params={"after": world.missing[name]})
            assert foreign.status_code == absent.status_code, path
            assert world.as_if_missing(foreign.text) == absent.text


def test_the_owner_reaches_it_all_and_can_remove_it(guarded: Stack) -> None:
    """Or the tests above would show nothing."""
    world = new_world(guarded)
    owned = sorted(of_kind("owned"), key=lambda each: (each.startswith("DELETE"), -each.count("/")))
    for operation in owned:
        if operation.endswith(LEADS_OUT) or operation == "DELETE /v1/webhook_endpoints/{webhook_id}":
            continue  # the last is another name for what goes by the first
        answer = world.ask(operation, "owner", world.ids)
        if operation in SETTLED:
            assert answer.status_code in {200, 400, 409}, (operation, answer.text)
        else:
            assert answer.status_code == 200, (operation, answer.text)
            assert "Traceback" not in answer.text


def test_a_keys_right_is_no_wider_than_the_workers(guarded: Stack) -> None:
    """The setting `client_may` of the API is widened by a key's; the worker knows of no keys."""
    parties = new_parties(guarded)
    with asking(guarded, parties.admin) as http:
        wide = answered(http.post("/v1/admin/keys", json={"may": ["permissions", "mcp_config"]}))["secret"]
        asked: list[dict[str, Any]] = [
            {"permission_mode": "bypassPermissions"},
            {"auto_allow_permissions": True},
            {"mcp_config": {"mcpServers": {"x": {"command": "id"}}}},
        ]
        plan: Script = script(call(use_tool("Bash", {"command": "true"})), call(text("WIDENED-RUN")))
        for options in asked:
            answer = http.post(
                PATH, json=body(plan, claude_options=options), headers={"authorization": f"Bearer {wide}"}
            )
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_permitted")
    assert not guarded.model.calls("WIDENED-RUN")
