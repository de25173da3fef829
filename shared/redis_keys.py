"""Names in Redis, and how long what they name lives.

Those of batches, webhooks and transcripts stand with what alone uses them: `shared.batches.redis_keys`,
`shared.webhooks.redis_keys` and `shared.transcript_keys`.

The `arq:` names are ARQ 0.28's own wire format. Scripts build `arq:in-progress:` names from run ids, so
all of it lives on one Redis (primary), not on a cluster.
"""

from __future__ import annotations

import hashlib
from urllib.parse import quote, unquote

from arq.constants import in_progress_key_prefix, job_key_prefix, retry_key_prefix

WORKERS = "backline:workers"
"""Sorted set of worker ids by the time (ms, Redis clock) their record lapses."""
UNATTENDED = "backline:unattended"
"""Sorted set of runs that go on without a connection, with their tenants, by when they were created (s)."""
AGENTS = "backline:agents"
"""Hash of agent name to the record last announced, kept a week after the last worker left."""

DEAD = "backline:dead"
"""Sorted set of the ids of dead letters by when their runs were given up (ms)."""
MOST_DEAD = 1_000
"""So many dead letters are kept, the newest: each holds a whole request."""
TURN = "backline:turn"
"""Number of the newest turn that a queue's line was given or served in (`shared/lua/queues.lua`)."""
SERVED = "backline:served"
"""Sorted set of lines and queues by the turn they were last served in; the 10,000 newest."""

DATA_MARK = "backline:data-mark"
"""A word that is there as long as the data are: who finds another one knows that they were lost."""
COPIED = "backline:copied"
"""Channel that nobody listens to: what is published goes to the replicas too (`shared.replicas`)."""
KEYS = "backline:keys"
"""Hash of key id to the key's record (`shared.keys`); kept until an operator deletes it."""
KEY_HASHES = "backline:key-hashes"
"""Hash of a secret's SHA-256 to the id of the key it opens; kept as long as the secret is good."""
KEY_USES = "backline:key-uses"
"""Hash of key id to when the key was last used (ms, Redis clock)."""
KEY_CHANGES = "backline:key-changes"
"""Channel that says which key has changed."""
KEY_USES_TTL_MS = 400 * 24 * 3_600_000

ANY_CACHE_USED = "backline:cache-used:*"
"""Pattern of what says which answers of a tenant are cached."""
SAMPLER = "backline:sampler"
"""Id of the API process that takes the samples of the dashboard's plots, for a few samples' time."""
FIRST_TOKENS = "backline:first-tokens"
"""Stream of how long runs took from their submission to their first output (ms); the newest of the hour."""
HAPPENINGS = "backline:happenings"
"""Stream of what an operator should see (`shared.happenings`); the newest of the week."""
DRAIN = "drain"
"""On a control channel: end as on SIGTERM, after the runs that are under way."""

LEASE_MS = 8_000
"""A worker silent for this long has lost its runs."""
AFFINITY_MS = 150
"""How long a run waits for the worker that has its conversation live, before any other may take it."""
PROBE_MS = 10_000
"""How long a run may take that tries whether the model's service answers again, before the next one does."""
RENEW_S = 2.0
"""How often a worker renews its leases and its own record."""
AGENTS_TTL_MS = 7 * 24 * 3_600_000
DROP = "drop "
"""Before a session's id on a control channel: end the idle process that holds it."""
MAKE = "make "
"""Before an owner, a slash and a project's id on a control channel: copy the agent's directory for it."""
REMOVE = "remove "
"""Before the same: the project was deleted."""
PROJECT_TTL_MS = 30 * 24 * 3_600_000
"""A project's record outlives the last word of a worker that has its files, and its deletion, by as much."""
BATCH = "batch:"
"""Before a place in the name of a queue: its runs give way to all others."""
MOST_RUNS = 100_000
"""A list of runs holds the newest of them, up to this many."""
RUN_SLACK_MS = 3_600_000
"""A run's record outlives its own deadlines by this much, so that a late reader still finds why it ended."""


def run(run_id: str) -> str:
    """Hash: the run's record."""
    return f"backline:run:{run_id}"


def runs(tenant: str | None = None) -> str:
    """Sorted set of run ids by when they were submitted (ms, Redis clock): a tenant's, or all of them."""
    return "backline:runs" if tenant is None else f"backline:runs:{owner(tenant)}"


def repeat(digest: str) -> str:
    """Hash: what a request with an idempotency key asked for, and the run it started (`shared.repeats`)."""
    return f"backline:repeat:{digest}"


def tries(digest: str) -> str:
    """Sorted set of the runs of equal requests whose answers are not told to their end (ms, Redis clock)."""
    return f"backline:tries:{digest}"


def events(run_id: str) -> str:
    """Stream of the run's events, and the channel they are published on."""
    return f"backline:events:{run_id}"


def dead(run_id: str) -> str:
    """Hash: a dead letter (`shared.dead_letters`)."""
    return f"backline:dead:{run_id}"


def dead_request(run_id: str) -> str:
    """What the dead run was asked; lives and goes with the letter."""
    return f"backline:dead-request:{run_id}"


def queue(agent: str) -> str:
    """ARQ queue (sorted set of run ids by due time in ms) of one agent."""
    return f"backline:queue:{agent}"


def batch_queue(place: str) -> str:
    """The same for runs nobody waits for, of an agent or a project."""
    return queue(BATCH + place)


def passed(worker_id: str) -> str:
    """Hash: how often a worker passed over each tier that had runs waiting since it last took one of it."""
    return f"backline:passed:{worker_id}"


def pause(upstream: str) -> str:
    """Hash: until when (ms) no run is to be started with credentials, and how often they were refused.

    `upstream` stands for the credentials and tells nothing of them.
    """
    return f"backline:pause:{upstream}"


