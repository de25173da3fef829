"""What people who run Backline do at a shell, against all that a request passes through."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

import httpx

from scripted_model import say, script, tokens
from tests.support.asking import ask
from tests.support.processes import BACKLINE
from tests.support.stack import Stack, clean_environ
from tests.support.terminal import at_terminal
from tests.support.waiting import wait_for


def environ_of(stack: Stack, home: Path) -> dict[str, str]:
    return clean_environ(home) | {
        "REDIS_URL": stack.redis_url,
        "BACKLINE_PORT": str(stack.port),
        "BACKLINE_DATA_DIR": str(home / "data"),
        "ANTHROPIC_BASE_URL": stack.model.url,
        "ANTHROPIC_API_KEY": "sk-ant-scripted",
    }


def backline(stack: Stack, home: Path, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BACKLINE, *words],
        env=environ_of(stack, home),
        cwd=home,
        input=given,
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )


def test_the_doctor_has_the_cli_ask_the_model(stack: Stack, tmp_path: Path) -> None:
    agent = f"agent={stack.root / 'agents/agent'}"
    done = backline(stack, tmp_path, "doctor", "--online", "--json", "--agent", agent)
    found = {each["name"]: each for each in json.loads(done.stdout)["findings"]}
    assert found["model call"]["state"] == "ok", found["model call"]
    assert found["Claude CLI"]["state"] == "ok"
    assert "is a Backline that runs" in found["port"]["said"]
    assert found["redis durability"]["state"] == "warning"  # the stack's server keeps nothing
    assert found["agent agent"]["state"] == "ok"
    assert done.returncode == 0, done.stderr


def test_the_agents_that_workers_serve_are_listed(stack: Stack, tmp_path: Path) -> None:
    done = backline(stack, tmp_path, "agents", "list", "--json")
    rows = {row["agent"]: row for row in json.loads(done.stdout)}
    assert rows["agent"]["workers"] >= 1
    assert rows["agent"]["description"] == "A tester's agent"
    assert "other" in rows
    assert rows["agent"]["slots"] >= 8


async def test_an_agents_tools_are_listed_once_it_has_run_and_no_clients_own(
    stack: Stack, tmp_path: Path
) -> None:
    function = {"type": "function", "function": {"name": "a_clients_own", "parameters": {"type": "object"}}}
    async with stack.sdk() as client:
        await ask(client, say("Hello."))
        await ask(client, say("Hello."), tools=[function])

    def tools() -> list[str]:
        agents = httpx.get(f"{stack.url}/v1/admin/agents", timeout=10).json()["data"]
        return next(each["tools"] for each in agents if each["id"] == "agent") or []

    await asyncio.to_thread(wait_for, lambda: "Bash" in tools(), 20, "the tools are told")
    done = await asyncio.to_thread(backline, stack, tmp_path, "agents", "list", "--json")
    (row,) = (row for row in json.loads(done.stdout) if row["agent"] == "agent")
    assert {"Bash", "Read"} <= set(row["tools"])
    assert "a_clients_own" not in done.stdout
    assert {policy["allow"][0] for policy in row["policies"].values()} == {"Bash"}


def test_a_message_from_a_pipe_is_answered(stack: Stack, tmp_path: Path, marker: str) -> None:
    done = backline(stack, tmp_path, "chat", "agent", given=f"{marker} {say('It is *open*.')}")
    assert (done.returncode, done.stdout) == (0, "It is *open*.\n"), done.stderr


def test_what_the_api_says_of_a_wrong_agent_is_passed_on(stack: Stack, tmp_path: Path) -> None:
    done = backline(stack, tmp_path, "chat", "nobody", given="hi")
    assert done.returncode == 1
    assert "nobody" in done.stderr
    assert done.stderr.count("\n") == 1
    assert backline(stack, tmp_path, "chat", "agent").returncode == 2


def test_a_conversation_at_a_terminal_knows_what_was_said(stack: Stack, tmp_path: Path, marker: str) -> None:
    with at_terminal([BACKLINE, "chat", "agent"], environ_of(stack, tmp_path), tmp_path) as terminal:
        terminal.until("> ")
        terminal.type(f"{marker} {say('Fine **words**.')}\n")
        terminal.until("\x1b[1mwords\x1b[0m.")  # rendered: bold, without its stars
        terminal.until("> ")
        terminal.type("/nothing\n")
        terminal.until("There is no /nothing")
        terminal.type(f"{marker} {say('Again.')}\n")
        terminal.until("Again.")
        terminal.until("> ")
        terminal.type("/new\n")
        terminal.until("A new conversation.")
        terminal.type("/quit\n")
        assert terminal.exit_code() == 0
    assert [role for role, _ in stack.model.calls(marker)[-1].turns] == ["user", "assistant", "user"]


def test_ctrl_c_stops_the_answer_and_not_the_chat(stack: Stack, tmp_path: Path, marker: str) -> None:
    with at_terminal([BACKLINE, "chat", "agent"], environ_of(stack, tmp_path), tmp_path) as terminal:
        terminal.until("> ")
        terminal.type(f"{marker} {script(tokens(400, pace_ms=50))}\n")
        terminal.until("t5 t6")
        terminal.type("\x03")
        terminal.until("> ")
        terminal.type("/quit\n")
        assert terminal.exit_code() == 0


def test_what_goes_on_is_shown_once(stack: Stack, tmp_path: Path, marker: str) -> None:
    assert backline(stack, tmp_path, "chat", "agent", given=f"{marker} {say('Seen.')}").returncode == 0
    done = backline(stack, tmp_path, "top", "--once")
    assert done.returncode == 0, done.stderr
    assert "slots" in done.stdout
    assert "completed" in done.stdout
    known = json.loads(backline(stack, tmp_path, "top", "--json").stdout)
    assert known["workers"] >= 1
    assert known["runs"][0]["agent"] == "agent"
