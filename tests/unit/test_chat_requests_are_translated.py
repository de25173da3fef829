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
from api.errors import ApiError
from api.media.load import MediaPart
from api.models import Choice
from api.openai.media import Place
from api.openai.translate import translate
from api.openai.wire import ChatRequest
from shared.content import DocumentPart, ImagePart, TextPart, ToolResultPart, ToolUsePart, Turn
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
