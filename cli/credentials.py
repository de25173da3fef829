"""Whether the Claude CLI will find credentials: asked before anything is started."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from cli.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_SECRETS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN")
_CLOUDS = (
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_VERTEX",
    "CLAUDE_CODE_USE_FOUNDRY",
)
_OFF = {"", "0", "false", "no", "off"}


def check_credentials(environ: Mapping[str, str], agent_directories: Iterable[Path]) -> None:
    """Raise CommandError when no agent could reach a model: no key, login, cloud provider or key helper."""
    if find_credentials(environ, agent_directories) is not None:
        return
    raise CommandError(
        "No Anthropic credentials found: set ANTHROPIC_API_KEY (in the environment or in .env), or log in"
        " once with `claude` (or set CLAUDE_CODE_OAUTH_TOKEN from `claude setup-token`), or use a cloud"
        " provider with CLAUDE_CODE_USE_BEDROCK=1 or CLAUDE_CODE_USE_VERTEX=1; `make demo` needs none."
    )


def find_credentials(environ: Mapping[str, str], agent_directories: Iterable[Path]) -> str | None:
    """What the agents' CLI will use, in words without a secret; `None` when there is nothing."""
    if name := next((name for name in _SECRETS if environ.get(name, "").strip()), None):
        return name
    if name := next((n for n in _CLOUDS if environ.get(n, "").strip().lower() not in _OFF), None):
        return name
    if _logged_in(environ):
        return f"the login in {_config_dir(environ)}"
    if _key_helper(each / ".claude" for each in agent_directories):
        return "the apiKeyHelper of an agent"
    return None


def without_credentials(environ: Mapping[str, str]) -> dict[str, str]:
    """Return `environ` less everything that could lead the CLI to a real account or another back end."""
    prefixes = ("ANTHROPIC_", "CLAUDE_", "CLAUDECODE", "AWS_", "GOOGLE_", "CLOUD_ML_", "AZURE_", "VERTEX_")
    return {name: value for name, value in environ.items() if not name.startswith(prefixes)}


def _config_dir(environ: Mapping[str, str]) -> Path:
    home = Path(environ["HOME"]) if environ.get("HOME") else Path.home()
    return Path(environ.get("CLAUDE_CONFIG_DIR") or home / ".claude")


def _logged_in(environ: Mapping[str, str]) -> bool:
    """Whether there is a login that agents can share: the file; they cannot use a keychain's entry."""
    return (_config_dir(environ) / ".credentials.json").is_file()


def _key_helper(directories: Iterable[Path]) -> bool:
    names = ("settings.json", "settings.local.json")
    return any(_read(each / name).get("apiKeyHelper") for each in directories for name in names)


def _read(path: Path) -> dict[str, object]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
