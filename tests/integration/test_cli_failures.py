"""A CLI that does not start, dies, falls silent, takes too long, or speaks nonsense."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import httpx
import openai
import psutil
import pytest
from openai import AsyncOpenAI

from scripted_model import say, script, stall, text, tokens
from tests.support.asking import PATH, ask, body, check_envelope, stream, text_of, until_error
from tests.support.model import Model
from tests.support.stack import Stack, running_stack
from tests.support.waiting import eventually, wait_for

FAKE_CLI = f"""#!{sys.executable} -IS
import json, os, sys, time
if "--version" in sys.argv:
    print("0.0.0 (Fake)")
    raise SystemExit(0)

def say(line):
    print(line if isinstance(line, str) else json.dumps(line, separators=(",", ":")), flush=True)

def hear():
    return json.loads(sys.stdin.readline() or "{{}}")

def initialized():
    request = hear()
    say({{"type": "control_response", "response":
        {{"subtype": "success", "request_id": request["request_id"], "response": {{}}}}}})
    hear()

def delta(text):
    say({{"type": "stream_event", "event":
        {{"type": "content_block_delta", "index": 0, "delta": {{"type": "text_delta", "text": text}}}}}})

match os.path.basename(os.getcwd()):
    case "exits":
        sys.stderr.write("fake-reason: no licence\\n")
        raise SystemExit(1)
    case "refuses":
        request = hear()
        say({{"type": "control_response", "response":
            {{"subtype": "error", "request_id": request["request_id"], "error": "fake-refusal"}}}})
        time.sleep(60)
    case "mute":
        time.sleep(60)
    case "nonsense":
        for line in ("nonsense", "[1]", "null", "{{}}", '{{"type": 7}}', '{{"type": "stream_event"}}'):
            say(line)
        initialized()
        for line in ("%PDF", '{{"type":"stream_event","event":1}}', '{{"type":"result","usage":"all"}}'):
            say(line)
        sys.stdout.buffer.write(b"\\xff\\xfe\\n")
        raise SystemExit(0)
    case "chatty":
        initialized()
        say("nonsense")
        delta("one ")
        say({{"type": "from-the-future", "x": 1}})
        delta("two")
        say({{"type": "result", "subtype": "success", "is_error": False, "session_id": "s", "usage": {{}}}})
        hear()
    case "lingers":
        initialized()
        delta("one")
        say({{"type": "result", "subtype": "success", "is_error": False, "session_id": "s", "usage": {{}}}})
        time.sleep(60)
    case "endless":
        initialized()
        sys.stdout.write("x" * 68_000_000)
        sys.stdout.flush()
        time.sleep(60)
    case "killed" | "crashes" as how:
        initialized()
        with open("starts", "a") as starts:
            starts.write("x")
        os.kill(os.getpid(), 9 if how == "killed" else 11)
    case "leaves":
        initialized()
        delta("one ")
        sys.stderr.write("fake-crash\\n")
        raise SystemExit(3)
"""
AGENTS = (
    "exits",
    "refuses",
    "mute",
    "nonsense",
    "chatty",
    "endless",
    "leaves",
    "lingers",
    "killed",
    "crashes",
)


@pytest.fixture(scope="module")
def fake(model: Model) -> Iterator[Stack]:
    """Its CLI is a script whose behaviour hangs on the agent."""
    with running_stack(model, workers=0, start_timeout_s=2, slots=8) as stack:
        cli = stack.root / "claude"
        cli.write_text(FAKE_CLI)
        cli.chmod(0o755)
        for agent in AGENTS:
            stack.make_agent(agent)
        stack.start_worker(AGENTS, claude_path=cli)
        stack.wait_ready()
        yield stack


@pytest.mark.parametrize(
    ("agent", "status", "code", "words"),
    [
        ("exits", 500, "agent_not_started", "fake-reason: no licence"),
        ("refuses", 500, "agent_not_started", "fake-refusal"),
        ("mute", 500, "agent_not_started", "2 s"),
        ("nonsense", 500, "internal_error", "cannot be read"),
        ("endless", 500, "internal_error", "67108864"),
        ("leaves", 502, "agent_died", "fake-crash"),
    ],
)
async def test_a_broken_cli_is_an_error_that_says_why(
    fake: Stack, agent: str, status: int, code: str, words: str
) -> None:
    async with fake.sdk() as sdk:
        with pytest.raises(openai.InternalServerError) as caught:
            await ask(sdk, "hello", model=agent)
    error = check_envelope(caught.value.response, status, code)
    assert words in error["message"]
    await eventually(lambda: not fake.cli_processes(), 5, "the CLI is gone")


async def test_a_cli_that_leaves_after_the_first_word_is_an_error_in_the_stream(fake: Stack) -> None:
    async with fake.sdk() as sdk:
        said, error = await until_error(sdk, "hello", script(), model="leaves")
    assert (said, error.code) == ("one ", "agent_died")


async def test_lines_that_mean_nothing_are_passed_over(fake: Stack) -> None:
    async with fake.sdk() as sdk:
        assert text_of(await ask(sdk, "hello", model="chatty")) == "one two"


async def test_a_cli_that_does_not_leave_after_its_answer_is_ended(fake: Stack) -> None:
    """While it is given time to leave, the worker's next renewal finds no lease any more: no harm in that."""
    async with fake.sdk() as sdk:
        assert text_of(await ask(sdk, "hello", model="lingers")) == "one"
    await eventually(lambda: not fake.cli_processes(), 8, "the CLI is gone")


