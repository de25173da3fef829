"""The operator's file may widen what one agent may do; the agent's own may only narrow it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from shared.agent_policy import OWN_FILE, Policy, PolicyError, apply_policy
from shared.agents import Agent
from shared.settings import Settings
from worker import policies as worker_policies
from worker.claude.home import Home
from worker.claude.launch import Launcher
from worker.policies import Policies


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    (tmp_path / "desk/.claude").mkdir(parents=True)
    return Agent("desk", tmp_path / "desk", "From CLAUDE.md")


def own(agent: Agent, text: str) -> None:
    (agent.directory / OWN_FILE).write_text(text)


def operators(agent: Agent, text: str, **fields: Any) -> Settings:
    path = agent.directory.parent / "agents.toml"
    path.write_text(text)
    return Settings(agents_file=path, **fields)


def test_without_files_the_settings_hold(agent: Agent) -> None:
    settings = Settings()
    applied = apply_policy(agent, settings)
    assert applied.settings is settings
    assert applied.agent == agent


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ('permission_mode = "plan"', "permission_mode", "plan"),
        ("may = []", "client_may", ()),
        ('agent_files = "scratch"', "agent_files", "scratch"),
        ('agent_network = "none"', "agent_network", "none"),
        ('agent_network = "listed"', "agent_network", "listed"),
        ('agent_hosts = ["a.test"]', "agent_hosts", ("a.test",)),
        ("agent_private_hosts = []", "agent_private_hosts", ()),
        ("warm = 0", "warm", 0),
        ('on_worker_loss = "fail"', "on_worker_loss", "fail"),
    ],
)
def test_an_agents_own_file_narrows(agent: Agent, text: str, field: str, value: object) -> None:
    own(agent, text)
    assert getattr(apply_policy(agent, Settings(client_may=("permissions",))).settings, field) == value


WIDER = [
    ('permission_mode = "acceptEdits"', "permission_mode", "acceptEdits"),
    ('may = ["permissions"]', "client_may", ("permissions",)),
    ('agent_files = "read-write"', "agent_files", "read-write"),
    ('agent_versions = "any"', "agent_versions", "any"),
    ('agent_network = "host"', "agent_network", "host"),
    ('agent_hosts = ["a.test", "b.test"]', "agent_hosts", ("a.test", "b.test")),
    ('agent_private_hosts = ["a.test:22"]', "agent_private_hosts", ("a.test:22",)),
    ("warm = 9", "warm", 9),
    ('on_worker_loss = "rerun"', "on_worker_loss", "rerun"),
]
STRICT: dict[str, Any] = {
    "agent_files": "read-only",
    "agent_network": "listed",
    "agent_hosts": ("a.test", "*.c.test"),
    "agent_private_hosts": ("a.test",),
}


@pytest.mark.parametrize(("text", "field", "value"), WIDER)
def test_an_agents_own_file_never_widens(agent: Agent, text: str, field: str, value: object) -> None:
    own(agent, text)
    with pytest.raises(PolicyError, match=f"{text.partition(' ')[0]} asks for more than the operator allows"):
        apply_policy(agent, Settings(**STRICT))


@pytest.mark.parametrize(("text", "field", "value"), WIDER)
def test_the_operators_file_widens_and_the_agents_own_stays_within(
    agent: Agent, text: str, field: str, value: object
) -> None:
    settings = operators(agent, f"[desk]\n{text}\n[other]\nwarm = 1\n", **STRICT)
    own(agent, text)
    assert getattr(apply_policy(agent, settings).settings, field) == value


def test_every_key_of_a_policy_is_tested_to_narrow() -> None:
    keys = {text.partition(" ")[0] for text, _, _ in WIDER}
    assert keys == set(Policy.__struct_fields__) - {"description"}


def test_the_operators_word_for_an_agent_goes_before_its_own(agent: Agent) -> None:
    own(agent, 'description = "Its own"')
    assert apply_policy(agent, Settings()).agent.description == "Its own"
    settings = operators(agent, '[desk]\ndescription = "The operator\'s"')
    assert apply_policy(agent, settings).agent.description == "The operator's"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("= 1", "Cannot read"),
        ("warmth = 1", "unknown field `warmth`.*It may say: description"),
        ('warm = "1"', "Expected `int"),
        ('permission_mode = "all"', "Invalid enum value 'all'"),
        ("#" * 70_000, "is longer than"),
    ],
)
def test_a_file_that_is_wrong_is_named_with_its_fault(agent: Agent, text: str, said: str) -> None:
    own(agent, text)
    with pytest.raises(PolicyError, match=f"(?s){OWN_FILE}.*{said}|{said}.*{OWN_FILE}|{OWN_FILE}.*"):
        apply_policy(agent, Settings())


def test_an_operators_file_that_is_not_there_is_an_error(agent: Agent, tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="no such file"):
        apply_policy(agent, Settings(agents_file=tmp_path / "gone.toml"))


def test_a_mistake_in_another_agents_table_is_told_too(agent: Agent) -> None:
    with pytest.raises(PolicyError, match=r"agents.toml, \[other\]"):
        apply_policy(agent, operators(agent, "[other]\nx = 1"))


def test_files_are_read_again_when_they_change_and_kept_when_they_turn_bad(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_policies, "_FRESH_S", 0.0)
    policies = Policies(Settings(), {"desk": agent}, is_boxed=True)
    before = policies.of("desk")
    assert policies.of("desk") is before
    for number, (text, mode) in enumerate(
        [('permission_mode = "plan"', "plan"), ("= 1", "plan"), ('description = "New"', "dontAsk")]
    ):
        own(agent, text)
        os.utime(agent.directory / OWN_FILE, ns=(number, number))
        assert policies.of("desk").permission_mode == mode
    assert policies.described()[0].description == "New"
    (agent.directory / OWN_FILE).unlink()
    assert policies.of("desk") == before


def test_a_worker_without_a_sandbox_refuses_what_only_one_can_do(agent: Agent) -> None:
    own(agent, 'agent_files = "read-only"')
    assert Policies(Settings(), {"desk": agent}, is_boxed=True).of("desk").agent_files == "read-only"
    with pytest.raises(PolicyError, match="Only a sandbox"):
        Policies(Settings(), {"desk": agent}, is_boxed=False)


@pytest.mark.parametrize(
    ("text", "is_boxed", "has_gate", "said"),
    [
        ('agent_network = "none"', True, False, "credential proxy alone"),
        ('agent_network = "none"', False, True, "Only a sandbox"),
        ('agent_network = "listed"', False, True, "Only a sandbox"),
        ('agent_network = "listed"', True, False, ""),
    ],
)
def test_a_network_that_this_worker_cannot_give_is_refused(
    agent: Agent, text: str, said: str, *, is_boxed: bool, has_gate: bool
) -> None:
    own(agent, text)
    if said:
        with pytest.raises(PolicyError, match=said):
            Policies(Settings(), {"desk": agent}, is_boxed=is_boxed, has_gate=has_gate)
    else:
        Policies(Settings(), {"desk": agent}, is_boxed=is_boxed, has_gate=has_gate)


def test_the_cli_is_started_with_the_agents_own_mode(agent: Agent, tmp_path: Path) -> None:
    own(agent, 'permission_mode = "plan"')
    policies = Policies(Settings(), {"desk": agent}, is_boxed=True)
    launcher = Launcher(Path("/opt/claude"), Settings(), {}, policies.of)
    assert "--permission-mode=plan" in launcher.plan(agent, Home(tmp_path), tmp_path).argv
