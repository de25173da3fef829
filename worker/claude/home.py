"""Private places on the worker's disk: one home per tenant and agent, one scratch directory per process.

Within one configuration directory the CLI resumes any session by its id, from any working directory, so
tenants and agents never share one.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import msgspec
import psutil
import structlog

_LOGIN_FILE = ".credentials.json"

_log = structlog.get_logger(__name__)


class Home(msgspec.Struct, frozen=True):
    """`directory` is the CLI's HOME, `config` its CLAUDE_CONFIG_DIR."""

    directory: Path

    @property
    def config(self) -> Path:
        """Where the CLI keeps its settings, login and transcripts."""
        return self.directory / ".claude"


class Homes:
    """Makes and finds homes below `root`. `login` is the operator's `.claude`, if agents may use it."""

    def __init__(self, root: Path, login: Path | None) -> None:
        self._root = root
        self._login = login

    def home(self, tenant: str, agent: str, project: str = "") -> Home:
        """The home of one tenant's use of one agent, or of a project, made at first use; raises `OSError`."""
        owner = hashlib.sha256(tenant.encode()).hexdigest()[:16]
        home = Home(directory=self._root / "homes" / owner / _name(agent, project))
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        for place in (home.directory.parent.parent, home.directory.parent, home.directory, home.config):
            place.mkdir(exist_ok=True, mode=0o700)
        self._share_login(home)
        return home

    def private(self, scratch: Path) -> Home:
        """A home for one process alone, empty but for the operator's login; it goes with `scratch`."""
        home = Home(directory=scratch / "home")
        for place in (home.directory, home.config):
            place.mkdir(mode=0o700)
        self._share_login(home)
        return home

    @property
    def login_file(self) -> Path | None:
        """The operator's login, if agents need it and it is there."""
        if self._login is None or not (self._login / _LOGIN_FILE).is_file():
            return None
        return self._login / _LOGIN_FILE

    def scratch(self) -> Path:
        """Make a directory for one process's temporary files; whoever ends the process removes it."""
        parent = self._root / "scratch"
        parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return Path(mkdtemp(prefix=f"{os.getpid()}-", dir=parent))

    def forget(self, project: str) -> None:
        """Remove the homes of a project that was deleted; whatever used them has ended."""
        for place in (self._root / "homes").glob(f"*/{_name('', project)}"):
            shutil.rmtree(place, ignore_errors=True)

    def sweep(self) -> None:
        """Remove what workers of this host that are no more have left in `scratch`."""
        for place in (self._root / "scratch").glob("*-*"):
            owner = place.name.partition("-")[0]
            if owner.isdigit() and not psutil.pid_exists(int(owner)):
                shutil.rmtree(place, ignore_errors=True)

    def _share_login(self, home: Home) -> None:
        """Point at the operator's login, if agents need it: a copy would miss the tokens' renewal."""
        if self._login is None:
            return
        source, link = self._login / _LOGIN_FILE, home.config / _LOGIN_FILE
        if source.is_file() and not link.exists():
            with suppress(FileExistsError):
                link.symlink_to(source)


def _name(agent: str, project: str) -> str:
    return f"@{project}" if project else agent  # no agent's name begins so


def forget_memory(home: Home) -> None:
    """Remove what an agent may have noted for later: under any permission the CLI (2.1) lets it write there.

    One client's conversation would speak to the next one's.
    """
    for place in home.config.glob("projects/*/memory"):
        shutil.rmtree(place, ignore_errors=True)


def trust(home: Home, directory: Path) -> None:
    """Say what a person would at the CLI's first start in `directory`: the operator serves it on purpose.

    Without it the CLI (2.1) passes over what the agent's `.claude/settings.json` allows. It looks under the
    root of a git repository, if the directory is in one that it can see. Raises `OSError`.
    """
    root = next((place for place in (directory, *directory.parents) if (place / ".git").exists()), directory)
    file = home.config / ".claude.json"
    state = _state_in(file)
    if any([_accept(state, place) for place in {root, directory}]):  # noqa: C419 - each of them is to be noted
        changed = file.with_name(f".claude.json.{secrets.token_hex(4)}")
        try:
            changed.write_bytes(msgspec.json.encode(state))
            changed.replace(file)  # in one step: other CLIs of this home read it
        finally:
            changed.unlink(missing_ok=True)


def _accept(state: dict[str, Any], directory: Path) -> bool:
    """Note that `directory` is trusted; `False` when that was known."""
    projects = state["projects"] = state["projects"] if isinstance(state.get("projects"), dict) else {}
    known = projects.get(str(directory))
    project = projects[str(directory)] = known if isinstance(known, dict) else {}
    if project.get("hasTrustDialogAccepted") is True:
        return False
    project["hasTrustDialogAccepted"] = True
    return True


def _state_in(file: Path) -> dict[str, Any]:
    """What the CLI keeps in `file`; nothing when an agent's tool has left something else there."""
    if file.exists() and not file.is_file():
        file.unlink()  # say a pipe, which would never end
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError):
        _log.warning("cli_state_unreadable", file=str(file))
        return {}
