"""What a CLI is given: no prompt in its arguments, no secret in its environment, a home of its own."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.agents import Agent
from shared.content import DocumentPart, ImagePart, Part, TextPart, ToolResultPart, ToolUsePart, Turn
from shared.runs import LaunchOptions, RunRequest, Sampling
from shared.settings import Settings
from worker.claude import launch as launching
from worker.claude.client_tools import ClientTools
from worker.claude.home import Home, Homes
from worker.claude.launch import CliNotFoundError, Launch, Launcher, find_cli
from worker.claude.transcript import content_of, split_history, transcript_of, user_frame
from worker.claude.turn_settings import extra_body
from worker.process_tree import MARKER_VARIABLE

CLI = Path("/opt/claude")
AGENT = Agent(name="a", directory=Path("/agents/a"))
HOME = Home(directory=Path("/data/home"))
SCRATCH = Path("/data/scratch/tmp-1")
OURS = {
    "HOME",
    "CLAUDE_CONFIG_DIR",
    "CLAUDE_CODE_MAX_RETRIES",
    "TMPDIR",
    "CLAUDE_CODE_TMPDIR",
    MARKER_VARIABLE,
    *launching._FIXED,
}
NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="="), min_size=1)
INTERESTING = st.sampled_from(
    [
        "REDIS_URL",
        "BACKLINE_REDIS_URL",
        "OPENAI_API_KEY",
        "LD_PRELOAD",
        "HOME",
        "TMPDIR",
        "PATH",
        "NODE_OPTIONS",
        "ANTHROPIC_API_KEY",
        "CLAUDE_CONFIG_DIR",
        "CLAUDE_CODE_EXTRA_BODY",
        "PYTHONPATH",
        MARKER_VARIABLE,
    ]
)
ENVIRONS = st.dictionaries(NAMES | INTERESTING, st.text(max_size=5))


def plan(
    environ: dict[str, str] | None = None,
    model: str | None = None,
    transcript: Path | None = None,
    settings: Settings | None = None,
) -> Launch:
    launcher = Launcher(CLI, settings or Settings(), environ or {})
    return launcher.plan(AGENT, HOME, SCRATCH, model=model, transcript=transcript)


def test_no_option_tells_a_secret_on_the_command_line(tmp_path: Path) -> None:
    """Every user of a host may read it. Servers come with their keys, sub-agents with prompts."""
    options = LaunchOptions(
        mcp_config='{"mcpServers": {"x": {"env": {"KEY": "CANARY"}}}}', agents='{"a": {"prompt": "CANARY"}}'
    )
    planned = Launcher(CLI, Settings(), {}).plan(AGENT, HOME, tmp_path, options=options)
    assert "CANARY" not in "".join((*planned.argv, *planned.env.values()))
    place = next(word for word in planned.argv if word.startswith("--mcp-config=")).partition("=")[2]
    assert Path(place).read_text() == options.mcp_config
    assert Path(place).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(("wish", "bound"), [(None, 250), (3, 3), (9_999, 250)])
def test_every_run_is_bounded(tmp_path: Path, wish: int | None, bound: int) -> None:
    options = LaunchOptions(max_turns=wish)
    planned = Launcher(CLI, Settings(), {}).plan(AGENT, HOME, tmp_path, options=options)
    assert f"--max-turns={bound}" in planned.argv


@given(ENVIRONS)
def test_only_what_is_on_the_list_is_passed_on(environ: dict[str, str]) -> None:
    env = plan(environ=environ).env
    passed = {name for name in env if name not in OURS}
    assert passed <= set(launching._PASSED)
    assert passed == {name for name in environ if name in launching._PASSED}
    for name in passed:
        assert env[name] == environ[name]
    assert env["HOME"] == "/data/home"
    assert env["CLAUDE_CONFIG_DIR"] == "/data/home/.claude"
    assert env["TMPDIR"] == str(SCRATCH)
    assert env[MARKER_VARIABLE] == SCRATCH.name


@given(ENVIRONS, st.lists(NAMES | INTERESTING, max_size=4))
def test_an_operator_may_pass_more_but_not_undo_what_is_ours(
    environ: dict[str, str], pass_env: list[str]
) -> None:
    env = plan(environ=environ, settings=Settings(pass_env=tuple(pass_env))).env
    allowed = {*launching._PASSED, *pass_env}
    assert {name for name in env if name not in OURS} == {
        name for name in environ if name in allowed and name not in OURS
    }
    for name in OURS - {"HOME"}:
        assert env[name] == plan().env[name]


def test_the_arguments_are_flags_with_their_values() -> None:
    launch = plan(model="claude-x", transcript=SCRATCH / "h.jsonl", settings=Settings(permission_mode="plan"))
    assert launch.argv[0] == str(CLI)
    assert all(argument.startswith("--") for argument in launch.argv[1:])
    assert {"--model=claude-x", f"--resume={SCRATCH}/h.jsonl", "--permission-mode=plan"} <= set(launch.argv)
    assert launch.cwd == AGENT.directory
    given_settings = next(each for each in launch.argv if each.startswith("--settings="))
    assert json.loads(given_settings.partition("=")[2])["crossSessionInbound"] == "refuse"


@pytest.mark.parametrize(
    ("sampling", "body"),
    [
        (Sampling(), {}),
        (Sampling(max_output_tokens=5), {"max_tokens": 5}),
        (Sampling(temperature=0.0), {"temperature": 0.0, "thinking": {"type": "disabled"}}),
        (
            Sampling(top_p=0.5, stop=("a", '"\n')),
            {"top_p": 0.5, "stop_sequences": ["a", '"\n'], "thinking": {"type": "disabled"}},
        ),
    ],
)
def test_sampling_goes_into_the_models_request(sampling: Sampling, body: dict[str, object]) -> None:
    request = RunRequest(agent="a", prompt=(TextPart("x"),), sampling=sampling)
    assert extra_body(request, ClientTools()) == body


def test_the_operators_cli_comes_first_and_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(CliNotFoundError, match="claude_path"):
        find_cli(Settings(claude_path=tmp_path / "claude"))
    (tmp_path / "claude").touch()
    assert find_cli(Settings(claude_path=tmp_path / "claude")) == tmp_path / "claude"
    assert find_cli(Settings()).name == "claude"


@given(
    st.lists(
        st.tuples(st.text(max_size=8), st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,4}[a-z0-9])?", fullmatch=True)),
        min_size=2,
        max_size=6,
        unique=True,
    )
)
def test_no_two_owners_share_a_home(
    tmp_path_factory: pytest.TempPathFactory, owners: list[tuple[str, str]]
) -> None:
    root = tmp_path_factory.mktemp("homes")
    homes = Homes(root, root / "login")
    directories = [homes.home(tenant, agent).directory for tenant, agent in owners]
    assert len(set(directories)) == len(owners)
    for directory in directories:
        assert directory.resolve().is_relative_to(root.resolve() / "homes")
        assert not any(other in directory.parents for other in directories)
    assert directories == [homes.home(tenant, agent).directory for tenant, agent in owners]


def test_a_home_is_private_and_points_at_the_login(tmp_path: Path) -> None:
    login = tmp_path / "operator" / ".claude"
    homes = Homes(tmp_path / "data", login)
    link = homes.home("t", "a").config / ".credentials.json"
    assert not link.exists()
    login.mkdir(parents=True)
    (login / ".credentials.json").write_text("old")
    home = homes.home("t", "a")
    assert homes.home("t", "a") == home
    (login / ".credentials.json").write_text("renewed")
    assert link.read_text() == "renewed"
    assert home.config.stat().st_mode & 0o777 == 0o700
    (link.parent / "x").write_text("kept")
    assert (homes.home("t", "a").config / "x").read_text() == "kept"


def test_scratch_directories_are_private_and_never_shared(tmp_path: Path) -> None:
    homes = Homes(tmp_path, tmp_path)
    one, two = homes.scratch(), homes.scratch()
    assert one != two
    assert one.stat().st_mode & 0o777 == 0o700


PARTS: list[Part] = [
    TextPart('multi\nline \u2028 "quoted" \x00 🙂'),
    ImagePart("image/png", "aGk="),
    DocumentPart("application/pdf", "JVBERi0=", "a.pdf"),
    DocumentPart("text/plain", "plain"),
    ToolUsePart("t1", "f", {"a": [1, None]}),
    ToolResultPart("t1", "42", is_error=True),
]


def test_parts_become_the_models_blocks() -> None:
    assert content_of(PARTS) == [
        {"type": "text", "text": 'multi\nline \u2028 "quoted" \x00 🙂'},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="},
            "title": "a.pdf",
        },
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "plain"}},
        {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": [1, None]}},
        {"type": "tool_result", "tool_use_id": "t1", "content": "42", "is_error": True},
    ]


def test_a_message_to_the_cli_is_verbatim() -> None:
    frame = user_frame({"role": "user", "content": content_of((TextPart("@/etc/passwd /cost"),))})
    assert frame["client_composed"] is True
    assert frame["message"]["content"][0]["text"] == "@/etc/passwd /cost"


@given(st.lists(st.text(), max_size=6))
def test_a_transcript_is_a_chain_of_the_turns(texts: list[str]) -> None:
    history = [
        Turn("user" if index % 2 == 0 else "assistant", (TextPart(text), *PARTS[1:2]))
        for index, text in enumerate(texts)
    ]
    raw = transcript_of(history)
    lines = [json.loads(each) for each in raw.removesuffix(b"\n").split(b"\n") if each]
    assert [(each["type"], each["message"]["role"]) for each in lines] == [(t.role, t.role) for t in history]
    assert [each["message"]["content"] for each in lines] == [content_of(turn.parts) for turn in history]
    assert [each["parentUuid"] for each in lines] == [None, *(each["uuid"] for each in lines)][: len(lines)]
    assert len({each["uuid"] for each in lines}) == len(lines)


def test_results_of_tools_are_not_left_behind_their_calls() -> None:
    plain = (Turn("user", (TextPart("q"),)), Turn("assistant", (TextPart("a"),)))
    call = (Turn("user", (TextPart("q2"),)), Turn("assistant", (ToolUsePart("t1", "f", {}),)))
    request = RunRequest(agent="a", prompt=(TextPart("x"),), history=plain)
    assert split_history(request, plain) == (plain, ())
    answered = msgspec.structs.replace(request, prompt=(ToolResultPart("t1", "1"),), history=plain + call)
    assert split_history(answered, plain + call) == (plain, call)
