"""Lines of `/v1/completions`."""

from __future__ import annotations

import msgspec

from api.choices import Choices
from api.openai.batches.execute import Answer, AnswerLine
from api.openai.batches.runs import ItemRuns
from api.openai.completions import ask, completion_of
from shared.batches.records import BatchUsage, Item
from shared.registry import CachedRegistry
from shared.settings import Settings


def completion_lines(registry: CachedRegistry, settings: Settings) -> AnswerLine:
    """The endpoint, for lines."""

    async def answer(item: Item, request_id: str, runs: ItemRuns) -> Answer:
        asked = await ask(item.body, item.tenant, request_id, registry, settings)
        choices = await Choices.submit(runs, asked.runs, tick_s=settings.keepalive_s)
        try:
            completion = await completion_of(asked, choices)
        finally:
            await choices.close()
        usage = completion.usage
        spent = BatchUsage(input_tokens=0, cached_tokens=0, output_tokens=0, cost_usd=0.0)
        if usage:
            spent = BatchUsage(
                input_tokens=usage.prompt_tokens,
                cached_tokens=usage.prompt_tokens_details.cached_tokens,
                output_tokens=usage.completion_tokens,
                cost_usd=(completion.backline.cost_usd if completion.backline else None) or 0.0,
            )
        return Answer(msgspec.json.encode(completion), spent)

    return answer
