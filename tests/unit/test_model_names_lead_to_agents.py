"""What a `model` stands for, and which directories can be agents."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import ApiError
from api.models import Choice, listed, resolve
from shared.agents import AgentError, is_claude_model, parse_agents
from shared.registry import AgentRecord, Registry, WorkerRecord


def registry(*served: str, gone: tuple[str, ...] = ()) -> Registry:
    records = {name: AgentRecord(name=name, description="", created=1) for name in (*served, *gone)}
    worker = WorkerRecord(id="w", host="h", agents=served, slots=1, busy=0, cli_version="2")
    return Registry(workers=(worker,) if served else (), agents=records)


@pytest.mark.parametrize(
    ("model", "default", "choice"),
    [
        ("a", None, Choice("a")),
        ("b/opus", None, Choice("b", "opus")),
        ("b/claude-sonnet-5-20260101", None, Choice("b", "claude-sonnet-5-20260101")),
        ("sonnet[1m]", None, Choice("a", "sonnet[1m]")),
        ("haiku", "b", Choice("b", "haiku")),
        ("gone", None, Choice("gone")),
        ("a@v1", None, Choice("a", revision="v1")),
        ("a@team/v1.2-rc_1", None, Choice("a", revision="team/v1.2-rc_1")),
        ("a@v1/opus", "b", Choice("a", "opus", "v1")),
        ("a@team/v1/opus", None, Choice("a", "opus", "team/v1")),
        ("a@opus", None, Choice("a", revision="opus")),
        ("gone@v1", None, Choice("gone", revision="v1")),
        ("a@", None, 404),
        ("a@/opus", None, 404),
        ("a@--all", None, 404),
        ("a@-x/opus", None, 404),
        ("a@v1..v2", None, 404),
        ("a@v1@{0}", None, 404),
        ("a@v1:x", None, 404),
        ("a@v1^", None, 404),
        ("a@v1\n", None, 404),
        ("a@" + "x" * 101, None, 404),
        ("x@v1", None, 404),
        ("opus@v1", None, 404),
        ("a/opus@v1", None, 404),
        ("a/gpt-4", None, 404),
        ("a/", None, 404),
        ("/opus", None, 404),
        ("x/opus", None, 404),
        ("gpt-4", None, 404),
        ("A", None, 404),
        ("", None, 404),
        ("a\x00", None, 404),
        ("haiku", "elsewhere", 503),
    ],
)
def test_what_a_model_name_stands_for(model: str, default: str | None, choice: Choice | int) -> None:
    known = registry("a", "b", gone=("gone",))
    if isinstance(choice, Choice):
        assert resolve(model, known, default) == choice
        return
    with pytest.raises(ApiError) as refusal:
        resolve(model, known, default)
    assert refusal.value.status == choice
    assert refusal.value.code == ("model_not_found" if choice == 404 else "agent_unavailable")


def test_without_a_worker_there_is_no_model() -> None:
    assert listed(registry()) == []
    assert listed(registry("b", "a")) == ["b", "a", "haiku", "opus", "sonnet"]
    with pytest.raises(ApiError) as refusal:
        resolve("opus", registry(), None)
    assert (refusal.value.status, refusal.value.is_retryable) == (503, True)


@given(st.text(min_size=300))
def test_an_unknown_name_is_not_repeated_at_length(name: str) -> None:
    with pytest.raises(ApiError) as refusal:
        resolve(name, registry("a"), None)
    assert len(refusal.value.message) < 500


@pytest.mark.parametrize(
    ("name", "is_model"),
    [
        ("opus", True),
        ("opusplan", True),
        ("default", True),
        ("claude-opus-5", True),
        ("claude-x[1m]", True),
        ("claude-", False),
        ("claude", False),
        ("Opus", False),
        ("opus ", False),
        ("opus\n", False),
        ("claude-x\n--dangerously", False),
        ("claude-" + "x" * 81, False),
        ("gpt-4", False),
        ("", False),
    ],
)
def test_which_names_are_claudes(name: str, is_model: bool) -> None:
    assert is_claude_model(name) is is_model


def test_agents_are_directories_with_names(tmp_path: Any) -> None:
    for name in ("first", "My Agent!", "third", "with=sign"):
        (tmp_path / name / ".claude").mkdir(parents=True)
    (tmp_path / "first" / "CLAUDE.md").write_text("\n\n# The title\nMore.\n")
    (tmp_path / "third" / ".claude" / "CLAUDE.md").write_bytes(b"\xff" + b"x" * 500)
    entries = [
        f"{tmp_path}/first",
        f"{tmp_path}/My Agent!/",
        f"3.x_y-z={tmp_path}/third",
        f"{tmp_path}/with=sign",
    ]
    agents = parse_agents(entries)
    assert [agent.name for agent in agents] == ["first", "my-agent", "3.x_y-z", "with-sign"]
    assert [agent.directory.name for agent in agents] == ["first", "My Agent!", "third", "with=sign"]
    assert agents[0].description == "The title"
    assert len(agents[2].description) == 200
    assert parse_agents([]) == ()


@pytest.mark.parametrize(
    ("entries", "complaint"),
    [
        (["gone"], "not there"),
        (["a=gone"], "not there"),
        (["A=d"], "cannot be an agent's name"),
        (["-a=d"], "cannot be an agent's name"),
        (["..=d"], "cannot be an agent's name"),
        (["a b=d"], "cannot be an agent's name"),
        (["a" * 65 + "=d"], "cannot be an agent's name"),
        (["opus=d"], "Claude model's name"),
        (["claude-x=d"], "Claude model's name"),
        (["d", "d=e"], "Two agents"),
        (["file"], "is not a directory"),
    ],
)
def test_an_agent_that_cannot_be_served_is_said(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, entries: list[str], complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d").mkdir()
    (tmp_path / "e").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(AgentError, match=complaint):
        parse_agents(entries)


@given(st.text())
def test_no_agents_name_leads_out_of_its_place(name: str) -> None:
    try:
        agents = parse_agents([f"{name}=."])
    except AgentError:
        return
    for agent in agents:
        assert agent.name not in {"", ".", ".."}
        assert not set(agent.name) & set("/\\\x00 \n")
