"""This host: sandbox, port, disk, and who can reach the API."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import psutil

from api.exposure import OpenToAllError, require_keys
from cli import probe
from cli.banner import base_url
from cli.doctor.finding import Finding, failed, ok, warning
from cli.errors import CommandError
from cli.ports import choose_port
from shared.key_import import KeyImportError, given_keys
from shared.loopback import is_loopback
from worker.sandbox.bubblewrap import SandboxError, find_sandbox

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shared.agents import Agent
    from shared.settings import Settings

_GIB = 1024**3
_LITTLE = _GIB
_NOTHING = _GIB // 10
_PROCESS = 200 * 1024 * 1024
"""What a busy CLI holds (CLI 2.1)."""


def check_sandbox(settings: Settings, environ: Mapping[str, str], agents: Sequence[Agent]) -> Finding:
    """What agents will run in."""
    bare = os.geteuid() == 0
    try:
        box, why = find_sandbox(settings, agents, environ)
    except SandboxError as error:
        return failed("sandbox", str(error), _sandbox_mend(str(error)))
    if box is not None:
        return ok("sandbox", f"bubblewrap works; agent_files is {settings.agent_files}")
    if settings.agent_files != "read-write":
        said = f"Only a sandbox can make agent_files {settings.agent_files}, and there is none: {why}"
        return failed("sandbox", said, _sandbox_mend(why))
    if bare and not settings.allow_root:
        said = f"None, and a worker that is root does not start without (`up` on loopback does): {why}"
        return warning("sandbox", said, _sandbox_mend(why))
    whose = "root's" if bare else "the worker's user's"
    return warning("sandbox", f"None: agents' tools have {whose} rights. {why}", _sandbox_mend(why))


async def check_port(settings: Settings) -> Finding:
    """Whether the API can listen, or does already."""
    where = f"{settings.host}:{settings.port}"
    try:
        choose_port(settings.host, settings.port, asked=True)
    except CommandError as error:
        url = base_url(settings.host, settings.port)
        answer = await probe.get(f"{url}/health")
        if answer.status == 200 and '"version"' in answer.body:
            return ok("port", f"{url} is a Backline that runs")
        return warning("port", str(error), f"backline up --port {min(settings.port + 1, 65535)}")
    return ok("port", f"{where} is free")


def check_disk(settings: Settings) -> Finding:
    """Whether `data_dir` can be written, and has room."""
    place = settings.data_dir.absolute()
    existing = next(each for each in (place, *place.parents) if each.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return failed("disk", f"{place} cannot be written.", "export BACKLINE_DATA_DIR=~/backline-data")
    free = shutil.disk_usage(existing).free
    said = f"{free / _GIB:.1f} GiB free for {place}"
    if free < _NOTHING:
        return failed("disk", said, f"du -xh --max-depth=2 {place} | sort -h")
    if free < _LITTLE:
        return warning("disk", said, f"du -xh --max-depth=2 {place} | sort -h")
    return ok("disk", said)


def check_memory(settings: Settings) -> Finding:
    """Whether all slots could be busy at once."""
    available = psutil.virtual_memory().available
    most = max(1, available // _PROCESS)
    said = f"{available / _GIB:.1f} GiB free for {settings.slots} slots"
    if settings.slots * _PROCESS > available:
        return warning("memory", f"{said}, of about 0.2 GiB each", f"export BACKLINE_SLOTS={most}")
    return ok("memory", said)


async def check_exposure(settings: Settings, redis_url: str | None) -> Finding:
    """Who can reach the API, and what they need for it."""
    mend = f"backline keys create --name me --data {settings.data_dir}"
    try:
        if redis_url is None and not is_loopback(settings.host) and settings.auth == "auto":
            if not given_keys(settings):
                said = f"Others reach {settings.host}, and no Redis tells whether there is an API key."
                return warning("exposure", said, mend)
        else:
            await require_keys(msgspec.structs.replace(settings, redis_url=redis_url))
    except OpenToAllError as error:
        return failed("exposure", str(error), mend)
    except KeyImportError as error:
        return failed("exposure", str(error), "backline config show api_keys_file")
    if not is_loopback(settings.host):
        return ok("exposure", f"other machines reach {settings.host}; they need a key (auth={settings.auth})")
    keys = {"off": "no key is needed", "on": "a key is needed", "auto": "a key is needed once there is one"}
    return ok("exposure", f"only this machine reaches {settings.host}; {keys[settings.auth]}")


def check_secrets(cwd: Path, settings: Settings) -> Finding:
    """Whether files with secrets are for their owner alone."""
    files = [cwd / ".env", *([settings.api_keys_file] if settings.api_keys_file is not None else [])]
    open_ones = [path for path in files if path.is_file() and path.stat().st_mode & 0o077]
    if open_ones:
        names = " ".join(map(str, open_ones))
        return warning("secrets", f"Others on this machine can read {names}.", f"chmod 600 {names}")
    return ok("secrets", "no file with secrets is open to others")


def check_permissions(settings: Settings) -> Finding:
    """Whether agents are held back at all."""
    if settings.permission_mode == "bypassPermissions":
        said = "permission_mode is bypassPermissions: agents do whatever the model wants."
        return warning("permissions", said, "export BACKLINE_PERMISSION_MODE=dontAsk")
    return ok("permissions", f"permission_mode is {settings.permission_mode}")


def _sandbox_mend(why: str) -> str:
    if "no bwrap" in why:
        return "sudo apt install bubblewrap"
    if "setting sandbox is none" in why:
        return "export BACKLINE_SANDBOX=auto"
    return "bwrap --unshare-user --ro-bind / / true   (docs/operations.md, The sandbox, has the rest)"
