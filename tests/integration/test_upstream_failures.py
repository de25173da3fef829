"""What goes wrong between CLI and model reaches the client as what it is."""

from __future__ import annotations

import asyncio

import openai
import pytest
from openai import AsyncOpenAI

from scripted_model import call, cut, fail, script, stall, text, tokens, use_tool
from tests.support.asking import ask, check_envelope, text_of, until_error
from tests.support.model import Model
from tests.support.stack import Stack

FAILURES: list[tuple[int, type[openai.APIStatusError], int, str]] = [
    (400, openai.BadRequestError, 400, "upstream_refused_request"),
    (401, openai.InternalServerError, 502, "upstream_auth"),
    (403, openai.InternalServerError, 502, "upstream_auth"),
    (429, openai.RateLimitError, 429, "rate_limit_exceeded"),
    (500, openai.InternalServerError, 502, "upstream_error"),
    (529, openai.InternalServerError, 503, "upstream_overloaded"),
]


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(("upstream", "kind", "status", "code"), FAILURES)
async def test_a_failure_before_the_first_word_has_a_status_of_its_own(
    sdk: AsyncOpenAI,
    model: Model,
    marker: str,
    upstream: int,
    kind: type[openai.APIStatusError],
    status: int,
    code: str,
    is_stream: bool,
) -> None:
    with pytest.raises(kind) as caught:
        await ask(sdk, marker, script(fail(upstream)), stream=is_stream)
    check_envelope(caught.value.response, status, code)
    assert caught.value.code == code
    headers = caught.value.response.headers
    assert headers["x-should-retry"] == "false"
    assert headers["x-backline-run-id"].startswith("run_")
    assert ("retry-after" in headers) == (upstream in {429, 529})
    if upstream != 400:  # after which the CLI asks again without its newest features, settings or not
        assert len(model.calls(marker)) == 1


@pytest.mark.parametrize("upstream", [401, 429, 500, 529])
async def test_a_failure_after_the_first_word_is_an_error_in_the_stream(
    sdk: AsyncOpenAI, model: Model, marker: str, upstream: int
) -> None:
    said, error = await until_error(sdk, marker, script(text("one two "), fail(upstream)))
    assert said == "one two "
    assert not isinstance(error, (openai.APIStatusError, openai.APIConnectionError))
    assert isinstance(error.code, str)
    assert error.code.startswith(("upstream_", "rate_limit"))
    assert error.type
    assert error.message
    assert len(model.calls(marker)) == 1


async def test_a_failure_after_the_agents_tools_is_an_error_too(
    sdk: AsyncOpenAI, model: Model, marker: str
) -> None:
    asked = script(call(text("one "), use_tool("Bash", {"command": "echo hi"})), call(fail(529)))
    said, error = await until_error(sdk, marker, asked)
    assert said == "one "
    assert error.code == "upstream_overloaded"
    assert len(model.calls(marker)) == 2


async def test_a_connection_cut_in_mid_stream_never_splices_two_answers(
    hasty: Stack, model: Model, marker: str
) -> None:
    """Repeats are allowed on this stack; after shown text there must be none."""
    async with hasty.sdk() as sdk:
        said, error = await until_error(sdk, marker, script(tokens(5, pace_ms=100), cut()))
    assert said
    assert "t0 t1 t2 t3 t4".startswith(said)
    assert error.code == "upstream_error"


async def test_a_connection_cut_in_mid_answer_is_an_error(sdk: AsyncOpenAI, marker: str) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        await ask(sdk, marker, script(tokens(5, pace_ms=100), cut()))
    check_envelope(caught.value.response, 502, "upstream_error")


async def test_a_failure_that_passes_is_repeated_unseen(hasty: Stack, model: Model, marker: str) -> None:
    async with hasty.sdk() as sdk:
        answer = await ask(sdk, marker, script(fail(529, times=1), text("yes")))
    assert text_of(answer) == "yes"
    assert len(model.calls(marker)) == 2


async def test_bad_credentials_are_not_tried_again(hasty: Stack, model: Model, marker: str) -> None:
    async with hasty.sdk() as sdk:
        with pytest.raises(openai.APIError) as caught:
            await ask(sdk, marker, script(fail(401)))
    assert caught.value.code == "upstream_auth"
    assert len(model.calls(marker)) == 1


async def test_a_want_of_credit_is_said_at_once_and_not_waited_for(
    hasty: Stack, model: Model, marker: str
) -> None:
    no_credit = fail(400, message="Your credit balance is too low to access the Anthropic API.")
    async with hasty.sdk() as sdk:
        with pytest.raises(openai.InternalServerError, match="no credit left") as caught:
            await ask(sdk, marker, script(no_credit))
    check_envelope(caught.value.response, 502, "upstream_auth")


async def test_a_model_that_the_service_has_not_is_named_as_the_cause(sdk: AsyncOpenAI, marker: str) -> None:
    with pytest.raises(openai.BadRequestError, match="does not have the model") as caught:
        await ask(sdk, marker, script(fail(404, message="model: claude-nope")))
    check_envelope(caught.value.response, 400, "upstream_refused_request")


async def test_a_failure_after_the_status_line_is_an_error_in_the_stream(hasty: Stack, marker: str) -> None:
    async with hasty.sdk() as sdk:
        said, error = await until_error(sdk, marker, script(stall(1.5), fail(403)))
    assert said == ""
    assert error.code == "upstream_auth"


async def test_failures_do_not_touch_the_runs_beside_them(sdk: AsyncOpenAI, marker: str) -> None:
    good, bad = await asyncio.gather(
        ask(sdk, marker, script(tokens(10, pace_ms=50))),
        ask(sdk, marker, script(fail(500))),
        return_exceptions=True,
    )
    assert isinstance(bad, openai.InternalServerError)
    assert not isinstance(good, BaseException)
    assert text_of(good).endswith("t9")
