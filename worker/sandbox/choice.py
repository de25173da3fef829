"""Which sandbox this worker's agents get: the one there is, or none where the settings allow that."""

from __future__ import annotations

import os
from collections.abc import Mapping

import structlog

from shared.agents import Agent
from shared.settings import Settings
from worker.sandbox.bubblewrap import Bubblewrap, SandboxError, find_sandbox

_log = structlog.get_logger(__name__)


def choose_sandbox(
    settings: Settings, agents: tuple[Agent, ...], environ: Mapping[str, str]
) -> Bubblewrap | None:
    """The sandbox, or none; says which in the log. Raises `SandboxError` where there must be one."""
    box, why = find_sandbox(settings, agents, environ)
    if box is not None:
        if settings.agent_network == "listed" and (said := box.probe(is_listed=True)):
            raise SandboxError(f"agent_network listed does not work in this host's sandbox: {said}")
        _log.info(
            "sandbox_on", kind="bubblewrap", agent_files=settings.agent_files, network=settings.agent_network
        )
        return box
    if settings.agent_network != "host":
        raise SandboxError(f"Only a sandbox can keep agents off the network, and there is none: {why}")
    if settings.agent_files != "read-write":
        said = f"Only a sandbox can make agent_files {settings.agent_files}, and there is none: {why}"
        raise SandboxError(said)
    is_root = os.geteuid() == 0
    if is_root and not settings.allow_root:
        raise SandboxError(
            "As root and without a sandbox, an agent's tools may do anything to this machine. Run the worker"
            " as another user, or let it have a sandbox (install bubblewrap), or allow it: --allow-root."
            f" There is no sandbox because: {why}"
        )
    _log.warning("sandbox_off", because=why, tools_run_as="root" if is_root else "the worker's user")
    return None
