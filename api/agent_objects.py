"""Agents as operators and their users see them: what each has, what holds for it, and what has gone wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from api.principal import Principal
from shared.agent_reports import (
    AgentPolicy,
    AgentReport,
    McpServer,
    Reports,
    reports_on,
    servers_in,
    tools_in,
)
from shared.keys import KeyRecord, KeyStore
from shared.registry import AgentRecord, Registry, RegistryStore
from shared.run_events import RunFailed
from shared.run_index import RunIndex, RunRecord
from shared.runs import RunState

_MOST_FAILURES = 100
_SHOWN_FAILURES = 5


class AgentWorker(msgspec.Struct, frozen=True):
    """A live worker that has the agent; `faults` is what is wrong with the agent's files there.

    `unavailable` is why it does not serve it all the same; empty when it does.
    """

    id: str
    host: str
    slots: int
    busy: int
    faults: list[str]
    mcp_servers: list[McpServer]
    unavailable: str = ""


class PolicyOnHosts(msgspec.Struct, frozen=True):
    """What holds for the agent, and on which hosts."""

    hosts: list[str]
    policy: AgentPolicy


class AgentFailure(msgspec.Struct, frozen=True):
    """A run of the agent that failed. `ended_at` is in seconds since the epoch.

    `message` is null for a run of another tenant than one's own.
    """

    run_id: str
    kind: str
    ended_at: float
    message: str | None


class AgentKey(msgspec.Struct, frozen=True):
    """A key that may run the agent; `may` is what its requests may widen beside `client_may`."""

    id: str
    name: str
    tenant: str
    may: list[str]


class AgentObject(msgspec.Struct, frozen=True, kw_only=True):
    """An agent. `unavailable` is why no worker serves it, when a worker has it and knows.

    `tools` is null until a worker has begun a turn of it, and what its turns then begin with.
    `last_errors` are found among the newest runs, the newest first. `keys` is empty where no key is needed.
    """

    id: str
    state: Literal["up", "down"]
    unavailable: str
    description: str
    model: str
    created: int
    skills: list[str]
    subagents: list[str]
    mcp_servers: list[McpServer]
    tools: list[str] | None
    workers: list[AgentWorker]
    policies: list[PolicyOnHosts]
    keys: list[AgentKey]
    last_errors: list[AgentFailure]
    object: Literal["agent"] = "agent"


class Agents:
    """Gathers what there is to see. Raises `redis.RedisError` when Redis does not answer in time."""

    def __init__(self, store: RegistryStore, run_index: RunIndex, keys: KeyStore) -> None:
        self._store = store
        self._run_index = run_index
        self._keys = keys

    async def seen_by(self, principal: Principal, known: Registry) -> list[AgentObject]:
        """The agents of the registry, those served first.

        Workers, policies and keys are an administrator's to see; failures those of whoever asks.
        """
        is_admin = "admin" in principal.scopes
        reports = await self._store.reports(known.workers)
        failed = await self._run_index.page(
            tenant=None if is_admin else principal.tenant, state=RunState.FAILED, limit=_MOST_FAILURES
        )
        keys = [key for key in await self._keys.all() if not key.revoked] if is_admin else []
        never_up = [AgentRecord(name, "", 0) for name in known.unavailable if name not in known.agents]
        rows = [
            _agent(record, known, reports, keys, failed.runs, principal)
            for record in (*known.agents.values(), *never_up)
        ]
        return sorted(rows, key=lambda row: (row.state == "down", row.id))


def _agent(
    record: AgentRecord,
    known: Registry,
    reports: Reports,
    keys: Sequence[KeyRecord],
    failed: Sequence[RunRecord],
    principal: Principal,
) -> AgentObject:
    told = reports_on(record.name, reports)
    having = [worker for worker in known.workers if record.name in {*worker.agents, *worker.unavailable}]
    is_up = any(record.name in worker.agents for worker in having)
    is_admin = "admin" in principal.scopes
    tools = tools_in(told.values())
    return AgentObject(
        id=record.name,
        state="up" if is_up else "down",
        unavailable=known.why_not(record.name),
        description=record.description,
        model=record.model,
        created=record.created,
        skills=list(record.skills),
        subagents=list(record.subagents),
        mcp_servers=list(servers_in(record.mcp_servers, told.values())),
        tools=None if tools is None else list(tools),
        workers=[
            AgentWorker(
                worker.id,
                worker.host,
                worker.slots,
                worker.busy,
                list(told[worker.id].faults) if worker.id in told else [],
                list(servers_in((), [told[worker.id]])) if worker.id in told else [],
                worker.unavailable.get(record.name, ""),
            )
            for worker in having
            if is_admin
        ],
        policies=_policies(told, {worker.id: worker.host for worker in having}) if is_admin else [],
        keys=[
            AgentKey(key.id, key.name, key.tenant, list(key.may))
            for key in keys
            if "run" in key.scopes and (key.agents is None or record.name in key.agents)
        ],
        last_errors=_failures(record.name, failed, principal),
    )


def _policies(told: dict[str, AgentReport], hosts: dict[str, str]) -> list[PolicyOnHosts]:
    """Each policy once: hosts that are set up alike are named together."""
    found: dict[AgentPolicy, dict[str, None]] = {}
    for worker, report in told.items():
        if worker in hosts:
            found.setdefault(report.policy, {})[hosts[worker]] = None
    return [PolicyOnHosts(list(names), policy) for policy, names in found.items()]


def _failures(agent: str, failed: Sequence[RunRecord], principal: Principal) -> list[AgentFailure]:
    return [
        AgentFailure(
            run.id,
            run.end.error.kind.value,
            run.ended_ms / 1000,
            run.end.error.message if run.tenant == principal.tenant else None,
        )
        for run in failed
        if run.agent == agent and isinstance(run.end, RunFailed)
    ][:_SHOWN_FAILURES]