def doorbell(agent: str) -> str:
    """Channel that wakes the workers of an agent."""
    return f"backline:doorbell:{agent}"


def place(agent: str, project: str) -> str:
    """What a run's queue is named after: the agent, or the project it works in. No agent's name has a `:`."""
    return f"project:{project}" if project else agent


def project(owned_by: str, project_id: str) -> str:
    """Hash: a project's record (`shared.projects`); of a deleted one only the field `gone`."""
    return f"backline:project:{owned_by}:{project_id}"


def projects(owned_by: str) -> str:
    """Sorted set of project ids by when they were created (ms); `owned_by` is what `owner` gives."""
    return f"backline:projects:{owned_by}"


def worker(worker_id: str) -> str:
    """Record of a live worker."""
    return f"backline:worker:{worker_id}"


def agent_reports(worker_id: str) -> str:
    """What a live worker tells of its agents (`shared.agent_reports`); lives as long as its record."""
    return f"backline:agent-reports:{worker_id}"


def control(worker_id: str) -> str:
    """Channel on which a worker hears the ids of runs to cancel, of sessions to drop, and of projects."""
    return f"backline:control:{worker_id}"


def own_queue(worker_id: str) -> str:
    """ARQ queue of one worker, for conversations it holds live; no agent's name begins with `@`."""
    return queue(f"@{worker_id}")


def prefix(prefix_hash: str) -> str:
    """Hash: the session that holds exactly this history, the place in it, and the worker that has it live."""
    return f"backline:prefix:{prefix_hash}"


def conversation(tenant: str, conversation_id: str) -> str:
    """Hash: a conversation's record (`shared.conversations`)."""
    return f"backline:conversation:{owner(tenant)}:{conversation_id}"


def added_items(tenant: str, conversation_id: str) -> str:
    """List of items that a client added to a conversation and no turn has taken yet, each behind its id."""
    return f"backline:added:{owner(tenant)}:{conversation_id}"


def conversations(tenant: str) -> str:
    """Sorted set of a tenant's conversation ids by when they were last used (ms, Redis clock)."""
    return f"backline:conversations:{owner(tenant)}"


def session(tenant: str, session_id: str) -> str:
    """Hash: a session's record; of a deleted one only the field `gone`, which shuts out its last turn."""
    return f"backline:session:{owner(tenant)}:{session_id}"


def sessions(tenant: str, of: str = "") -> str:
    """Sorted set of a tenant's session ids, all or those of one `place`, by when they were last used (ms)."""
    return f"backline:sessions:{owner(tenant)}:{of}"


def stored(kind: str, tenant: str, object_id: str) -> str:
    """Hash: an object that a client asked to keep (`shared.stored`)."""
    return owned(kind, owner(tenant), object_id)


def owned(kind: str, owned_by: str, object_id: str) -> str:
    """The same, where only the tenant's part of names is known."""
    return f"backline:{kind}:{owned_by}:{object_id}"


def stored_list(kind: str, tenant: str) -> str:
    """Sorted set of a tenant's objects of a kind by their creation (ms, Redis clock)."""
    return f"backline:{kind}s:{owner(tenant)}"


def account(key_id: str) -> str:
    """Hash: what an API key's runs have used of its minute, day and month (`shared.accounts`).

    With `:runs` and `:waiting` after it, sorted sets of its runs that are not over, and not begun.
    """
    return f"backline:account:{key_id}"


def breaker(name: str) -> str:
    """Hash: how a circuit stands (`worker/fallback/breaker.py`): an agent's, or a fallback's."""
    return f"backline:breaker:{encoded(name)}"


def cached(owned_by: str, name: str) -> str:
    """A cached answer of the tenant that `owner` gives so (`shared.answer_cache`)."""
    return f"backline:cache:{owned_by}:{name}"


def cache_used(owned_by: str) -> str:
    """Sorted set of the names of a tenant's cached answers by when they were last used (ms, Redis clock)."""
    return f"backline:cache-used:{owned_by}"


def cache_ends(owned_by: str) -> str:
    """The same by when they lapse."""
    return f"backline:cache-ends:{owned_by}"


def cache_sizes(owned_by: str) -> str:
    """Hash of the same names to their sizes in bytes; under the empty name the sum."""
    return f"backline:cache-sizes:{owned_by}"


def usage(day: str) -> str:
    """Hash: what was used on a day (`2026-01-31`, UTC) by key and agent; so far in `total` and `agents`."""
    return f"backline:usage:{day}"


def series(step_s: int) -> str:
    """Stream of samples (`shared.series`), one every `step_s` seconds, as far back as the plots go."""
    return f"backline:series:{step_s}"


def browser_session(digest: str) -> str:
    """A browser that is logged in: which key it did so with. `digest` is of what its cookie holds."""
    return f"backline:browser-session:{digest}"


def owner(tenant: str) -> str:
    """A tenant as part of a name: of fixed length, and telling nothing."""
    return hashlib.sha256(tenant.encode()).hexdigest()[:16]


def job(run_id: str) -> str:
    """ARQ's job body: the function's name and the run id."""
    return job_key_prefix + run_id


def lease(run_id: str) -> str:
    """ARQ's in-progress key; here its value is the owner and its time to live the lease."""
    return in_progress_key_prefix + run_id


def retry(run_id: str) -> str:
    """ARQ's count of starts."""
    return retry_key_prefix + run_id


def encoded(text: str) -> str:
    """`text` as one part of a name: what it holds can never be taken for a separator."""
    return quote(text, safe="", errors="surrogatepass")


def decoded(part: str) -> str:
    """What `encoded` was given."""
    return unquote(part, errors="surrogatepass")
