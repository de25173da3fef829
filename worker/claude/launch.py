"""How the CLI is started for a run: its arguments and its environment, and nothing of the worker's own."""

from __future__ import annotations

import os.path
import subprocess
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

import msgspec

from shared.agents import Agent
from shared.runs import LaunchOptions
from shared.settings import Settings
from worker.claude.home import Home
from worker.process_tree import MARKER_VARIABLE

_SETTINGS = msgspec.json.encode(
    {
        # A CLI of the same user could otherwise start turns in ours through its messaging socket.
        "crossSessionInbound": "refuse",
        # The operator chose this directory to be served; there is nobody here to ask about its servers.
        "enableAllProjectMcpServers": True,
        "autoMemoryEnabled": False,
    }
).decode()

CREDENTIALS = (
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_VERTEX",
    "CLAUDE_CODE_USE_FOUNDRY",
)
"""Any of these is the way to the model; without one it is the operator's login."""

_PASSED = (
    "PATH",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TERM",
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_BASE_URL",
    "ANTHROPIC_MODEL",
    "ANTHROPIC_SMALL_FAST_MODEL",
    "ANTHROPIC_CUSTOM_HEADERS",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_VERTEX",
    "CLAUDE_CODE_USE_FOUNDRY",
    "ANTHROPIC_FOUNDRY_API_KEY",
    "ANTHROPIC_FOUNDRY_RESOURCE",
    "ANTHROPIC_FOUNDRY_BASE_URL",
    "CLAUDE_CODE_SKIP_BEDROCK_AUTH",
    "CLAUDE_CODE_SKIP_VERTEX_AUTH",
    "ANTHROPIC_BEDROCK_BASE_URL",
    "ANTHROPIC_VERTEX_BASE_URL",
    "ANTHROPIC_VERTEX_PROJECT_ID",
    "CLOUD_ML_REGION",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_PROFILE",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_BEARER_TOKEN_BEDROCK",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "NODE_EXTRA_CA_CERTS",
)
"""What of the worker's environment the CLI may see: its way to the model, and the locale."""

_FIXED = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_ERROR_REPORTING": "1",
    # After a failure in mid-stream the CLI would repeat the call whole, with another text (CLI 2.1).
    "CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK": "1",
    # "@path" in a message would send that file to the model.
    "CLAUDE_CODE_DISABLE_FILE_MENTIONS": "1",
    # The agent could write its memory under any permission, and it would be told to every later client.
    "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",
    # The model knows a client's tools by the client's names (in-process MCP servers only).
    "CLAUDE_AGENT_SDK_MCP_NO_PREFIX": "1",
    # Measured to take 10 to 20 % off the CLI's own CPU per token.
    "CLAUDE_CODE_PLAIN_DELTA_FAST_PATH": "1",
}


_NO_OPTIONS = LaunchOptions()
_VERSION_S = 20.0


class CliNotFoundError(Exception):
    """There is no Claude CLI on this host."""


class Launch(msgspec.Struct, frozen=True):
    """All that `ClaudeProcess.start` needs."""

    argv: tuple[str, ...]
    cwd: Path
    env: dict[str, str]
    marker: str
    scratch: Path
    model: str | None
    options: LaunchOptions
    is_mirrored: bool
    wrappers: int = 0
    """How many processes of a sandbox stand above the CLI, the one of `argv` included."""
    door: Path | None = None
    """The socket of the credential proxy, where there is no network to reach it by."""
    exit: int | None = None
    """A descriptor for the process to inherit, by which it hands over a socket that leads out."""
    revision: str = ""
    """The commit whose files are in `cwd`, which later runs find as they are; empty for the agent's own."""


def find_cli(settings: Settings) -> Path:
    """The CLI to run: the operator's, else the one the SDK's wheel carries; raises `CliNotFoundError`."""
    if settings.claude_path is not None:
        if not settings.claude_path.is_file():
            raise CliNotFoundError(f"There is no Claude CLI at {settings.claude_path} (setting claude_path).")
        return settings.claude_path
    spec = find_spec("claude_agent_sdk")  # found, not imported: importing it costs half a second
    if spec is not None and spec.origin is not None:
        bundled = Path(spec.origin).parent / "_bundled" / "claude"
        if bundled.is_file():
            return bundled
    raise CliNotFoundError("The claude-agent-sdk wheel of this platform has no CLI: set claude_path to one.")


