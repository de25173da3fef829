"""The API: the whole route table, and what its handlers are given."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import structlog
from litestar import Litestar, Request, Response
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.types import ASGIApp, ControllerRouterHandler, Receive, Scope, Send
from redis.exceptions import RedisError

from api.access import Access, admitted
from api.admin_cache import clear_cache
from api.admin_keys import create_key, list_keys, retrieve_key, revoke_key, rotate_key
from api.anthropic.messages import count_tokens, create_message
from api.asked_for import asked_for
from api.browser_sessions import BrowserSessions
from api.cached_answers import CachedAnswers
from api.completions_control import completion_status
from api.conversations import Conversations
from api.dashboard.live import Live
from api.dashboard.routes import dashboard, dashboard_files
from api.dashboard.sampler import Sampler
from api.dead_letters import (
    Retries,
    discard_letter,
    discard_letters,
    list_letters,
    retrieve_letter,
    retry_letter,
    retry_letters,
)
from api.detached import DetachedStreams, follow_run
from api.docs import docs_page, openapi_config, openapi_json, static_files
from api.error_answers import body_of, status_of
from api.errors import ApiError, ClientGoneError, unavailable
from api.front import TELEMETRY, Telemetry
from api.health import Drain, health, ready
from api.keyring import Keyring
from api.media.fetch import Fetcher
from api.media.load import Media
from api.metrics.process import ApiMetrics
from api.metrics.routes import list_worker_metrics, read_metrics
from api.metrics.system import SystemMetrics
from api.model_list import list_models, retrieve_model
from api.openai.batches.chat import chat_lines
from api.openai.batches.completions import completion_lines
from api.openai.batches.responses import response_lines
from api.openai.batches.routes import cancel_batch, create_batch, list_batches, retrieve_batch
from api.openai.batches.service import batches_of
from api.openai.chat import create_chat_completion
from api.openai.completions import create_completion
from api.openai.conversation_items import create_items, delete_item, list_items, retrieve_item
from api.openai.conversations import (
    create_conversation,
    delete_conversation,
    list_conversations,
    retrieve_conversation,
    update_conversation,
)
from api.openai.files.routes import create_file, delete_file, file_content, list_files, retrieve_file
from api.openai.responses.create import create_response
from api.openai.responses.input_tokens import compact_response, count_input_tokens
from api.openai.responses.routes import (
    cancel_response,
    delete_response,
    list_input_items,
    retrieve_response,
)
from api.openai.responses.store import Responses
from api.openai.stored import (
    StoredCompletion,
    delete_completion,
    list_completions,
    list_messages,
    retrieve_completion,
    update_completion,
)
from api.projects import create_project, delete_project, list_projects, retrieve_project
from api.rates import add_rate_headers
from api.repeats import add_replay_header
from api.run_routes import cancel_run, list_runs, retrieve_run
from api.runs import Runs
from api.safe_headers import cors_of
from api.sessions import create_session, delete_session, list_sessions, retrieve_session, session_stats
from api.unattended import Unattended
from api.usage import all_stats, list_usage, overall, own_stats, reset_key
from api.webhooks.deliver import Dispatcher
from api.webhooks.routes import (
    create_webhook,
    delete_webhook,
    list_deliveries,
    list_event_types,
    list_webhooks,
    redeliver,
    retrieve_webhook,
    rotate_webhook_secret,
    try_webhook,
    update_webhook,
)
from api.webhooks.send import Sender
from api.webhooks.service import Webhooks
from api.working_copies import Projects
from shared.accounts import Accounts
from shared.added_items import AddedItems
from shared.answer_cache import AnswerCache
from shared.blobs import BlobError
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

_log = structlog.get_logger(__name__)
_GONE = "client_gone"

ROUTES: list[ControllerRouterHandler] = [
    create_chat_completion,
    create_completion,
    create_message,
    count_tokens,
    completion_status,
    list_completions,
    retrieve_completion,
    update_completion,
    delete_completion,
    list_messages,
    list_runs,
    retrieve_run,
    cancel_run,
    follow_run,
    create_response,
    count_input_tokens,
    compact_response,
    retrieve_response,
    delete_response,
    cancel_response,
    list_input_items,
    list_models,
    retrieve_model,
    create_conversation,
    list_conversations,
    retrieve_conversation,
    update_conversation,
    delete_conversation,
    list_items,
    create_items,
    retrieve_item,
    delete_item,
    list_sessions,
    create_session,
    session_stats,
    retrieve_session,
    delete_session,
    list_projects,
    create_project,
    retrieve_project,
    delete_project,
    create_file,
    list_files,
    retrieve_file,
    file_content,
    delete_file,
    create_batch,
    list_batches,
    retrieve_batch,
    cancel_batch,
    create_webhook,
    list_webhooks,
    retrieve_webhook,
    update_webhook,
    delete_webhook,
    rotate_webhook_secret,
    try_webhook,
    list_deliveries,
    redeliver,
    list_event_types,
    list_keys,
    create_key,
    retrieve_key,
    revoke_key,
    rotate_key,
    list_letters,
    retrieve_letter,
    retry_letter,
    discard_letter,
    retry_letters,
    discard_letters,
    clear_cache,
    list_usage,
    own_stats,
    all_stats,
    reset_key,
    overall,
    health,
    ready,
    read_metrics,
    list_worker_metrics,
    docs_page,
    openapi_json,
    static_files,
    dashboard,
    dashboard_files,
]


def create_app(settings: Settings, drain: Drain, tracing: Tracing | None = None) -> Litestar:
    """Assemble the API; `settings.redis_url` must be set. Nothing connects before the lifespan starts.

    Raises `KeyImportError` when the keys it is to take over cannot be read.
    """
    metrics = ApiMetrics()
    redis = connect(settings.redis_url or "", on_error=metrics.redis_failed)
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
            "run_index": _given(RunIndex(redis)),
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
        exception_handlers={
            ApiError: _api_error,
            ClientGoneError: _client_gone,
            HTTPException: _http_error,
            RedisError: _redis_error,
            BlobError: _storage_error,
            Exception: _bug,
        },
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
            if not scope.get("state", {}).get(_GONE):
                await runs.note_told(scope)

        return middleware

    return wrapped


def _given(value: object) -> Provide:
    return Provide(lambda: value, sync_to_thread=False)


def _api_error(request: Request[Any, Any, Any], error: ApiError) -> Response[bytes]:
    return Response(
        body_of(error, request.scope),
        status_code=status_of(error, request.scope),
        media_type="application/json",
        headers=error.headers,
    )


def _client_gone(request: Request[Any, Any, Any], _: ClientGoneError) -> Response[None]:
    request.state[_GONE] = True
    return Response(None, status_code=499)


def _http_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """Litestar's own refusals (no route, wrong method, too large a body) in the client's envelope."""
    said = {
        404: f"Unknown request URL: {request.method} {request.url.path}.",
        405: f"Not allowed to {request.method} {request.url.path}.",
        413: "The request body is too large.",
    }.get(error.status_code, error.detail)
    code = {404: "unknown_url", 405: "method_not_allowed", 413: "request_too_large"}.get(error.status_code)
    param = None
    match error.extra:
        case [{"key": str(key), "message": str(why)}, *_]:  # a query parameter
            param, said, code = key, f"Invalid '{key}': {why}.", "invalid_value"
    answer = _api_error(request, ApiError(error.status_code, said, code=code, param=param))
    answer.headers.update(error.headers or {})  # 405 must say what is allowed (RFC 9110)
    return answer


def _redis_error(request: Request[Any, Any, Any], error: RedisError) -> Response[bytes]:
    _log.warning("redis_unreachable", error=str(error))
    return _api_error(request, unavailable("The queue does not answer right now."))


def _storage_error(request: Request[Any, Any, Any], error: BlobError) -> Response[bytes]:
    _log.error("storage_failed", error=str(error))
    return _api_error(request, unavailable("The storage of files does not answer right now."))


def _bug(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    _log.error("request_failed", exc_info=error)
    said = "The server failed on this request; its log has the details under the request id."
    return _api_error(
        request,
        ApiError(500, said, type="server_error", code="internal_error", is_retryable=False),
    )
