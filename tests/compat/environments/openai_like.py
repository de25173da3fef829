"""Scenarios of LlamaIndex's `OpenAILike`: JSON in, JSON out."""

from __future__ import annotations

import json
import sys
from typing import Any

import openai
from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

given: dict[str, Any] = json.load(sys.stdin)
llm = OpenAILike(
    api_base=given["url"],
    api_key="unused",
    model=given["model"],
    is_chat_model=True,
    is_function_calling_model=True,
    context_window=200_000,
    max_retries=0,
)


class Person(BaseModel):
    name: str
    age: int


def get_weather(city: str) -> str:
    """Weather of a city."""
    return f"sunny in {city}"


def answer() -> Any:
    return llm.chat([ChatMessage(role="user", content=given["prompt"])]).message.content


def stream() -> Any:
    return [chunk.delta for chunk in llm.stream_complete(given["prompt"]) if chunk.delta]


def tools() -> Any:
    tool = FunctionTool.from_defaults(get_weather)
    history = [ChatMessage(role="user", content=given["prompt"])]
    said = llm.chat_with_tools([tool], chat_history=history, allow_parallel_tool_calls=True)
    calls = llm.get_tool_calls_from_response(said)
    results = [
        ChatMessage(
            role="tool",
            content=get_weather(**call.tool_kwargs),
            additional_kwargs={"tool_call_id": call.tool_id},
        )
        for call in calls
    ]
    last = llm.chat_with_tools([tool], chat_history=[*history, said.message, *results])
    return {"calls": [[call.tool_name, call.tool_kwargs] for call in calls], "final": last.message.content}


def structured() -> Any:
    prompt = ChatMessage(role="user", content=given["prompt"])
    raw = llm.as_structured_llm(Person).chat([prompt]).raw
    return raw.model_dump()


def image() -> Any:
    blocks = [TextBlock(text=given["prompt"]), ImageBlock(url=given["image"])]
    return llm.chat([ChatMessage(role="user", blocks=blocks)]).message.content


def error() -> Any:
    try:
        answer()
    except openai.APIError as caught:
        return type(caught).__name__
    raise AssertionError("nothing was raised")


sys.stdout.write(json.dumps(globals()[sys.argv[1]]()))
