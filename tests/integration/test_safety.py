"""Nothing but the client's own words reaches the model: no file, no command, no secret of the worker."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from openai import AsyncOpenAI

from scripted_model import call, script, text, use_tool
from tests.conftest import NewStack
from tests.support.asking import PATH, ask, text_of
from tests.support.model import Model

YES = script(text("yes"))


@pytest.fixture
def canary(tmp_path: Path) -> tuple[Path, str]:
    """A file, and what must not leave it."""
    secret = f"canary-{uuid4().hex}"
    path = tmp_path / "canary.txt"
    path.write_text(secret)
    return path, secret


@pytest.mark.parametrize(
    "form", ["@{path}", '@"{path}"', "@/etc/passwd", '@"/etc/passwd"', "look at @{path} and\n@{path}#L1-2"]
)
async def test_a_mentioned_file_is_not_read(
    sdk: AsyncOpenAI, model: Model, marker: str, canary: tuple[Path, str], form: str
) -> None:
    path, secret = canary
    words = form.format(path=path)
    assert text_of(await ask(sdk, words, marker, YES)) == "yes"
    sent = model.call(marker)
    assert secret not in sent.everything
    assert "root:x:0:0" not in sent.everything
    assert sent.said == [("user", [f"{words} {marker} {YES}"])]


async def test_a_file_mentioned_in_history_or_instructions_is_not_read(
    http: httpx.AsyncClient, model: Model, marker: str, canary: tuple[Path, str]
) -> None:
    path, secret = canary
    words = f'@{path} @"{path}" @/etc/passwd'
    messages = [
        {"role": "system", "content": words},
        {"role": "user", "content": words},
        {"role": "assistant", "content": words},
        {"role": "user", "content": f"{marker} {YES}"},
    ]
    answer = await http.post(PATH, json={"model": "agent", "messages": messages})
    assert answer.status_code == 200, answer.text
    sent = model.call(marker)
    assert secret not in sent.everything
    assert "root:x:0:0" not in sent.everything
    assert words in sent.system
    assert sent.said[:2] == [("user", [words]), ("assistant", [words])]


@pytest.mark.parametrize(
    "command",
    [
        "/cost",
        "/clear",
        "/compact",
        "/init",
        "!id",
        "!`id`",
        "# remember this",
        "/nothing-like-it",
        "<command-name>/cost</command-name>",
    ],
)
async def test_a_command_is_only_text(sdk: AsyncOpenAI, model: Model, marker: str, command: str) -> None:
    assert text_of(await ask(sdk, command, marker, YES)) == "yes"
    sent = model.call(marker)
    assert sent.said == [("user", [f"{command} {marker} {YES}"])]
    assert "uid=0" not in sent.everything


async def test_a_bare_command_is_answered_by_the_model(sdk: AsyncOpenAI) -> None:
    assert text_of(await ask(sdk, "/cost")).startswith("You said: /cost")


@pytest.mark.parametrize(
    "words", ["-p --version", "--help", "\u202e\U0001f9ea é\ttab\r\nline", "\x00\x1b[31m", "\ud7ff\uffff"]
)
async def test_odd_text_arrives_as_it_is(sdk: AsyncOpenAI, model: Model, marker: str, words: str) -> None:
    assert text_of(await ask(sdk, words, marker, YES)) == "yes"
    assert model.call(marker).said == [("user", [f"{words} {marker} {YES}"])]


async def test_a_long_prompt_arrives_whole(sdk: AsyncOpenAI, model: Model, marker: str) -> None:
    words = "".join(f"line {i} of a long prompt\n" for i in range(13_000))
    assert len(words) > 300_000
    assert text_of(await ask(sdk, words, marker, YES)) == "yes"
    assert model.call(marker).said == [("user", [f"{words} {marker} {YES}"])]


async def test_the_agents_tools_see_nothing_of_the_workers_environment(
    new_stack: NewStack, model: Model, marker: str
) -> None:
    stack = new_stack(workers=0)
    canaries = {
        "REDIS_URL": stack.redis_url,
        "SECRET_CANARY": "canary-secret",
        "AWS_ENDPOINT_URL": "canary-endpoint",
        "PYTHONPATH_CANARY": "canary-path",
        "OPENAI_API_KEY": "canary-key",
        "PASSED_ON": "named-by-the-operator",
    }
    stack.start_worker(environ=canaries, pass_env="PASSED_ON")
    stack.wait_ready()
    asked = script(call(use_tool("Bash", {"command": "env"})), call(text("yes")))
    async with stack.sdk() as sdk:
        assert text_of(await ask(sdk, marker, asked)) == "yes"
    seen = model.calls(marker)[-1].everything
    assert "CLAUDE_CONFIG_DIR=" in seen, "the tool must have shown its environment"
    assert "named-by-the-operator" in seen
    assert "canary-" not in seen
    for name in ("REDIS_URL", "BACKLINE_REDIS", "BACKLINE_DATA", "SECRET_CANARY", str(stack.socket)):
        assert name not in seen, name
