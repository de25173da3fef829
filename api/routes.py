"""The whole route table."""

from __future__ import annotations

from litestar.types import ControllerRouterHandler

from api.admin_agents import list_agents
from api.admin_cache import clear_cache
from api.admin_keys import create_key, list_keys, retrieve_key, revoke_key, rotate_key
from api.anthropic.messages import count_tokens, create_message
from api.completions_control import completion_status
from api.dashboard.files import dashboard_files
from api.dashboard.routes import dashboard
from api.dead_letters import (
    discard_letter,
    discard_letters,
    list_letters,
    retrieve_letter,
    retry_letter,
    retry_letters,
)
from api.detached import follow_run
from api.docs import docs_page, front_door, openapi_json, static_files
from api.health import health, ready
from api.metrics.routes import list_worker_metrics, read_metrics
from api.model_list import list_models, retrieve_model
from api.openai.batches.routes import cancel_batch, create_batch, list_batches, retrieve_batch
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
from api.openai.responses.routes import cancel_response, delete_response, list_input_items, retrieve_response
from api.openai.stored import (
    delete_completion,
    list_completions,
    list_messages,
    retrieve_completion,
    update_completion,
)
from api.projects import create_project, delete_project, list_projects, retrieve_project
from api.run_routes import cancel_run, list_runs, retrieve_run
from api.sessions import create_session, delete_session, list_sessions, retrieve_session, session_stats
from api.usage import all_stats, list_usage, overall, own_stats, reset_key
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
    list_agents,
    list_usage,
    own_stats,
    all_stats,
    reset_key,
    overall,
    health,
    ready,
    read_metrics,
    list_worker_metrics,
    front_door,
    docs_page,
    openapi_json,
    static_files,
    dashboard,
    dashboard_files,
]
