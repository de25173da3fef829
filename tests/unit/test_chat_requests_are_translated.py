"""A client's body into a run's request: what is wrong is named where it is, what is right arrives whole."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.decode import decode_body
from api.errors import _ANSWERS, ApiError, cancelled, failed
from api.media.load import MediaPart
from api.models import Choice, listed, resolve
from api.openai.media import Place
from api.openai.translate import translate
from api.openai.wire import ChatRequest
from shared.agents import AgentError, is_claude_model, parse_agents
from shared.content import DocumentPart, ImagePart, TextPart, ToolResultPart, ToolUsePart, Turn
from shared.registry import AgentRecord, Registry, WorkerRecord
from shared.run_events import ErrorKind, RunCancelled, RunError
from shared.runs import RunRequest, Sampling, decode_request, encode_request

HELLO = [{"role": "user", "content": "Hello."}]


def body(**fields: Any) -> bytes:
    return msgspec.json.encode({"model": "a", "messages": HELLO} | fields)


def translated(*, media: Mapping[Place, MediaPart] = MappingProxyType({}), **fields: Any) -> RunRequest:
    request, _ = decode_body(body(**fields), ChatRequest)
    return translate(
        request,
        Choice(agent="a", claude_model="opus"),
        tenant="default",
        request_id="req",
        history_limit=99,
        media=media,
    )


def refused(**fields: Any) -> tuple[str | None, str | None]:
    with pytest.raises(ApiError) as refusal:
        translated(**fields)
    assert refusal.value.status == 400
    assert refusal.value.type == "invalid_request_error"
    assert refusal.value.message
    return refusal.value.param, refusal.value.code


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: Any = None, **fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **fields}


def call(id_: str, arguments: str = "{}", name: str = "f") -> dict[str, Any]:
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


def function(name: str, parameters: Any = None) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def tool(id_: str, content: Any = "done") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id_, "content": content}


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"\xff", "invalid_json"),
        (b'{"model":"\xff"}', "invalid_json"),
        (b'{"model":"\\ud800x"}', "invalid_json"),
        (b"{'model': 1}", "invalid_json"),
        (b'{"a":' + b"[" * 100_000, "invalid_json"),
        (b'{"a":1} trailing', "invalid_json"),
        (b"[]", "invalid_type"),
        (b"null", "invalid_type"),
        (b'"x"', "invalid_type"),
    ],
)
def test_a_body_that_is_no_json_object_is_refused(raw: bytes, code: str) -> None:
    with pytest.raises(ApiError) as refusal:
        decode_body(raw, ChatRequest)
    assert (refusal.value.status, refusal.value.param, refusal.value.code) == (400, None, code)


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"model": 5}, "model", "invalid_type"),
        ({"model": None}, "model", "invalid_type"),
        ({"messages": "x"}, "messages", "invalid_type"),
        ({"messages": [5]}, "messages[0]", "invalid_type"),
        ({"messages": [user("x"), user(5)]}, "messages[1].content", "invalid_type"),
        ({"messages": [user([{"type": "text", "text": 5}])]}, "messages[0].content[0].text", "invalid_type"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role", "invalid_value"),
        ({"messages": [{"content": "x"}]}, "messages[0].role", "missing_required_parameter"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter"),
        ({"messages": [user([{"type": "video"}])]}, "messages[0].content[0].type", "invalid_value"),
        (
            {"messages": [user([{"type": "image_url", "image_url": {}}])]},
            "messages[0].content[0].image_url.url",
            "missing_required_parameter",
        ),
        ({"stream": "yes"}, "stream", "invalid_type"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage", "invalid_type"),
        ({"max_tokens": "5"}, "max_tokens", "invalid_type"),
        ({"temperature": "hot"}, "temperature", "invalid_type"),
        ({"stop": [1]}, "stop[0]", "invalid_type"),
        # What has the right type and cannot be honoured
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages", "invalid_value"),
        ({"messages": [user("  \n")]}, "messages", "invalid_value"),
        ({"messages": [user("x"), assistant("y")]}, "messages[1]", "invalid_value"),
        ({"messages": [user("x"), tool("t1")]}, "messages[1].tool_call_id", "invalid_value"),
        (
            {"messages": [user("x"), assistant(tool_calls=[call("t1")]), tool("t2")]},
            "messages[2].tool_call_id",
            "invalid_value",
        ),
        (
            {"messages": [user("x"), assistant(tool_calls=[call("t1"), call("t2")]), tool("t2")]},
            "messages",
            "invalid_value",
        ),
        (
            {"messages": [user("x"), assistant(tool_calls=[call("t1")]), user("y")]},
            "messages",
            "invalid_value",
        ),
        (
            {"messages": [user("x"), assistant(tool_calls=[call("t1", "[1]")])]},
            "messages[1].tool_calls[0].function.arguments",
            "invalid_value",
        ),
        ({"messages": [user([{"type": "input_audio"}])]}, "messages[0].content[0]", "unsupported_value"),
        (
            {"messages": [user([{"type": "file"}])]},
            "messages[0].content[0].file",
            "missing_required_parameter",
        ),
        ({"tools": [function("a b")]}, "tools[0].function.name", "invalid_value"),
        ({"tools": [function("f"), function("f")]}, "tools", "invalid_value"),
        (
            {"tools": [function("f", {"type": "string"})]},
            "tools[0].function.parameters",
            "invalid_function_parameters",
        ),
        (
            {"tools": [function("f", {"type": "nothing"})]},
            "tools[0].function.parameters",
            "invalid_function_parameters",
        ),
        ({"tools": [function("f")], "tool_choice": "maybe"}, "tool_choice", "invalid_value"),
        ({"tools": [function("f")], "tool_choice": named("g")}, "tool_choice", "invalid_value"),
        ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
        (
            {"tools": [{"type": "custom", "custom": {"name": "f", "format": {"type": "grammar"}}}]},
            "tools[0].custom.format",
            "unsupported_value",
        ),
        ({"functions": [{"name": "f"}], "function_call": {"name": "g"}}, "function_call", "invalid_value"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": 1}}}},
            "response_format.json_schema.schema",
            "invalid_json_schema",
        ),
        (
            {"messages": [user("x"), assistant(tool_calls=[call("t1")]), tool("t1"), tool("t1", "other")]},
            "messages[3].tool_call_id",
            "invalid_value",
        ),
        ({"reasoning_effort": "huge"}, "reasoning_effort", "invalid_value"),
        ({"stop": ["a"] * 5}, "stop", "invalid_value"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"max_completion_tokens": -1}, "max_completion_tokens", "invalid_value"),
        ({"temperature": 2.1}, "temperature", "invalid_value"),
        ({"temperature": -0.1}, "temperature", "invalid_value"),
        ({"top_p": 1.5}, "top_p", "invalid_value"),
    ],
)
def test_what_is_wrong_is_named_where_it_is(fields: dict[str, Any], param: str, code: str) -> None:
    assert refused(**fields) == (param, code)


@pytest.mark.parametrize("name", ["model", "messages"])
def test_what_is_missing_is_named(name: str) -> None:
    fields = {"model": "a", "messages": HELLO}
    del fields[name]
    with pytest.raises(ApiError) as refusal:
        decode_body(msgspec.json.encode(fields), ChatRequest)
    assert (refusal.value.param, refusal.value.code) == (name, "missing_required_parameter")


def test_fields_without_an_effect_are_told() -> None:
    _, unknown = decode_body(body(seed=1, user="u", stream=True, logit_bias={}), ChatRequest)
    assert unknown == ["seed"]


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))  # fmt: skip
def test_any_json_is_a_request_or_a_refusal(value: Any) -> None:
    for raw in (msgspec.json.encode(value), body(messages=value), body(messages=[value]), body(stop=value)):
        try:
            request, _ = decode_body(raw, ChatRequest)
            translate(request, Choice(agent="a"), tenant="default", request_id="req", history_limit=99)
        except ApiError as refusal:
            assert refusal.status == 400  # noqa: PT017 - either way is right


def test_a_plain_request() -> None:
    assert translated() == RunRequest(agent="a", model="opus", prompt=(TextPart("Hello."),), request_id="req")


def test_a_conversation_with_everything_in_it() -> None:
    request = translated(
        media={(2, 1): ImagePart("image/png", "aGk="), (9, 0): DocumentPart("text/plain", "x", "x.md")},
        messages=[
            {"role": "system", "content": "Be brief."},
            user("Hi"),
            user([{"type": "text", "text": "Look:"}, {"type": "image_url", "image_url": {"url": IMAGE}}]),
            {
                "role": "developer",
                "content": [{"type": "text", "text": "Be"}, {"type": "text", "text": "kind."}],
            },
            assistant("Let me see.", tool_calls=[call("t1", '{"a":1}'), call("t2", "")]),
            tool("t2", [{"type": "text", "text": "two"}, {"type": "text", "text": "lines"}]),
            tool("t1"),
            user("And?"),
            assistant(
                [{"type": "text", "text": "So."}, {"type": "refusal", "refusal": "No."}], refusal="Never."
            ),
            user([{"type": "file", "file": {}}, {"type": "text", "text": " spaces stay "}]),
        ],
    )
    assert request.system == "Be brief.\n\nBe\nkind."
    assert request.history == (
        Turn("user", (TextPart("Hi"), TextPart("Look:"), ImagePart("image/png", "aGk="))),
        Turn(
            "assistant",
            (TextPart("Let me see."), ToolUsePart("t1", "f", {"a": 1}), ToolUsePart("t2", "f", {})),
        ),
        Turn(
            "user",
            (ToolResultPart("t2", "two\nlines"), ToolResultPart("t1", "done"), TextPart("And?")),
        ),
        Turn("assistant", (TextPart("So."), TextPart("No."), TextPart("Never."))),
    )
    assert request.prompt == (DocumentPart("text/plain", "x", "x.md"), TextPart(" spaces stay "))


IMAGE = "data:image/png;base64,aGk="
TEXTS = st.text(max_size=12)
CONTENTS = TEXTS | st.lists(TEXTS.map(lambda text: {"type": "text", "text": text}), max_size=3)
MESSAGES = st.lists(
    st.tuples(st.sampled_from(["system", "developer", "user", "assistant"]), CONTENTS), max_size=8
)


def pieces(content: str | list[dict[str, str]]) -> list[str]:
    return [content] if isinstance(content, str) else [part["text"] for part in content]


@given(MESSAGES, TEXTS.filter(str.strip))
def test_every_word_arrives_once_in_order_and_sides_alternate(
    said: list[tuple[str, str | list[dict[str, str]]]], last: str
) -> None:
    said = [*said, ("user", last)]
    request = translated(messages=[{"role": role, "content": content} for role, content in said])
    turns = [*request.history, Turn("user", request.prompt)]
    assert [turn.role for turn in turns] == ["user", "assistant"] * (len(turns) // 2) + ["user"] * (
        len(turns) % 2
    )
    assert turns[-1].role == "user"
    got = [(turn.role, part.text) for turn in turns for part in turn.parts if isinstance(part, TextPart)]
    told = [
        (role, text) for role, content in said if role in {"user", "assistant"} for text in pieces(content)
    ]
    told = [(role, text) for role, text in told if text.strip()]
    if told[0][0] == "assistant":
        told.insert(0, ("user", "."))
    assert got == told
    system = ["\n".join(pieces(content)) for role, content in said if role in {"system", "developer"}]
    assert (request.system or "") == "\n\n".join(text for text in system if text)
    assert decode_request(encode_request(request)) == request


@pytest.mark.parametrize(
    ("fields", "sampling"),
    [
        ({}, Sampling()),
        ({"max_tokens": 5}, Sampling(max_output_tokens=5)),
        ({"max_tokens": 5, "max_completion_tokens": 6}, Sampling(max_output_tokens=6)),
        ({"temperature": 0}, Sampling(temperature=0.0)),
        ({"temperature": 1.7}, Sampling(temperature=1.0)),
        ({"top_p": 0.1}, Sampling(top_p=0.1)),
        ({"stop": "x"}, Sampling(stop=("x",))),
        ({"stop": ["x", " ", "y"]}, Sampling(stop=("x", "y"))),
        ({"stop": [], "n": 1, "tools": []}, Sampling()),
    ],
)
def test_wishes_for_the_sampling(fields: dict[str, Any], sampling: Sampling) -> None:
    assert translated(**fields).sampling == sampling


# Models and agents


def registry(*served: str, gone: tuple[str, ...] = ()) -> Registry:
    records = {name: AgentRecord(name=name, description="", created=1) for name in (*served, *gone)}
    worker = WorkerRecord(id="w", host="h", agents=served, slots=1, busy=0, cli_version="2")
    return Registry(workers=(worker,) if served else (), agents=records)


@pytest.mark.parametrize(
    ("model", "default", "choice"),
    [
        ("a", None, Choice("a")),
        ("b/opus", None, Choice("b", "opus")),
        ("b/claude-sonnet-5-20260101", None, Choice("b", "claude-sonnet-5-20260101")),
        ("sonnet[1m]", None, Choice("a", "sonnet[1m]")),
        ("haiku", "b", Choice("b", "haiku")),
        ("gone", None, Choice("gone")),
        ("a@v1", None, Choice("a", revision="v1")),
        ("a@team/v1.2-rc_1", None, Choice("a", revision="team/v1.2-rc_1")),
        ("a@v1/opus", "b", Choice("a", "opus", "v1")),
        ("a@team/v1/opus", None, Choice("a", "opus", "team/v1")),
        ("a@opus", None, Choice("a", revision="opus")),
        ("gone@v1", None, Choice("gone", revision="v1")),
        ("a@", None, 404),
        ("a@/opus", None, 404),
        ("a@--all", None, 404),
        ("a@-x/opus", None, 404),
        ("a@v1..v2", None, 404),
        ("a@v1@{0}", None, 404),
        ("a@v1:x", None, 404),
        ("a@v1^", None, 404),
        ("a@v1\n", None, 404),
        ("a@" + "x" * 101, None, 404),
        ("x@v1", None, 404),
        ("opus@v1", None, 404),
        ("a/opus@v1", None, 404),
        ("a/gpt-4", None, 404),
        ("a/", None, 404),
        ("/opus", None, 404),
        ("x/opus", None, 404),
        ("gpt-4", None, 404),
        ("A", None, 404),
        ("", None, 404),
        ("a\x00", None, 404),
        ("haiku", "elsewhere", 503),
    ],
)
def test_what_a_model_name_stands_for(model: str, default: str | None, choice: Choice | int) -> None:
    known = registry("a", "b", gone=("gone",))
    if isinstance(choice, Choice):
        assert resolve(model, known, default) == choice
        return
    with pytest.raises(ApiError) as refusal:
        resolve(model, known, default)
    assert refusal.value.status == choice
    assert refusal.value.code == ("model_not_found" if choice == 404 else "agent_unavailable")


def test_without_a_worker_there_is_no_model() -> None:
    assert listed(registry()) == []
    assert listed(registry("b", "a")) == ["b", "a", "haiku", "opus", "sonnet"]
    with pytest.raises(ApiError) as refusal:
        resolve("opus", registry(), None)
    assert (refusal.value.status, refusal.value.is_retryable) == (503, True)


@given(st.text(min_size=300))
def test_an_unknown_name_is_not_repeated_at_length(name: str) -> None:
    with pytest.raises(ApiError) as refusal:
        resolve(name, registry("a"), None)
    assert len(refusal.value.message) < 500


@pytest.mark.parametrize(
    ("name", "is_model"),
    [
        ("opus", True),
        ("opusplan", True),
        ("default", True),
        ("claude-opus-5", True),
        ("claude-x[1m]", True),
        ("claude-", False),
        ("claude", False),
        ("Opus", False),
        ("opus ", False),
        ("opus\n", False),
        ("claude-x\n--dangerously", False),
        ("claude-" + "x" * 81, False),
        ("gpt-4", False),
        ("", False),
    ],
)
def test_which_names_are_claudes(name: str, is_model: bool) -> None:
    assert is_claude_model(name) is is_model


def test_agents_are_directories_with_names(tmp_path: Any) -> None:
    for name in ("first", "My Agent!", "third", "with=sign"):
        (tmp_path / name / ".claude").mkdir(parents=True)
    (tmp_path / "first" / "CLAUDE.md").write_text("\n\n# The title\nMore.\n")
    (tmp_path / "third" / ".claude" / "CLAUDE.md").write_bytes(b"\xff" + b"x" * 500)
    entries = [
        f"{tmp_path}/first",
        f"{tmp_path}/My Agent!/",
        f"3.x_y-z={tmp_path}/third",
        f"{tmp_path}/with=sign",
    ]
    agents = parse_agents(entries)
    assert [agent.name for agent in agents] == ["first", "my-agent", "3.x_y-z", "with-sign"]
    assert [agent.directory.name for agent in agents] == ["first", "My Agent!", "third", "with=sign"]
    assert agents[0].description == "The title"
    assert len(agents[2].description) == 200
    assert parse_agents([]) == ()


@pytest.mark.parametrize(
    ("entries", "complaint"),
    [
        (["gone"], "not there"),
        (["a=gone"], "not there"),
        (["A=d"], "cannot be an agent's name"),
        (["-a=d"], "cannot be an agent's name"),
        (["..=d"], "cannot be an agent's name"),
        (["a b=d"], "cannot be an agent's name"),
        (["a" * 65 + "=d"], "cannot be an agent's name"),
        (["opus=d"], "Claude model's name"),
        (["claude-x=d"], "Claude model's name"),
        (["d", "d=e"], "Two agents"),
        (["file"], "is not a directory"),
    ],
)
def test_an_agent_that_cannot_be_served_is_said(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, entries: list[str], complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d").mkdir()
    (tmp_path / "e").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(AgentError, match=complaint):
        parse_agents(entries)


@given(st.text())
def test_no_agents_name_leads_out_of_its_place(name: str) -> None:
    try:
        agents = parse_agents([f"{name}=."])
    except AgentError:
        return
    for agent in agents:
        assert agent.name not in {"", ".", ".."}
        assert not set(agent.name) & set("/\\\x00 \n")


# Errors


def test_every_way_to_fail_has_its_answer() -> None:
    assert set(_ANSWERS) == set(ErrorKind)
    codes = [answer.code for answer in _ANSWERS.values()]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize("kind", list(ErrorKind))
def test_a_failed_run_is_not_repeated_by_a_client_by_itself(kind: ErrorKind) -> None:
    error = failed(RunError(kind, "Said.", 0.2), "run_1")
    assert 400 <= error.status < 600
    assert error.status != 401  # the client's own key is good
    assert error.message == "Said."
    assert error.headers == {
        "retry-after": "1",
        "retry-after-ms": "200",
        "x-should-retry": "false",
        "x-backline-run-id": "run_1",
    }


def test_a_cancelled_run_is_a_conflict() -> None:
    error = cancelled(RunCancelled(reason="Why."), "run_1")
    assert (error.status, error.message, error.code) == (409, "Why.", "run_cancelled")
