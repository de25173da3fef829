"""A Messages request into a run's request: what is wrong is named, what is right arrives whole."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import msgspec
import pytest

from api.anthropic.estimate import estimate
from api.anthropic.image_size import image_size
from api.anthropic.media import load_media
from api.anthropic.translate import ignored_fields, shows_thinking, translate
from api.anthropic.wire import CountRequest, MessagesRequest
from api.decode import decode_body
from api.errors import ApiError
from api.media.fetch import Fetcher
from api.media.load import Media
from api.models import Choice
from api.places import Place
from shared.content import DocumentPart, ImagePart, TextPart, ToolResultPart, ToolUsePart, Turn
from shared.prefix import prefix_after, prefix_of
from shared.runs import JsonOutput, RunRequest, ToolChoice
from shared.settings import Settings

PLACE = Place(Choice(agent="a", claude_model="opus"))
SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}}
TOOL = {"name": "f", "input_schema": SCHEMA}
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
CACHED = {"cache_control": {"type": "ephemeral"}}


def decoded(**fields: Any) -> tuple[MessagesRequest, list[str]]:
    body = {"model": "a", "max_tokens": 9, "messages": [user("Hello.")]} | fields
    return decode_body(msgspec.json.encode(body), MessagesRequest, nested=["claude_options", "backline"])


def translated(**fields: Any) -> RunRequest:
    request, _ = decoded(**fields)
    media = asyncio.run(load_media(request.messages, Media(Fetcher(with_private=False), Settings())))
    return translate(request, PLACE, tenant="default", request_id="req", history_limit=99, media=media)


def refused(**fields: Any) -> str | None:
    with pytest.raises(ApiError) as refusal:
        translated(**fields)
    assert refusal.value.status == 400
    assert refusal.value.type == "invalid_request_error"
    return refusal.value.param


def user(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content[0] if isinstance(content[0], str) else list(content)}


def assistant(*content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content[0] if isinstance(content[0], str) else list(content)}


def said(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text, **CACHED}


def use(id_: str, **arguments: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": id_, "name": "f", "input": arguments, **CACHED}


def result(id_: str, content: Any = "done", **fields: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": id_, "content": content, **fields}


def image(**source: Any) -> dict[str, Any]:
    given = {"type": "base64", "media_type": "image/png", "data": PNG} | source
    return {"type": "image", "source": given, **CACHED}


THOUGHT = {"type": "thinking", "thinking": "Hm.", "signature": "xyz"}
REDACTED = {"type": "redacted_thinking", "data": "xyz"}
SEARCH = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "x"}}
FOUND = {"type": "web_search_tool_result", "tool_use_id": "s", "content": []}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [user("  ")]}, "messages"),
        ({"messages": [user("x"), assistant("y")]}, "messages"),
        ({"messages": [user(5)]}, "messages[0].content[0]"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
        ({"messages": [user({"type": "video"})]}, "messages[0].content[0].type"),
        ({"messages": [user(image(type="url", url="ftp://x"))]}, "messages[0].content[0].source"),
        ({"messages": [user(image(type="file", file_id="x"))]}, "messages[0].content[0].source"),
        ({"messages": [user(image(media_type="image/bmp"))]}, "messages[0].content[0].source"),
        ({"messages": [user(image(data="%"))]}, "messages[0].content[0].source"),
        (
            {"messages": [user("x"), assistant(use("t1")), user(result("t1", [image(data="%")]))]},
            "messages[2].content[0].content[0].source",
        ),
        ({"messages": [user(result("t1"))]}, "messages[0].content[0].tool_use_id"),
        (
            {"messages": [user("x"), assistant(use("t1")), user(result("t2"))]},
            "messages[2].content[0].tool_use_id",
        ),
        (
            {"messages": [user("x"), assistant(use("t1")), user(result("t1"), result("t1"))]},
            "messages[2].content[1].tool_use_id",
        ),
        (
            {"messages": [user("x"), assistant(use("t1")), user(result("t1")), user(result("t1"))]},
            "messages[3].content[0].tool_use_id",
        ),
        ({"messages": [user("x"), assistant(use("t1")), user("y")]}, "messages"),
        ({"temperature": 1.1}, "temperature"),
        ({"top_p": -1}, "top_p"),
        ({"stop_sequences": ["x"] * 17}, "stop_sequences"),
        ({"stop_sequences": ["x" * 257]}, "stop_sequences"),
        ({"tools": [{"name": "f"}]}, "tools[0].input_schema"),
        ({"tools": [{"name": "f f", "input_schema": {}}]}, "tools[0].name"),
        ({"tools": [{"name": "f", "input_schema": {"type": "array"}}]}, "tools[0].input_schema"),
        ({"tools": [TOOL, TOOL]}, "tools"),
        ({"tools": [{"type": "computer_20250124", "name": "computer"}]}, "tools[0].type"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "g"}}, "tool_choice"),
        ({"tool_choice": {"type": "some"}}, "tool_choice.type"),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": {"type": "array"}}}},
            "output_config.format.schema",
        ),
    ],
)
def test_what_cannot_be_honoured_is_named(fields: dict[str, Any], param: str) -> None:
    assert refused(**fields) == param


def test_a_conversation_becomes_alternating_turns() -> None:
    run = translated(
        system=[said("One."), said("Two.")],
        messages=[
            assistant("Welcome."),
            user("Hi"),
            user(said("there"), said(" "), image()),
            {"role": "system", "content": "Three."},
            assistant(THOUGHT, said("So: "), SEARCH, FOUND, said("this."), REDACTED, use("t1", x=2**60)),
            user(
                said("First."),
                result("t1", [said("a"), image(), said("b")], is_error=True),
                {"type": "search_result", "source": "http://x", "title": "T", "content": [said("found")]},
            ),
        ],
    )
    picture = ImagePart("image/png", PNG)
    assert run.history == (
        Turn("user", (TextPart("."),)),
        Turn("assistant", (TextPart("Welcome."),)),
        Turn("user", (TextPart("Hi"), TextPart("there"), picture)),
        Turn("assistant", (TextPart("So: this."), ToolUsePart("t1", "f", {"x": 2**60}))),
    )
    assert run.prompt == (
        ToolResultPart("t1", "a\nb", is_error=True),
        TextPart("First."),
        picture,
        TextPart("T\nhttp://x\n\nfound"),
    )
    assert run.system == "One.\n\nTwo.\n\nThree."
    assert (run.agent, run.model, run.tenant, run.request_id) == ("a", "opus", "default", "req")


def test_documents_become_documents() -> None:
    pdf = base64.b64encode(b"%PDF-1.4").decode()
    source = {"type": "base64", "media_type": "application/pdf", "data": pdf}
    plain = {"type": "text", "media_type": "text/plain", "data": "9 to 5"}
    blocks = {"type": "content", "content": [said("x"), image()]}
    documents = [
        {"type": "document", "title": "a.pdf", "context": "The rules.", "source": source, **CACHED},
        {"type": "document", "title": "Hours", "source": plain, "citations": {"enabled": True}},
        {"type": "document", "title": "Both", "source": blocks},
    ]
    assert translated(messages=[user(*documents)]).prompt == (
        TextPart("The rules."),
        DocumentPart("application/pdf", pdf, "a.pdf"),
        DocumentPart("text/plain", "9 to 5", "Hours"),
        TextPart("Both"),
        TextPart("x"),
        ImagePart("image/png", PNG),
    )


@pytest.mark.parametrize(
    "blocks",
    [
        (said("One.\n\nTwo."), use("t1", x=1)),
        (THOUGHT, said("One."), THOUGHT, said("\n\nTwo."), use("t1", x=1)),
        (said("One."), use("t1", x=1), said("\n\nTwo.  ")),
    ],
)
def test_an_answer_sent_back_in_whatever_blocks_is_the_same_history(blocks: Any) -> None:
    first = translated(messages=[user("Hello.")])
    next_ = translated(messages=[user("Hello."), assistant(*blocks), user(result("t1"))])
    answered = prefix_after(first, "One.\n\nTwo.", [ToolUsePart("t1", "f", {"x": 1})])
    assert prefix_of(next_) == answered


@pytest.mark.parametrize(
    ("fields", "temperature", "top_p", "effort"),
    [
        ({}, None, None, None),
        ({"temperature": 0, "top_p": 0.5}, 0, 0.5, None),
        ({"temperature": 1, "top_p": 1.0}, None, None, None),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}}, None, None, "none"),
        ({"thinking": {"type": "adaptive"}}, None, None, None),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, None, None, "max"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, None, None, "low"),
        ({"thinking": {"type": "enabled", "budget_tokens": 10_000}}, None, None, "medium"),
        ({"thinking": {"type": "enabled", "budget_tokens": 32_000}}, None, None, "high"),
        ({"claude_options": {"effort": "xhigh"}}, None, None, "xhigh"),
    ],
)
def test_sampling_is_told(fields: Any, temperature: Any, top_p: Any, effort: Any) -> None:
    sampling = translated(**fields, stop_sequences=["a", " "]).sampling
    assert (sampling.temperature, sampling.top_p, sampling.effort) == (temperature, top_p, effort)
    assert (sampling.max_output_tokens, sampling.stop) == (9, ("a",))


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, ToolChoice()),
        ({"type": "auto", "disable_parallel_tool_use": True}, ToolChoice(is_parallel=False)),
        ({"type": "any"}, ToolChoice(mode="required")),
        ({"type": "tool", "name": "f"}, ToolChoice(mode="named", name="f")),
        ({"type": "none"}, ToolChoice(mode="none")),
    ],
)
def test_a_choice_of_tools_is_told(choice: Any, expected: ToolChoice) -> None:
    run = translated(tools=[{**TOOL, "type": "custom", "strict": True, **CACHED}], tool_choice=choice)
    assert run.tool_choice == expected
    (tool,) = run.tools
    assert (tool.name, tool.strict, tool.parameters) == ("f", True, SCHEMA)


@pytest.mark.parametrize("where", ["output_config", "output_format"])
def test_a_schema_for_the_answer_is_told(where: str) -> None:
    asked: Any = {"type": "json_schema", "schema": SCHEMA}
    fields = {where: {"format": asked} if where == "output_config" else asked}
    assert translated(**fields).output == JsonOutput(schema=SCHEMA)


def test_what_has_no_effect_is_named() -> None:
    search = {"type": "web_search_20250305", "name": "web_search", "max_uses": 2}
    request, unknown = decoded(top_k=5, container="x", tools=[search, TOOL], backline={"x": 1})
    assert ignored_fields(request, unknown) == ["backline.x", "container", "tools[0]", "top_k"]
    assert [tool.name for tool in translated(tools=[search, TOOL]).tools] == ["f"]


@pytest.mark.parametrize(
    ("fields", "is_shown"),
    [
        ({}, False),
        ({"thinking": {"type": "disabled"}}, False),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, True),
        ({"thinking": {"type": "adaptive", "display": "omitted"}}, False),
        ({"backline": {"show": ["thinking"]}}, True),
    ],
)
def test_thinking_is_shown_when_asked_for(fields: Any, is_shown: bool) -> None:
    assert shows_thinking(decoded(**fields)[0]) is is_shown


def counted(*content: Any, **fields: Any) -> int:
    body = {"model": "a", "messages": [user(*content)]} | fields
    return estimate(decode_body(msgspec.json.encode(body), CountRequest)[0])


def test_an_estimate_grows_with_what_is_said() -> None:
    short = counted("Hello.")
    assert counted("word " * 600) == pytest.approx(short + 1000, abs=5)
    assert counted("字" * 600) == pytest.approx(short + 600, abs=5)
    assert counted("Hello.", tools=[TOOL]) > short + 300
    assert counted("Hello.", system="Be brief. " * 30) == short + 100
    document = {"type": "document", "source": {"type": "text", "data": "word " * 600}}
    assert counted(document) == pytest.approx(1000, abs=10)
    assert counted(image()) == 1604  # a size that cannot be read


@pytest.mark.parametrize(
    ("head", "size"),
    [
        ("89504e470d0a1a0a0000000d49484452000003e8000001f4", (1000, 500)),
        ("4749463839610a001400", (10, 20)),
        ("ffd8ffe00004aabbffc000110800c8012c03", (300, 200)),
        ("52494646000000005745425056503858" + "00" * 8 + "630000c70000", (100, 200)),
        ("5249464600000000574542505650384c" + "00000000" + "2f63c03100" + "00" * 5, (100, 200)),
        ("52494646000000005745425056503820" + "00" * 10 + "6400c800", (100, 200)),
        ("89504e47", None),
        ("ffd8ffe0ffff0000", None),
        ("00", None),
    ],
)
def test_an_images_size_is_read_from_its_head(head: str, size: tuple[int, int] | None) -> None:
    data = msgspec.json.decode(msgspec.json.encode(bytes.fromhex(head)), type=str)
    assert image_size(data) == size


def test_an_images_tokens_go_by_its_pixels() -> None:
    png = bytes.fromhex("89504e470d0a1a0a0000000d49484452000003e8000001f4")
    data = msgspec.json.decode(msgspec.json.encode(png), type=str)
    assert counted(image(data=data)) == 4 + 667
