from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from scripted_model import RequestLog, Script, Text, call, fail, say, script, stall, text, tokens, use_tool
from scripted_model.directive import ModelRequest, choose_call, find_script
from shared.json_schema import mismatch

if TYPE_CHECKING:
    from scripted_model import Call


def chosen(*messages: tuple[str, Any]) -> Call:
    raw = {"model": "m", "messages": [{"role": role, "content": content} for role, content in messages]}
    return choose_call(msgspec.convert(raw, ModelRequest))


def spoken(chosen: Call) -> str:
    return "".join(step.text for step in chosen.steps if isinstance(step, Text))


def block(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def test_a_directive_reads_back_as_its_script() -> None:
    written = script(
        call(text("a >> b {c}"), stall(1), stop_reason="x"), call(use_tool("T", {"a": {"b": [1]}}))
    )
    assert find_script(f"before {written} after") == written
    assert find_script("nothing here") is None


def test_bare_steps_side_by_side_are_one_call() -> None:
    assert script(text("a"), tokens(2), call(text("b")), text("c")) == Script(
        calls=[call(text("a"), tokens(2)), call(text("b")), call(text("c"))]
    )


def test_a_counted_failure_has_a_key() -> None:
    assert fail(500, times=1).key != fail(500, times=1).key
    with pytest.raises(msgspec.ValidationError, match="needs a `key`"):
        msgspec.convert({"calls": [{"steps": [{"type": "fail", "status": 500, "times": 1}]}]}, Script)


def test_a_script_inside_a_script_is_left_to_the_sub_agent() -> None:
    inner = f"work {say('inner')}"
    outer = script(use_tool("Task", {"prompt": inner}))
    assert find_script(f"go {outer}") == outer
    assert find_script(inner) == say("inner")


def test_the_newest_directive_decides() -> None:
    old, new = (
        ("user", f"{say('old')}"),
        ("user", [block(f"{say('older')}"), block(f"{say('new')}"), block("tail")]),
    )
    assert spoken(chosen(old, ("assistant", "x"), new)) == "new"
    assert spoken(chosen(old, ("assistant", "x"), ("user", "and?"))) == "old"
    assert spoken(chosen(("user", f"{say('a')} {say('b')}"))) == "b"


def test_only_user_text_is_searched() -> None:
    result = {"type": "tool_result", "tool_use_id": "t", "content": f"{say('result')}"}
    messages = [
        ("user", f"{script(call(text('one')), call(text('two')))}"),
        ("assistant", f"{say('assistant')}"),
        ("user", [result, block("<system-reminder>be good</system-reminder>")]),
        ("system", f"{say('system')}"),
    ]
    assert spoken(chosen(*messages)) == "two"


def test_the_canned_reply_repeats_the_last_line_the_user_wrote() -> None:
    reminder = block("<system-reminder>Today is\nMonday</system-reminder>")
    reply = spoken(chosen(("user", [reminder, block("Hi.\nHow are you?\n"), reminder])))
    assert reply.startswith("You said: How are you?\n\nThis is a canned reply")
    assert len(spoken(chosen(("user", "x" * 5000)))) < 400
    assert spoken(chosen(("user", [reminder]))).startswith("This is a canned reply")


def asked_in_form(schema: Any, words: str = "Who?") -> str:
    form = {"type": "json_schema", "schema": schema}
    messages = [{"role": "user", "content": words}]
    raw = {"model": "m", "messages": messages, "output_config": {"format": form}}
    return spoken(choose_call(msgspec.convert(raw, ModelRequest)))


def an_object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


TREE = {"anyOf": [{"$ref": "#/$defs/Tree"}, {"type": "null"}]}


@pytest.mark.parametrize(
    "schema",
    [
        an_object(a={"type": "string"}, b={"type": "number"}),
        an_object(a={"enum": [3, 4]}, b={"const": None}),
        an_object(a={"anyOf": [{"type": "null"}, {"type": "string"}]}),
        {"type": "array", "items": {"type": "boolean"}, "minItems": 1},
        {"type": ["integer", "null"]},
        {"type": "string", "format": "date-time"},
        {"allOf": [{"type": "object", "required": ["a"]}, {"properties": {"a": {"type": "string"}}}]},
        {"$defs": {"Tree": an_object(left=TREE, right=TREE)}, "$ref": "#/$defs/Tree"},
    ],
)
def test_where_an_answer_has_a_form_the_canned_reply_has_it(schema: dict[str, Any]) -> None:
    assert mismatch(msgspec.json.decode(asked_in_form(schema)), schema) == ""
    assert asked_in_form(schema, f"Who? {say('No JSON.')}") == "No JSON."


@pytest.mark.parametrize(
    "schema", [True, {}, {"$ref": "#"}, {"$ref": "#/not/there"}, {"anyOf": [{"$ref": "#"}] * 2}, {"type": []}]
)
def test_a_form_that_is_none_is_answered_all_the_same(schema: Any) -> None:
    assert msgspec.json.decode(asked_in_form(schema)) in (None, "canned")


def test_the_log_is_bounded_in_number_and_bytes() -> None:
    scope: Any = {"method": "GET", "path": "/", "headers": []}
    log = RequestLog(max_requests=3, max_bytes=100)
    for _ in range(5):
        log.add(scope, b"x" * 10)
    assert [received.n for received in log.matching("x")] == [3, 4, 5]
    log.add(scope, b"y" * 95)
    assert [received.n for received in log.matching()] == [6]


def test_tokens_go_on_behind_the_last_that_was_said() -> None:
    asked = ("user", f"{script(tokens(4, goes_on=True))}")
    assert spoken(chosen(asked)) == "t0 t1 t2 t3"
    assert spoken(chosen(asked, ("assistant", "t0 t1"), ("user", "Go on."))) == " t2 t3"
    assert spoken(chosen(asked, ("assistant", "t0 t1 t2 t3"), ("user", "Go on."))) == " ."
    assert spoken(chosen(("user", "x"), ("assistant", "t0 t1"), asked)) == "t0 t1 t2 t3"
