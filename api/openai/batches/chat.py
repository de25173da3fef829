"""Lines of `/v1/chat/completions`."""

from __future__ import annotations

import msgspec

from api.backline import shown
from api.choices import Choices
from api.conversations import Conversations
from api.decode import decode_body
from api.media.load import Media
from api.openai.batches.execute import Answer, AnswerLine
from api.openai.batches.runs import ItemRuns
from api.openai.chat import Asked, completion_of, keeper_of, prepare
from api.openai.completion import ChatCompletion
from api.openai.policy import choices_of, ignored_fields
from api.openai.stored import Completions
from api.openai.tools import tools_of
from api.openai.wire import ChatRequest
from api.working_copies import Projects
from shared.batches.records import BatchUsage, Item
from shared.registry import CachedRegistry
from shared.settings import Settings


def chat_lines(
    conversations: Conversations,
    projects: Projects,
    registry: CachedRegistry,
    completions: Completions,
    media: Media,
    settings: Settings,
) -> AnswerLine:
    """The endpoint, for lines."""

    async def answer(item: Item, request_id: str, runs: ItemRuns) -> Answer:
        body, unknown = decode_body(item.body, ChatRequest, nested=["claude_options", "backline"])
        ignored = ignored_fields(body, unknown)
        place, run = await prepare(
            body, item.tenant, request_id, conversations, projects, registry, media, settings
        )
        asked = Asked(body, run, ignored, tools_of(body), shown(body.backline, run.agent, settings))
        count = choices_of(body, place.thread)
        choices = await Choices.submit(runs, [run] * count, tick_s=settings.keepalive_s)
        try:
            completion = await completion_of(asked, choices)
        finally:
            await choices.close()
        if body.store:
            await keeper_of(item.body, item.tenant, completions)(completion)
        return Answer(msgspec.json.encode(completion), usage_of(completion))

    return answer


def usage_of(completion: ChatCompletion) -> BatchUsage:
    """What a completion cost."""
    usage = completion.usage
    return BatchUsage(
        input_tokens=usage.prompt_tokens,
        cached_tokens=usage.prompt_tokens_details.cached_tokens,
        output_tokens=usage.completion_tokens,
        cost_usd=completion.backline.cost_usd or 0.0,
    )
