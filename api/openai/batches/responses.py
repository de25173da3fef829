"""Lines of `/v1/responses`."""

from __future__ import annotations

import msgspec

from api.choices import Choices
from api.conversations import Conversations
from api.errors import ApiError
from api.media.load import Media
from api.openai.batches.execute import Answer, AnswerLine
from api.openai.batches.runs import ItemRuns
from api.openai.responses.create import ask, whole_response
from api.openai.responses.objects import Response
from api.openai.responses.store import Responses
from api.working_copies import Projects
from shared.batches.records import BatchUsage, Item
from shared.registry import CachedRegistry
from shared.settings import Settings


def response_lines(
    conversations: Conversations,
    projects: Projects,
    registry: CachedRegistry,
    responses: Responses,
    media: Media,
    settings: Settings,
) -> AnswerLine:
    """The endpoint, for lines."""

    async def answer(item: Item, request_id: str, runs: ItemRuns) -> Answer:
        asked = await ask(
            item.body,
            item.tenant,
            request_id,
            conversations,
            projects,
            registry,
            responses,
            media,
            settings,
        )
        if asked.body.background:
            said = "A line of a batch is in the background already."
            raise ApiError(400, said, param="background", code="unsupported_value")
        choices = await Choices.submit(runs, [asked.run], tick_s=settings.keepalive_s)
        try:
            response = await whole_response(asked, choices, item.tenant, responses)
        finally:
            await choices.close()
        return Answer(msgspec.json.encode(response), _usage(response))

    return answer


def _usage(response: Response) -> BatchUsage:
    usage = response.usage
    if usage is None:
        return BatchUsage(input_tokens=0, cached_tokens=0, output_tokens=0, cost_usd=0.0)
    return BatchUsage(
        input_tokens=usage.input_tokens,
        cached_tokens=usage.input_tokens_details.cached_tokens,
        output_tokens=usage.output_tokens,
        cost_usd=response.backline.cost_usd or 0.0,
    )
