"""A client's functions are tools of the model, whose calls are the client's to make."""

from __future__ import annotations

import json

from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from scripted_model import call, script, text, use_tool
from tests.support.stack import Stack

WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


async def test_a_call_is_told_and_its_result_reaches_the_model(stack: Stack) -> None:
    plan = script(
        call(text("Let me look. "), use_tool("get_weather", {"city": "Paris"})), call(text("Sunny."))
    )
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": f"Weather in Paris? {plan}"}]
    async with stack.sdk() as client:
        first = await client.chat.completions.create(model="agent", messages=messages, tools=[WEATHER])
        choice = first.choices[0]
        assert choice.finish_reason == "tool_calls"
        assert choice.message.tool_calls is not None
        (made,) = choice.message.tool_calls
        assert made.type == "function"
        assert (made.function.name, json.loads(made.function.arguments)) == ("get_weather", {"city": "Paris"})
        messages.append(choice.message.model_dump(exclude_none=True))  # type: ignore[arg-type]
        messages.append({"role": "tool", "tool_call_id": made.id, "content": "22 degrees"})
        second = await client.chat.completions.create(model="agent", messages=messages, tools=[WEATHER])
    assert second.choices[0].finish_reason == "stop"
    assert second.choices[0].message.content == "Sunny."