@pytest.mark.parametrize("has_cli", [True, False])
async def test_a_worker_whose_cli_does_not_run_says_so_and_ends(fake: Stack, has_cli: bool) -> None:
    cli = fake.root / f"broken-{has_cli}"
    if has_cli:
        cli.write_text("#!/bin/sh\nexit 1\n")
        cli.chmod(0o755)
    worker = fake.start_worker(("agent",), claude_path=cli)
    fake.workers.remove(worker)
    assert worker.exit_code() == 1
    assert "Claude CLI" in worker.tail()
    assert str(cli) in worker.tail()
    assert "Traceback" not in worker.tail()


async def test_a_cli_that_is_killed_in_mid_stream_is_an_error_in_the_stream(
    stack: Stack, sdk: AsyncOpenAI, marker: str
) -> None:
    said: list[str] = []
    with pytest.raises(openai.APIError) as caught:  # noqa: PT012 - the stream itself raises
        async for chunk in stream(sdk, marker, script(tokens(400, pace_ms=50))):
            if not said:
                for cli in psutil.Process(stack.workers[0].pid).children():
                    cli.kill()
            said.append(chunk.choices[0].delta.content or "")
    assert caught.value.code == "agent_out_of_memory"
    assert "was killed (SIGKILL)" in caught.value.message
    assert len(said) < 200
    await eventually(lambda: not stack.cli_processes(), 5, "nothing of it is left")
    assert text_of(await ask(sdk, marker, say("The worker lives."))) == "The worker lives."


def test_a_run_whose_cli_is_killed_each_time_starts_three_times_and_is_kept(fake: Stack) -> None:
    answer = httpx.post(fake.url + PATH, json=body("hello", model="killed"), timeout=50)
    error = check_envelope(answer, 502, "agent_out_of_memory")
    assert "was killed (SIGKILL)" in error["message"]
    assert "lack of memory" in error["message"]
    assert answer.headers["x-should-retry"] == "false"
    assert (fake.root / "agents/killed/starts").read_text() == "xxx"
    (letter,) = httpx.get(f"{fake.url}/v1/admin/dead-letters", timeout=5).json()["data"]
    assert (letter["id"], letter["reason"]) == (answer.headers["x-backline-run-id"], "agent_out_of_memory")
    wait_for(lambda: not fake.cli_processes(), 5, "the CLI is gone")
    ready = f"{fake.url}/ready"
    wait_for(lambda: httpx.get(ready, timeout=5).json()["busy"] == 0, 8, "the slot is free")
    assert httpx.post(fake.url + PATH, json=body("hello", model="chatty"), timeout=50).status_code == 200


async def test_a_crash_by_another_signal_is_no_lack_of_memory(fake: Stack) -> None:
    async with fake.sdk() as sdk:
        with pytest.raises(openai.InternalServerError) as caught:
            await ask(sdk, "hello", model="crashes")
    error = check_envelope(caught.value.response, 502, "agent_died")
    assert "memory" not in error["message"]


async def test_a_run_that_takes_too_long_is_ended(hasty: Stack, model: Model, marker: str) -> None:
    async with hasty.sdk() as sdk:
        with pytest.raises(openai.InternalServerError) as caught:
            await ask(sdk, marker, script(tokens(600, pace_ms=50)))
    error = check_envelope(caught.value.response, 504, "run_timeout")
    assert "8 s" in error["message"]
    await eventually(lambda: model.call(marker).ended == "disconnected", 5, "the model call ends")


async def test_an_agent_that_falls_silent_is_ended(hasty: Stack, model: Model, marker: str) -> None:
    async with hasty.sdk() as sdk:
        with pytest.raises(openai.InternalServerError) as caught:
            await ask(sdk, marker, script(stall(60)))
    check_envelope(caught.value.response, 504, "agent_silent")
    await eventually(lambda: model.call(marker).ended == "disconnected", 5, "the model call ends")


async def test_an_agent_that_falls_silent_in_mid_stream_is_an_error_in_the_stream(
    hasty: Stack, marker: str
) -> None:
    async with hasty.sdk() as sdk:
        said, error = await until_error(sdk, marker, script(text("one "), stall(60)))
    assert (said, error.code) == ("one ", "agent_silent")
