"""What an agent's files say of it holds for its runs, and changes with them."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from scripted_model import say
from tests.conftest import NewStack
from tests.support.stack import Stack
from tests.support.waiting import wait_for


def ask(stack: Stack, mode: str, marker: str) -> httpx.Response:
    body = {
        "model": "agent",
        "messages": [{"role": "user", "content": f"{marker} {say('Done.')}"}],
        "claude_options": {"permission_mode": mode},
    }
    return httpx.post(f"{stack.url}/v1/chat/completions", json=body, timeout=50)


def description_of(stack: Stack) -> str:
    models = httpx.get(f"{stack.url}/v1/models", timeout=10).json()["data"]
    return str(next(model for model in models if model["id"] == "agent").get("description"))


@pytest.mark.timeout(120)
def test_what_an_agents_files_say_holds_for_its_runs(
    new_stack: NewStack, marker: str, tmp_path: Path
) -> None:
    operators = tmp_path / "agents.toml"
    operators.write_text('[other]\nwarm = 0\n[agent]\npermission_mode = "acceptEdits"\n')
    stack = new_stack(agents_file=operators, permission_mode="dontAsk")
    own = stack.root / "agents/agent/.claude/backline.toml"
    assert ask(stack, "dontAsk", marker).status_code == 200
    (own.parent / "settings.json").write_text('{"model": "haiku"}')
    assert ask(stack, "dontAsk", marker).status_code == 200
    assert "haiku" in stack.model.calls(marker)[-1].body["model"]
    own.write_text('permission_mode = "plan"\ndescription = "Only plans"\n')
    wait_for(lambda: description_of(stack) == "Only plans", 20, "the agent is described anew")
    refused = ask(stack, "dontAsk", marker)
    assert refused.status_code == 403, refused.text
    assert json.loads(refused.text)["error"]["code"] == "not_permitted"
    own.write_text('permission_mode = "bypassPermissions"\ndescription = "Wishes"\n')
    assert ask(stack, "plan", marker).status_code == 200
    assert ask(stack, "dontAsk", marker).status_code == 403  # what it was narrowed to stays
    assert "policy_not_changed" in stack.workers[0].tail()
