"""The API put together: its routes, and what their handlers are given."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from litestar import Litestar
from litestar.datastructures import State
from litestar.di import Provide
from litestar.types import ASGIApp, Receive, Scope, Send

from api.access import Access, admitted
from api.agent_objects import Agents
from api.asked_for import asked_for
from api.browser_sessions import BrowserSessions
from api.cached_answers import CachedAnswers
from api.conversations import Conversations
from api.dashboard.live import Live
from api.dashboard.sampler import Sampler
from api.dead_letters import Retries
from api.detached import DetachedStreams
from api.docs import openapi_config
from api.error_handlers import GONE, HANDLERS
from api.front import TELEMETRY, Telemetry
from api.health import Drain
from api.keyring import Keyring
from api.media.fetch import Fetcher
from api.media.load import Media
from api.metrics.process import ApiMetrics
from api.metrics.system import SystemMetrics
from api.openai.batches.chat import chat_lines
from api.openai.batches.completions import completion_lines
from api.openai.batches.responses import response_lines
from api.openai.batches.service import batches_of
from api.openai.responses.store import Responses
from api.openai.stored import StoredCompletion
from api.rates import add_rate_headers
from api.repeats import add_replay_header
from api.routes import ROUTES
from api.runs import Runs
from api.safe_headers import cors_of
from api.unattended import Unattended
from api.webhooks.deliver import Dispatcher
from api.webhooks.send import Sender
from api.webhooks.service import Webhooks
from api.working_copies import Projects
from shared.accounts import Accounts
from shared.added_items import AddedItems
from shared.answer_cache import AnswerCache
from shared.conversations import ConversationStore
from shared.data_mark import DataMark
from shared.dead_letters import DeadLetters
from shared.event_tail import EventHub
from shared.files import Files, blobs_of
from shared.happenings import Happenings
from shared.key_import import given_keys
from shared.keys import KeyStore
from shared.projects import ProjectStore
from shared.redis import connect
from shared.registry import CachedRegistry, RegistryStore
from shared.replicas import replicas_of
from shared.run_index import RunIndex
from shared.run_store import RunStore
from shared.series import SeriesStore
from shared.settings import Settings
from shared.stored import ObjectStore
from shared.tasks import end_tasks
from shared.tracing import Tracing
from shared.transcripts import TranscriptStore
from shared.usage import UsageStore
from shared.webhooks.outbox import Outbox
from shared.webhooks.store import WebhookStore


def create_app(settings: Settings, drain: Drain, tracing: Tracing | None = None) -> Litestar:
    """Assemble the API; `settings.redis_url` must be set. Nothing connects before the lifespan starts.

    Raises `KeyImportError` when the keys it is to take over cannot be read.
    """
    metrics = ApiMetrics()
    redis = connect(
        settings.redis_url or "",
        on_error=metrics.redis_failed,
        replicas=replicas_of(settings, metrics.replicas_missed),
    )
    keys = KeyStore(redis)
    keyring = Keyring(redis, keys, given_keys(settings))
    hub = EventHub(redis)
    registry_store = RegistryStore(redis)
    registry = CachedRegistry(registry_store)
    data_mark = DataMark(redis)
    store = RunStore(redis, retention_s=settings.retention_s)
    cache = AnswerCache(redis, settings)
    runs = Runs(
        store, hub, registry, settings, CachedAnswers(cache, registry, settings, metrics.answer_looked_for)
    )
    fetcher = Fetcher(with_private=settings.fetch_private)
    conversations = Conversations(
        ConversationStore(redis, settings.session_ttl_s),
        AddedItems(redis, settings.session_ttl_s),
        TranscriptStore(redis, ttl_s=settings.session_ttl_s, max_bytes=settings.max_transcript_bytes),
        registry,
    )

    completions = ObjectStore(redis, "completion", StoredCompletion, settings.completion_ttl_s)
    unattended = Unattended(redis, runs, settings)
    responses = Responses(redis, runs, unattended, Outbox(settings), settings)
    unattended.settle_with(responses.settle_run)
    letters = DeadLetters(redis, settings.dead_letter_ttl_s)
    blobs = blobs_of(settings)
    files = Files(redis, blobs, ttl_s=settings.file_ttl_s)
    media = Media(fetcher, settings, files)
    projects = Projects(ProjectStore(redis), registry, most=settings.max_projects)

    lines = {
        "/v1/chat/completions": chat_lines(conversations, projects, registry, completions, media, settings),
        "/v1/completions": completion_lines(registry, settings),
        "/v1/responses": response_lines(conversations, projects, registry, responses, media, settings),
    }
    batches = batches_of(redis, runs, keys, registry, files, blobs, settings, lines)

    hooks, sender = WebhookStore(redis, settings), Sender(settings)
    browsers = BrowserSessions(redis, keys)
    run_index = RunIndex(redis)
    usage, series, happenings = UsageStore(redis), SeriesStore(redis), Happenings(redis)
    live = Live(series, happenings, registry, usage)
    system = SystemMetrics(redis, registry, series, usage)
    metrics.registry.register(system)

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncGenerator[None, None]:
        async with asyncio.TaskGroup() as group:
            parts = (
                hub.run(),
                data_mark.run(),
                runs.run(),
                unattended.run(),
                files.sweep_forever(),
                batches.coordinator.run(),
                Dispatcher(hooks, sender, settings, metrics.webhook_tried).run(),
                keyring.run(),
                keyring.take_over(),
                live.run(),
                metrics.loop_delay.run(),
                Sampler(series, happenings, registry).run(),
            )
            tasks = [group.create_task(part) for part in parts]
            yield
            await runs.settle()
            await end_tasks(tasks)
        await fetcher.aclose()
        await sender.aclose()
        await redis.aclose()
        if tracing is not None:
            await tracing.close()

    return Litestar(
        route_handlers=ROUTES,
        lifespan=[lifespan],
        dependencies={
            **asked_for(runs, registry, settings),
            "conversations": _given(conversations),
            "completions": _given(completions),
            "responses": _given(responses),
            "detached": _given(DetachedStreams(redis, unattended)),
            "media": _given(media),
            "projects": _given(projects),
            "files": _given(files),
            "batches": _given(batches),
            "webhooks": _given(Webhooks(hooks, sender, settings)),
            "drain": _given(drain),
            "data_mark": _given(data_mark),
            "keys": _given(keys),
            "store": _given(store),
            "dead_letters": _given(letters),
            "retries": _given(Retries(letters, runs, unattended)),
            "run_index": _given(run_index),
            "agents": _given(Agents(registry_store, run_index, keys)),
            "accounts": _given(Accounts(redis)),
            "cache": _given(cache),
            "usage": _given(usage),
            "browsers": _given(browsers),
            "live": _given(live),
            "series_store": _given(series),
            "happenings": _given(happenings),
            "registry_store": _given(registry_store),
            "process_metrics": _given(metrics),
            "system_metrics": _given(system),
        },
        exception_handlers={**HANDLERS},
        request_max_body_size=settings.max_body_bytes,
        cors_config=cors_of(settings),
        openapi_config=openapi_config(),
        guards=[admitted],
        before_send=[add_rate_headers, add_replay_header],
        middleware=[_noting_answers(runs)],
        state=State({"access": Access(keyring, browsers, settings), TELEMETRY: Telemetry(metrics, tracing)}),
    )


def _noting_answers(runs: Runs) -> Callable[[ASGIApp], ASGIApp]:
    """Notes which requests had their answers, so that a retry of another, equal one is not given the same."""

    def wrapped(app: ASGIApp) -> ASGIApp:
        async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
            await app(scope, receive, send)
            if not scope.get("state", {}).get(GONE):
                await runs.note_told(scope)

        return middleware

    return wrapped


def _given(value: object) -> Provide:
    return Provide(lambda: value, sync_to_thread=False)
