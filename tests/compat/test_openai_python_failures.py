"""The `openai` package for Python: errors have their classes, and what cannot be helped is not repeated."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest
from openai import AsyncOpenAI, AsyncStream, OpenAI
from openai.types.chat import ChatCompletionChunk

from tests.compat.proxy import Proxy
from tests.compat.scripts import MODEL, broken, refused, words
from tests.support.asking import user

pytestmark = pytest.mark.client("openai (Python)")


@pytest.fixture
def client(url: str) -> Iterator[OpenAI]:
    """Repeats at most twice, as by default."""
    with OpenAI(base_url=url, api_key="unused") as client:
        yield client


@pytest.mark.feature("errors")
def test_an_unknown_model_is_not_found(client: OpenAI, marker: str) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="nobody", messages=[user(marker)])
    assert caught.value.code == "model_not_found"
    assert caught.value.request_id


@pytest.mark.feature("errors")
def test_a_bad_value_is_a_bad_request(client: OpenAI, marker: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=MODEL, messages=[user(marker)], temperature=3)
    assert caught.value.param == "temperature"


@pytest.mark.feature("errors")
@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(
    ("status", "kind"),
    [(429, openai.RateLimitError), (500, openai.InternalServerError), (529, openai.InternalServerError)],
)
def test_a_failure_of_the_model_is_raised_and_not_repeated(
    client: OpenAI, proxy: Proxy, marker: str, status: int, kind: type[openai.APIError], is_stream: bool
) -> None:
    with pytest.raises(kind):
        client.chat.completions.create(
            model=MODEL, messages=[user(marker, refused(status))], stream=is_stream
        )
    assert len(proxy.exchanges) == 1


@pytest.mark.feature("mid-stream errors")
def test_an_error_in_mid_stream_is_raised(client: OpenAI, marker: str) -> None:
    said = []
    with (
        pytest.raises(openai.APIError, match=r".+") as caught,
        client.chat.completions.create(model=MODEL, messages=[user(marker, broken())], stream=True) as stream,
    ):
        said += [chunk.choices[0].delta.content or "" for chunk in stream]
    assert caught.value.code == "upstream_overloaded"


@pytest.mark.feature("mid-stream errors")
async def test_an_error_in_mid_stream_is_raised_from_the_async_stream(url: str, marker: str) -> None:
    said: list[str] = []
    async with AsyncOpenAI(base_url=url, api_key="unused") as client:
        stream = await client.chat.completions.create(
            model=MODEL, messages=[user(marker, broken())], stream=True
        )
        with pytest.raises(openai.APIError):
            await gather(stream, said)
    assert "".join(said) == "so far "


async def gather(stream: AsyncStream[ChatCompletionChunk], said: list[str]) -> None:
    """Add what is said, up to the error."""
    async for chunk in stream:
        said.append(chunk.choices[0].delta.content or "")  # noqa: PERF401 - what came before the error counts


@pytest.mark.feature("retries")
def test_what_was_never_accepted_is_repeated(
    client: OpenAI, proxy: Proxy, unserved: str, marker: str
) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        client.with_options(max_retries=1).chat.completions.create(
            model=unserved, messages=[user(marker, words())]
        )
    assert caught.value.code == "agent_unavailable"
    counts = [exchange.request_headers["x-stainless-retry-count"] for exchange in proxy.exchanges]
    assert counts == ["0", "1"]
