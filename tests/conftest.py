"""The stack of real processes, shared by a session; tests with needs of their own start their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any
from uuid import uuid4

import httpx
import pytest
from anthropic import AsyncAnthropic
from hypothesis import settings
from openai import AsyncOpenAI, OpenAI

from tests.support.model import Model
from tests.support.stack import Stack, running_model, running_stack

NewStack = Callable[..., Stack]

settings.register_profile("untimed", deadline=None)  # a busy machine is no broken promise
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def model() -> Iterator[Model]:
    with running_model() as model:
        yield model


@pytest.fixture(scope="session")
def stack(model: Model) -> Iterator[Stack]:
    """Defaults, and no repeats of failed model calls."""
    with running_stack(model, slots=8) as stack:
        yield stack


@pytest.fixture(scope="session")
def hasty(model: Model) -> Iterator[Stack]:
    """Every limit short."""
    limits: dict[str, Any] = {
        "keepalive_s": 0.3,
        "stream_hold_s": 0.3,
        "idle_timeout_s": 4,
        "run_timeout_s": 8,
        "upstream_retries": 1,
        "max_body_bytes": 1_000_000,
    }
    with running_stack(model, slots=8, **limits) as stack:
        yield stack


@pytest.fixture(scope="session")
def guarded(model: Model) -> Iterator[Stack]:
    """Keys are asked for, and the logs say all that they may; tests bring keys of their own."""
    with running_stack(model, slots=8, auth="on", keys_in_requests="true", log_level="debug") as stack:
        yield stack


@pytest.fixture
def new_stack(model: Model) -> Iterator[NewStack]:
    """Starts stacks that end, leak check included, with the test."""
    with ExitStack() as stacks:

        def start(**settings: Any) -> Stack:
            return stacks.enter_context(partial(running_stack, model)(**settings))

        yield start


@pytest.fixture
def marker() -> str:
    """A word to find this test's requests by."""
    return f"marker-{uuid4().hex}"


@pytest.fixture
async def sdk(stack: Stack) -> AsyncIterator[AsyncOpenAI]:
    async with stack.sdk() as sdk:
        yield sdk


@pytest.fixture
async def claude(stack: Stack) -> AsyncIterator[AsyncAnthropic]:
    """Anthropic's client of the Messages API."""
    async with stack.anthropic() as claude:
        yield claude


@pytest.fixture
def sync_sdk(stack: Stack) -> Iterator[OpenAI]:
    with stack.sync_sdk() as sdk:
        yield sdk


@pytest.fixture
async def http(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    async with stack.http() as http:
        yield http