def version_of(cli: Path) -> str:
    """The CLI's version; raises `OSError` or `subprocess.SubprocessError` when it does not run."""
    done = subprocess.run([cli, "--version"], capture_output=True, text=True, timeout=_VERSION_S, check=True)
    return done.stdout.split()[0] if done.stdout.split() else "unknown"


class Launcher:
    """Plans launches on this host. `environ` is the worker's environment, of which little is passed on.

    `settings_of` gives the settings that hold for an agent, by its name.
    """

    def __init__(
        self,
        cli: Path,
        settings: Settings,
        environ: Mapping[str, str],
        settings_of: Callable[[str], Settings] | None = None,
    ) -> None:
        self._cli = cli
        self._settings = settings
        self._settings_of = settings_of or (lambda _: settings)
        names = (*_PASSED, *settings.pass_env)
        self._passed = {name: environ[name] for name in names if name in environ}

    def plan(
        self,
        agent: Agent,
        home: Home,
        scratch: Path,
        *,
        model: str | None = None,
        options: LaunchOptions = _NO_OPTIONS,
        transcript: Path | None = None,
        is_mirrored: bool = True,
    ) -> Launch:
        """Plan a launch; `transcript` is the history to resume, if there is any.

        Its file's name, without `.jsonl`, is the session's id.
        """
        argv = [
            str(self._cli),
            "--input-format=stream-json",
            "--output-format=stream-json",
            "--verbose",
            "--include-partial-messages",
            "--setting-sources=project,local",
            f"--permission-mode={options.permission_mode or self._settings_of(agent.name).permission_mode}",
            f"--settings={_SETTINGS}",
            # A conversation that is kept on disk has the path of every image told to the model (CLI 2.1).
            "--session-mirror" if is_mirrored else "--no-session-persistence",
        ]
        argv += _flags(options, self._settings)
        if options.mcp_config is not None:
            argv.append(f"--mcp-config={_in_file(scratch, options.mcp_config)}")
        if model is not None:
            argv.append(f"--model={model}")
        if transcript is not None:
            argv.append(f"--resume={transcript}")
        marker = scratch.name
        return Launch(
            argv=tuple(argv),
            cwd=Path(os.path.realpath(options.working_dir)) if options.working_dir else agent.directory,
            env=self._environment(home, scratch, marker) | _environment_for(options),
            marker=marker,
            scratch=scratch,
            model=model,
            options=options,
            is_mirrored=is_mirrored,
            revision=agent.revision,
        )

    def _environment(self, home: Home, scratch: Path, marker: str) -> dict[str, str]:
        return {
            "HOME": str(home.directory),
            **self._passed,
            **_FIXED,
            "CLAUDE_CONFIG_DIR": str(home.config),
            "CLAUDE_CODE_MAX_RETRIES": str(self._settings.upstream_retries),
            "TMPDIR": str(scratch),
            "CLAUDE_CODE_TMPDIR": str(scratch),
            MARKER_VARIABLE: marker,
        }


def _in_file(scratch: Path, mcp_config: str) -> Path:
    """Where the CLI reads servers with their secrets: a command line is every user's of the host to read."""
    place = scratch / "mcp.json"
    place.touch(mode=0o600)
    place.write_text(mcp_config)
    return place


def _flags(options: LaunchOptions, settings: Settings) -> list[str]:
    """The CLI's flags for what a request asks of the launch (CLI 2.1); each is one word of the command."""
    flags: list[str] = []
    if options.tools is not None:
        flags.append(f"--tools={','.join(options.tools)}")
    if options.disallowed_tools:
        flags.append(f"--disallowedTools={','.join(options.disallowed_tools)}")
    flags.append(f"--max-turns={min(options.max_turns or settings.max_turns, settings.max_turns)}")
    if options.max_budget_usd is not None:
        flags.append(f"--max-budget-usd={options.max_budget_usd}")
    if options.is_mcp_strict or options.tools == ():
        flags.append("--strict-mcp-config")
    return [*flags, *(f"--add-dir={os.path.realpath(place)}" for place in options.add_dirs)]


def _environment_for(options: LaunchOptions) -> dict[str, str]:
    """With tools that are chosen by name the CLI has nothing to search for."""
    return {"ENABLE_TOOL_SEARCH": "false"} if options.tools is not None else {}
