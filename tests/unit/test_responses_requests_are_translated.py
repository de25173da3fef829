"""A response's request means the same as the chat request in its words, and errors name its own places."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from api.decode import decode_body
from api.errors import ApiError
from api.media.load import MediaPart
from api.models import Choice
from api.openai import policy as chat_policy
from api.openai.responses.as_chat import Places, as_chat, require_answers
from api.openai.responses.items import kept_items, raw_items, read_items, with_references
from api.openai.responses.open_items import CallName
from api.openai.responses.policy import ignored_fields
from api.openai.responses.tools import chat_tools
from api.openai.responses.wire import ResponsesRequest
from api.openai.translate import translate
from api.openai.wire import ChatRequest, ImageContent, UserMessage
from shared.content import DocumentPart, ImagePart, TextPart, ToolResultPart, ToolUsePart, Turn
from shared.runs import ClientTool, JsonOutput, RunRequest, Sampling, ToolChoice

HELLO = TextPart("Hello.")
CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {"type": "function", "name": "weather", "description": "Tells.", "parameters": CITY, "strict": True}
CALL = {"type": "function_call", "call_id": "call_a", "name": "weather", "arguments": '{"city": "Paris"}'}
USER = {"role": "user", "content": "?"}
RESULT = {"type": "function_call_output", "call_id": "call_a", "output": "Rain."}


def decoded(**fields: Any) -> tuple[ResponsesRequest, list[str]]:
    body = msgspec.json.encode({"model": "a", "input": "Hello."} | fields)
    return decode_body(body, ResponsesRequest, nested=["claude_options", "backline", "text", "reasoning"])


def chat_of(**fields: Any) -> tuple[ChatRequest, Places]:
    request, _ = decoded(**fields)
    items = read_items(raw_items(request.input), "input")
    require_answers(items, is_known=False)
    return as_chat(request, items, chat_tools(request))


def translated(**fields: Any) -> RunRequest:
    chat, places = chat_of(**fields)
    with places.said_in():
        chat_policy.ignored_fields(chat, ())
        return translate(
            chat,
            Choice(agent="a"),
            tenant="default",
            request_id="req",
            history_limit=9,
            media={
                (number, index): _part(part)
                for number, message in enumerate(chat.messages)
                if isinstance(message, UserMessage) and not isinstance(message.content, str)
                for index, part in enumerate(message.content)
            },
        )


def _part(part: object) -> MediaPart:
    if isinstance(part, ImageContent):
        return ImagePart("image/png", part.image_url.url)
    return DocumentPart("text/plain", "…")


def ignored(**fields: Any) -> list[str]:
    request, unknown = decoded(**fields)
    return ignored_fields(request, unknown, chat_tools(request).ignored)


def refused(**fields: Any) -> tuple[int, str | None, str | None]:
    def ask() -> None:
        ignored(**fields)
        translated(**fields)

    with pytest.raises(ApiError) as refusal:
        ask()
    return refusal.value.status, refusal.value.code, refusal.value.param


def test_a_text_is_the_users_message() -> None:
    run = translated(input="Hello.", instructions="Be brief.")
    assert (run.prompt, run.system, run.history) == ((HELLO,), "Be brief.", ())


def test_items_are_turns() -> None:
    run = translated(
        instructions="Be brief.",
        input=[
            {"role": "developer", "content": [{"type": "input_text", "text": "Be kind."}]},
            {"role": "user", "content": "What of Paris?"},
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "…"},
            {
                "type": "message",
                "role": "assistant",
                "id": "msg_1",
                "status": "completed",
                "content": [{"type": "output_text", "text": "I look.", "annotations": []}],
            },
            CALL,
            {**CALL, "call_id": "call_b"},
            RESULT,
            {**RESULT, "call_id": "call_b", "output": [{"type": "input_text", "text": "Sun."}]},
            {"role": "user", "content": [{"type": "input_text", "text": "Hello."}]},
        ],
    )
    city = {"city": "Paris"}
    calls = (ToolUsePart("call_a", "weather", city), ToolUsePart("call_b", "weather", city))
    assert run.system == "Be brief.\n\nBe kind."
    assert run.history == (
        Turn("user", (TextPart("What of Paris?"),)),
        Turn("assistant", (TextPart("I look."), *calls)),
    )
    assert run.prompt == (ToolResultPart("call_a", "Rain."), ToolResultPart("call_b", "Sun."), HELLO)


def test_images_and_files_are_media_and_those_of_an_output_follow_it() -> None:
    image = {"type": "input_image", "image_url": "data:a", "detail": "auto"}
    file = {"type": "input_file", "file_url": "https://example.com/a.txt"}
    run = translated(input=[{"role": "user", "content": [image, file]}])
    assert run.prompt == (ImagePart("image/png", "data:a"), DocumentPart("text/plain", "…"))
    outputs = [{**RESULT, "output": [image]}, {**RESULT, "call_id": "call_b"}]
    run = translated(input=[USER, CALL, {**CALL, "call_id": "call_b"}, *outputs])
    assert run.prompt == (
        ToolResultPart("call_a", ""),
        ToolResultPart("call_b", "Rain."),
        ImagePart("image/png", "data:a"),
    )


def test_options_mean_what_they_mean_in_a_chat() -> None:
    run = translated(
        max_output_tokens=99,
        temperature=1.5,
        top_p=0.5,
        reasoning={"effort": "minimal"},
        text={"format": {"type": "json_schema", "name": "city", "schema": CITY, "strict": True}},
    )
    assert run.sampling == Sampling(max_output_tokens=99, temperature=1.0, top_p=0.5, effort="low")
    assert run.output == JsonOutput(schema=CITY)
    assert translated(text={"format": {"type": "json_object"}}).output == JsonOutput()
    assert translated(text={"format": {"type": "text"}}).output is None


def test_tools_are_the_clients_under_flat_names() -> None:
    space = {
        "type": "namespace",
        "name": "mcp__books__",
        "description": "",
        "tools": [{**WEATHER, "strict": None}],
    }
    note = {"type": "custom", "name": "note"}
    request, _ = decoded(tools=[WEATHER, space, note, {"type": "web_search"}, {"type": "image_generation"}])
    tools = chat_tools(request)
    assert tools.names == {
        "weather": CallName("weather"),
        "mcp__books__weather": CallName("weather", "mcp__books__"),
        "note": CallName("note", None, True),
    }
    assert tools.ignored == ["tools.web_search", "tools.image_generation"]
    run = translated(tools=[WEATHER, space, note], parallel_tool_calls=False)
    assert run.tools[0] == ClientTool("weather", "Tells.", CITY, strict=True)
    assert [tool.name for tool in run.tools] == ["weather", "mcp__books__weather", "note"]
    assert run.tool_choice == ToolChoice(is_parallel=False)
    call = {**CALL, "namespace": "mcp__books__"}
    run = translated(tools=[space], input=[{"role": "user", "content": "?"}, call, RESULT])
    assert isinstance(run.history[-1].parts[0], ToolUsePart)
    assert run.history[-1].parts[0].name == "mcp__books__weather"


@pytest.mark.parametrize(
    ("choice", "is_taken_as"),
    [
        ("required", ToolChoice("required")),
        ("none", ToolChoice("none")),
        ({"type": "function", "name": "weather"}, ToolChoice("named", "weather")),
        ({"type": "custom", "name": "note"}, ToolChoice("named", "note")),
    ],
)
def test_a_tool_choice_is_honoured(choice: object, is_taken_as: ToolChoice) -> None:
    assert (
        translated(tools=[WEATHER, {"type": "custom", "name": "note"}], tool_choice=choice).tool_choice
        == is_taken_as
    )


def test_allowed_tools_leave_out_the_others() -> None:
    allowed = {
        "type": "allowed_tools",
        "mode": "required",
        "tools": [{"type": "function", "name": "weather"}],
    }
    run = translated(tools=[WEATHER, {**WEATHER, "name": "other"}], tool_choice=allowed)
    assert [tool.name for tool in run.tools] == ["weather"]
    assert run.tool_choice == ToolChoice("required")


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"input": []}, "invalid_value", "input"),
        ({"input": "  "}, "invalid_value", "input"),
        ({"input": 7}, "invalid_type", "input"),
        ({"input": [{"type": "no_such"}]}, "invalid_value", "input[0].type"),
        ({"input": [{"role": "nobody", "content": "?"}]}, "invalid_type", "input[0].role"),
        ({"input": [{"role": "user"}]}, "missing_required_parameter", "input[0].content"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "unsupported_value",
            "input[0].content[0]",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            "missing_required_parameter",
            "input[0].content[0].image_url",
        ),
        ({"input": [USER, {"role": "assistant", "content": "!"}]}, "invalid_value", "input[1]"),
        ({"input": [USER, CALL]}, "invalid_value", "input"),
        ({"input": [USER, RESULT]}, "invalid_value", "input[1].call_id"),
        ({"input": [USER, {**CALL, "arguments": "{"}, RESULT]}, "invalid_value", "input[1].arguments"),
        ({"input": [USER] * 10}, "array_above_max_length", "input"),
        ({"max_output_tokens": 15}, "integer_below_min_value", "max_output_tokens"),
        ({"max_output_tokens": 2**40}, "invalid_value", "max_output_tokens"),
        ({"max_tool_calls": 0}, "invalid_value", "max_tool_calls"),
        ({"temperature": 3}, "invalid_value", "temperature"),
        ({"top_logprobs": 1}, "unsupported_parameter", "top_logprobs"),
        ({"reasoning": {"effort": "huge"}}, "invalid_value", "reasoning.effort"),
        ({"text": {"format": {"type": "xml"}}}, "invalid_value", "text.format.type"),
        ({"text": {"format": {"type": "json_schema"}}}, "missing_required_parameter", "text.format.name"),
        (
            {"text": {"format": {"type": "json_schema", "name": "a", "schema": {"type": "string"}}}},
            "invalid_json_schema",
            "text.format.schema",
        ),
        ({"prompt": {"id": "p"}}, "unsupported_parameter", "prompt"),
        ({"background": True, "store": False}, "invalid_value", "background"),
        (
            {"previous_response_id": "resp_a", "conversation": "conv_a"},
            "mutually_exclusive_parameters",
            "previous_response_id",
        ),
        ({"truncation": "maybe"}, "invalid_value", "truncation"),
        ({"service_tier": "best"}, "invalid_value", "service_tier"),
        ({"tools": [{"type": "mcp", "server_label": "a"}]}, "unsupported_value", "tools[0].type"),
        ({"tools": [{"type": "shell"}], "tool_choice": "required"}, "unsupported_value", "tools[0].type"),
        (
            {"tools": [{"type": "web_search"}, {"type": "function", "name": "a b"}]},
            "invalid_value",
            "tools[1].name",
        ),
        ({"tools": [{"type": "function"}]}, "invalid_type", "tools[0].name"),
        (
            {"tools": [{**WEATHER, "parameters": {"type": "string"}}]},
            "invalid_function_parameters",
            "tools[0].parameters",
        ),
        ({"tools": [WEATHER, WEATHER]}, "invalid_value", "tools"),
        (
            {"tools": [WEATHER], "tool_choice": {"type": "function", "name": "b"}},
            "invalid_value",
            "tool_choice",
        ),
        ({"tools": [WEATHER], "tool_choice": {"type": "mcp"}}, "unsupported_value", "tool_choice"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_its_own_name(
    fields: dict[str, Any], code: str, param: str
) -> None:
    assert refused(**fields) == (400, code, param)


def test_an_errors_words_name_the_same_place() -> None:
    with pytest.raises(ApiError) as refusal:
        translated(input=[USER, {**CALL, "arguments": "{"}, RESULT])
    assert refusal.value.message == "Invalid 'input[1].arguments': must be a JSON object as text."


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({}, []),
        ({"prompt_cache_key": "k", "client_metadata": {}, "include": ["reasoning.encrypted_content"]}, []),
        ({"text": {"verbosity": "medium"}, "truncation": "disabled", "user": {"id": 1}}, []),
        ({"text": {"verbosity": "low"}, "truncation": "auto"}, ["text.verbosity", "truncation"]),
        (
            {"no_such": 1, "reasoning": {"mode": "pro", "other": 1}},
            ["no_such", "reasoning.mode", "reasoning.other"],
        ),
        ({"include": ["message.output_text.logprobs"]}, ["include.message.output_text.logprobs"]),
        ({"max_tool_calls": 3, "moderation": {}}, ["moderation"]),
        ({"claude_options": {"output_format": "json"}}, ["claude_options.output_format"]),
        ({"tools": [{"type": "web_search_preview"}]}, ["tools.web_search_preview"]),
    ],
)
def test_what_has_no_effect_is_named(fields: dict[str, Any], names: list[str]) -> None:
    assert ignored(**fields) == names


def test_references_stand_for_their_items() -> None:
    known = {"msg_1": {"type": "message", "role": "user", "content": "Hello."}}
    assert with_references(raw_items([{"id": "msg_1"}]), known) == [known["msg_1"]]
    with pytest.raises(ApiError) as refusal:
        with_references(raw_items([{"type": "item_reference", "id": "msg_2"}]), known)
    assert (refusal.value.status, refusal.value.code) == (404, "item_not_found")


def test_kept_items_have_ids_and_parts_and_can_be_read_again() -> None:
    raw = raw_items([USER, {"role": "assistant", "content": "!", "id": "mine"}, CALL, RESULT])
    kept = kept_items(raw, "0" * 44)
    assert [item["id"] for item in kept] == [
        f"msg_{'0' * 44}_in0",
        "mine",
        f"fc_{'0' * 44}_in2",
        f"fco_{'0' * 44}_in3",
    ]
    assert kept[0]["content"] == [{"type": "input_text", "text": "?"}]
    assert [one.item.__class__ for one in read_items(kept, "input")] == [
        one.item.__class__ for one in read_items(raw, "input")
    ]
