"""Every setting of Backline, its default and its meaning, in one frozen object built once at start."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, field
from platformdirs import user_data_path

from shared.fallbacks import Fallback
from shared.hosts import Listed

Port = Annotated[int, Meta(ge=1, le=65535)]
Seconds = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]
ClientRight = Literal["mcp_config", "permissions", "priority"]
AgentFiles = Literal["read-write", "read-only", "scratch"]
AgentNetwork = Literal["host", "listed", "none"]
RevisionsAllowed = Literal["off", "tags", "any"]
PERMISSION_MODES = ("plan", "dontAsk", "default", "acceptEdits", "bypassPermissions")
"""From the strictest to the freest."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an operator can decide. Durations are in seconds (`_s`), sizes in bytes."""

    # Where things are
    redis_url: str | None = None
    """Redis or Valkey to use; unset: a server of our own is started by `up` and `demo`."""
    redis_replicas: Annotated[int, Meta(ge=0, le=16)] = 0
    """Replicas of Redis that must have what is accepted before its client is told so; 0: none."""
    redis_replicas_wait_s: Annotated[float, Meta(gt=0, le=3)] = 0.5
    """How long is waited for them; then it counts as accepted all the same, and is logged."""
    data_dir: Path = field(default_factory=lambda: user_data_path("backline"))
    """Private files of this host: CLI configuration directories, the embedded Redis."""
    host: str = "127.0.0.1"
    port: Port = 9000
    allowed_hosts: tuple[str, ...] = ()
    """Names, beside loopback's, that the API answers to; unset and not on loopback: any."""
    allowed_origins: tuple[Annotated[str, Meta(pattern=r"^https?://[^\s/?#@*]+$")], ...] = ()
    """Origins of web pages that may ask, such as `https://chat.example`; the API's own always may."""
    agents: tuple[str, ...] = ()
    """Agent directories this host's worker serves, each `DIR` or `NAME=DIR`."""
    agents_file: Path | None = None
    """TOML file with what holds for single agents, a table each (agents.md)."""
    default_agent: str | None = None
    """The agent behind a bare Claude model name; unset: the first agent served."""

    # The worker and its CLI
    slots: Count = field(default_factory=lambda: 4 * (os.cpu_count() or 1))
    """CLI turns this worker runs at the same time."""
    batch_slots: Count | None = None
    """Slots that runs of batches may take; unset: three quarters. One slot is left free if there are two."""
    claude_path: Path | None = None
    """The Claude CLI; unset: the one in the `claude-agent-sdk` wheel."""
    permission_mode: Literal["dontAsk", "default", "acceptEdits", "plan", "bypassPermissions"] = "dontAsk"
    """What happens to a tool call that the agent's own settings do not decide."""
    sandbox: Literal["auto", "bubblewrap", "none"] = "auto"
    """What an agent's process runs in; `auto`: bubblewrap where it works, else none, and the log says so."""
    sandbox_paths: tuple[Path, ...] = ()
    """Files and directories that every agent may read in its sandbox, beside the system's."""
    agent_files: AgentFiles = "read-write"
    """What an agent in a sandbox may do to its directory; `scratch`: a copy, for each process."""
    agent_versions: RevisionsAllowed = "tags"
    """Which git revisions of an agent's directory a request may name (`agent@v1`): none, tags, or any."""
    agent_network: AgentNetwork = "host"
    """What an agent in a sandbox reaches beside the model: all its host does, `agent_hosts`, or nothing."""
    agent_hosts: tuple[Listed, ...] = ()
    """What `listed` allows: `pypi.org`, `*.example.com`, `git.example.com:8443`; no port: 80 and 443."""
    agent_private_hosts: tuple[Listed, ...] = ()
    """Those of `agent_hosts` that may be on loopback or in private networks."""
    agent_transfer_bytes: Count = 1024 * 1024 * 1024
    """What one process may send to `agent_hosts` and receive from them, together."""
    allow_root: bool = False
    """Whether the worker may run as root without a sandbox."""
    credential_proxy: Literal["auto", "on", "off"] = "auto"
    """Whether a proxy adds the key to model calls, out of the agents' sight; `auto`: when there is a key."""
    allowed_models: tuple[str, ...] = ()
    """Models that the credential proxy lets agents call; unset: any."""
    client_roots: tuple[Path, ...] = ()
    """Directories in which a request may choose its working directory and additional ones."""
    client_may: tuple[ClientRight, ...] = ()
    """What a request may widen: bring MCP servers of its own, choose a freer permission mode, go first."""
    pass_env: tuple[str, ...] = ()
    """Names of environment variables agents may see, beside the allow-list."""
    upstream_retries: Annotated[int, Meta(ge=0, le=10)] = 2
    """How often the CLI repeats a failed model call; with 0 a run fails at once when the service is busy."""
    warm: Annotated[int, Meta(ge=0, le=64)] | None = None
    """Spare processes kept per agent; unset: as many as recent demand needs, at least one."""
    max_live: Annotated[int, Meta(ge=0)] = 64
    """Idle conversations kept in live processes on this worker."""
    max_live_per_tenant: Annotated[int, Meta(ge=0)] = 64
    """The same for one tenant's."""
    memory_budget_bytes: Annotated[int, Meta(ge=1)] | None = None
    """What all CLI processes of this worker may hold together; unset: half of the machine's memory."""
    max_process_bytes: Count = 700 * 1024 * 1024
    """A process beyond this is not kept for another turn."""
    max_turns_per_process: Count = 50
    """A process is not kept beyond this many turns."""
    max_project_bytes: Count = 256 * 1024 * 1024
    """What the working copy of an agent's directory may hold when a project is made; its files: 20,000."""
    session_idle_s: Seconds = 900.0
    """A live conversation that says nothing for this long leaves its process; its transcript stays."""
    session_ttl_s: Seconds = 7 * 24 * 3600.0
    """How long a conversation's transcript can be gone on with after its last turn."""
    max_transcript_bytes: Count = 32 * 1024 * 1024
    """Stored (compressed) size beyond which a conversation is no longer mirrored."""
    run_timeout_s: Seconds = 1800.0
    """A run may take this long, from its start on a worker."""
    start_timeout_s: Seconds = 30.0
    """The CLI must answer its first request within this time."""
    idle_timeout_s: Seconds = 300.0
    """A run that says nothing for this long is ended."""
    max_turns: Count = 250
    """Model calls a run may make; a request may choose fewer."""

    on_worker_loss: Literal["resume", "fail", "rerun"] = "resume"
    """What becomes of a turn that had shown something when its worker was lost."""

    # The API
    queue_limit: Count = 1000
    """Runs waiting for one agent; beyond it a request is refused with 429."""
    queue_timeout_s: Seconds = 600.0
    """A run that no worker has started by then fails."""
    unserved_timeout_s: Seconds = 30.0
    """How long an accepted run waits while no worker serves its agent: restarts of one must fit in."""
    stream_hold_s: Seconds = 10.0
    """How long the status line waits for the first output, so that an early failure has its own status."""
    show: tuple[Annotated[str, Meta(pattern=r"^(?:[a-z0-9._-]+=)?(?:thinking|tools)$")], ...] = ()
    """What answers show unless their request says: `thinking`, `tools`; of one agent: `NAME=thinking`."""
    idempotency_ttl_s: Seconds = 24 * 3600.0
    """How long an `Idempotency-Key` stands for the run, batch or file that it first made."""
    retry_window_s: Annotated[float, Meta(ge=0)] = 120.0
    """How long after a run's end an SDK's retry of its request is given that run; 0: never."""
    disconnect_grace_s: Annotated[float, Meta(ge=0)] = 5.0
    """How long a run whose client hung up waits to be asked for again, where that may happen."""
    keepalive_s: Seconds = 10.0
    """The longest silence on an open stream before a comment is sent."""
    max_projects: Count = 100
    """Projects a tenant may have at a time."""
    history_limit: Count = 2000
    """Messages a request may have."""
    max_body_bytes: Count = 32 * 1024 * 1024
    max_media_parts: Count = 100
    """Images and files a request may have, those of its history included."""
    max_media_bytes: Count = 24 * 1024 * 1024
    """What they may be together, decoded; what the model takes in one request is 32 MiB in base64."""
    max_image_bytes: Count = 5 * 1024 * 1024
    """The largest image, decoded."""
    max_file_bytes: Count = 20 * 1024 * 1024
    """The largest PDF or text file, decoded."""
    files_url: str | None = None
    """`s3://BUCKET/PREFIX` for files and batches; unset: `files` in `data_dir`, the same for all APIs."""
    max_upload_bytes: Count = 512 * 1024 * 1024
    """The largest file a client may upload."""
    max_batch_bytes: Count = 200 * 1024 * 1024
    """The same with the purpose `batch`."""
    batch_window_s: Seconds = 24 * 3600.0
    """How long a batch may take; what is not done by then expires."""
    file_ttl_s: Seconds = 30 * 24 * 3600.0
    """How long an uploaded file is kept, unless its upload says otherwise."""
    media_roots: tuple[Path, ...] = ()
    """Directories of the API's host from which a request may name files by path; unset: none."""
    fetch_timeout_s: Seconds = 10.0
    """A request's images and files must have come from their URLs within this time, redirects included."""
    fetch_private: bool = False
    """Whether URLs may lead to loopback and private networks; only where every client is trusted."""
    retention_s: Seconds = 3600.0
    """How long a finished run and its events can still be read."""
    dead_letter_ttl_s: Seconds = 7 * 24 * 3600.0
    """How long a run that was given up is kept with its request, for an operator to look at or retry."""
    completion_ttl_s: Seconds = 30 * 24 * 3600.0
    """How long a completion that a client asked to store is kept."""
    response_ttl_s: Seconds = 7 * 24 * 3600.0
    """How long a response is kept that a client has not asked to forget."""
    webhook_url: str | None = None
    """The operator's own endpoint, to which the events of all tenants go; it may be a private one."""
    webhook_secret: str | None = None
    """What those deliveries are signed with: `whsec_` and 24 to 64 bytes in base64."""
    webhook_private: bool = False
    """Whether tenants' webhooks may lead to loopback and private networks, and be `http`."""
    webhook_timeout_s: Seconds = 15.0
    """An endpoint must have answered a delivery within this time."""
    webhook_retries_s: tuple[Seconds, ...] = (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
    """How long is waited before each further try of a delivery; then it is given up."""
    max_webhooks: Count = 10
    """Webhook endpoints a tenant may have."""
    receive_timeout_s: Seconds = 30.0
    """A client may take this long to send a request's head, and its body; for that a second more per KiB."""
    connections_per_address: Annotated[int, Meta(ge=0)] | None = None
    """Open connections of one client address to one API; unset: half of its descriptors; 0: any number."""
    drain_timeout_s: Seconds = 30.0
    """How long a stopping process lets its runs or streams finish."""

    # When Claude cannot serve
    fallbacks: Annotated[tuple[Fallback, ...], Meta(max_length=16)] = ()
    """Services that answer when an agent cannot, and has shown nothing yet: see fallbacks.md."""
    breaker_failures: Count = 5
    """Failures within `breaker_window_s` after which an agent, or a fallback, is left alone for a while."""
    breaker_window_s: Seconds = 60.0
    """The time in which failures are counted, from the first one on."""
    breaker_open_s: Seconds = 30.0
    """How long it is left alone; then one run tries whether it works again."""

    # Answers kept for the same question
    cache: Literal["off", "ask", "on"] = "ask"
    """Whose answers may come from the cache: nobody's, those of requests that ask for it, or all."""
    cache_ttl_s: Seconds = 3600.0
    """How long an answer is kept."""
    cache_entries: Count = 1000
    """Answers kept for one tenant."""
    cache_bytes: Count = 64 * 1024 * 1024
    """What they may be together."""
    cache_tools: tuple[str, ...] = ()
    """Tools of an agent that only read, such as `Read`, `Grep`, `Glob`: their runs may be kept too."""

    # Keys
    auth: Literal["auto", "on", "off"] = "auto"
    """Whether requests need a key: `auto` is on once there is one, and on any address but loopback."""
    api_keys: str | None = None
    """Keys that the API takes over at its start: a list with commas, or JSON (keys.md)."""
    api_keys_file: Path | None = None
    """The same in a file; unset: `api_keys.json` in the working directory, if it is there."""
    keys_in_requests: bool = False
    """Whether a key may stand in the query or the body (`api_key`), for clients that can send no header."""

    # Logs and metrics
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "console", "json"] = "auto"
    metrics_port: Annotated[int, Meta(ge=0, le=65535)] | None = None
    """Port on which a worker shows its metrics; 0: any that is free; unset: none. The API's is its own."""
    metrics_host: str = "127.0.0.1"
    """Address for that; on any but loopback a key with the scope `metrics` or `admin` is asked for."""
