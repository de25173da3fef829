"""Keys and limits on the whole stack: two API replicas, real runs."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import openai
import pytest

from scripted_model import call, say, script, text, tokens
from shared.keys import Grant, KeyStore, Limits
from shared.redis import connect
from tests.conftest import NewStack
from tests.support.asking import PATH, ask, body, stream
from tests.support.processes import BACKLINE, Server
from tests.support.redis_dump import redis_dump
from tests.support.stack import Stack, clean_environ
from tests.support.waiting import wait_for
from tests.unit.support_api import announce


def new_key(stack: Stack, *options: str) -> tuple[str, str]:
    """A key made by the command: its id and its secret."""
    argv = [BACKLINE, "keys", "create", "--redis-url", stack.redis_url, "--json", *options]
    done = subprocess.run(
        argv, env=clean_environ(stack.root), cwd=stack.root, capture_output=True, text=True, check=True
    )
    made = json.loads(done.stdout)
    return made["id"], made["secret"]


def sdk(stack: Stack, secret: str) -> openai.AsyncOpenAI:
    return stack.sdk().with_options(api_key=secret)


def usage(stack: Stack) -> dict[str, dict[str, int]]:
    with stack.redis_client() as client:
        rows: dict[str, dict[str, int]] = {}
        for day in client.scan_iter("backline:usage:2*"):
            for name, value in client.hgetall(day).items():  # type: ignore[union-attr]
                key, _, what = name.decode().split(" ")
                rows.setdefault(key, {})[what] = int(value)
        return rows


async def test_a_key_opens_the_sdks_and_a_wrong_one_does_not(new_stack: NewStack) -> None:
    stack = new_stack(slots=4)
    key_id, secret = new_key(stack, "--limit", "requests_per_day=2")
    async with sdk(stack, secret) as client:
        answer = await ask(client, say("Hello."))
        assert answer.choices[0].message.content == "Hello."
        raw = await client.chat.completions.with_raw_response.create(
            model="agent", messages=[{"role": "user", "content": str(say("Hi."))}]
        )
        assert raw.headers["x-ratelimit-remaining-requests"] == "0"
        with pytest.raises(openai.RateLimitError) as caught:
            await ask(client, "Again.")
        assert caught.value.code == "insufficient_quota"
        assert caught.value.response.headers["x-ratelimit-limit-requests"] == "2"
        assert int(caught.value.response.headers["retry-after"]) > 0
    async with sdk(stack, "bl_wrong") as client:
        with pytest.raises(openai.AuthenticationError):
            await ask(client, "Hello.")
    used = usage(stack)[key_id]
    assert used["completed"] == 2
    assert used["output"] > 0


ROUNDS = int(os.environ.get("TEST_LIMIT_ROUNDS", "4"))


@pytest.mark.timeout(60 + 10 * ROUNDS)
async def test_over_two_replicas_exactly_as_many_pass_as_may(new_stack: NewStack) -> None:
    stack = new_stack(workers=0, stream_hold_s=0.2)
    with second_api(stack, stream_hold_s=0.2) as urls:
        for _ in range(ROUNDS):
            redis = connect(stack.redis_url)
            _, secret = await KeyStore(redis).create(Grant(limits=Limits(requests_per_minute=20)))
            await announce(redis)  # as if there were a worker: what is accepted waits
            await redis.aclose()
            async with httpx.AsyncClient(timeout=50, headers={"authorization": f"Bearer {secret}"}) as http:
                said = await asyncio.gather(*(status(http, urls[n % 2] + PATH) for n in range(50)))
            assert (said.count(200), said.count(429)) == (20, 30)


async def status(http: httpx.AsyncClient, url: str) -> int:
    async with http.stream("POST", url, json=body("Wait.", stream=True)) as answer:
        return answer.status_code


async def test_a_run_is_settled_although_its_replica_was_killed(new_stack: NewStack) -> None:
    stack = new_stack(slots=2)
    key_id, secret = new_key(stack, "--limit", "concurrent_runs=1")
    long = script(call(text("begun "), tokens(30, pace_ms=50)))
    async with sdk(stack, secret) as client:
        with pytest.raises(openai.APIError):  # noqa: PT012 - the stream is cut in its middle
            async for _ in stream(client, long):
                stack.api.kill()
    stack.start_api()
    stack.wait_ready()
    wait_for(lambda: key_id in usage(stack), 20, "the run is settled")
    assert usage(stack)[key_id]["requests"] == 1
    async with sdk(stack, secret) as client:
        await ask(client, say("There is a place again."))
    assert usage(stack)[key_id]["requests"] == 2


@pytest.mark.parametrize("entry", ["bearer", "x-api-key", "query", "body", "wrong"])
async def test_a_key_is_in_no_log_and_nowhere_in_redis(new_stack: NewStack, entry: str) -> None:
    stack = new_stack(slots=1, keys_in_requests="true", log_level="debug")
    _, secret = new_key(stack)
    sent = secret[:-1] + ("A" if secret[-1] != "A" else "B") if entry == "wrong" else secret
    asked: dict[str, Any] = {"json": body(say("Hello."), store=True)}
    if entry == "body":
        asked["json"]["api_key"] = sent
    elif entry == "query":
        asked["params"] = {"api_key": sent}
    else:
        asked["headers"] = (
            {"x-api-key": sent} if entry == "x-api-key" else {"authorization": f"Bearer {sent}"}
        )
    async with stack.http() as http:
        answer = await http.post(PATH, **asked)
        assert answer.status_code == (401 if entry == "wrong" else 200), answer.text
    logs = "".join(path.read_text(errors="replace") for path in stack.root.glob("*.log"))
    assert "request" in logs
    for each in (logs, answer.text, "".join(redis_dump(stack).values())):
        assert sent[10:40] not in each


@contextmanager
def second_api(stack: Stack, **settings: object) -> Iterator[list[str]]:
    """Another API on the same Redis; gives the addresses of both."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    argv = [BACKLINE, "api", "--port", str(port), "--redis-url", stack.redis_url]
    env = clean_environ(stack.root) | {f"BACKLINE_{n.upper()}": str(v) for n, v in settings.items()}
    server = Server(argv, env=env, cwd=stack.root, log=stack.root / "api2.log")
    try:
        wait_for(lambda: listens(port), 30, "the second API answers")
        yield [stack.url, f"http://127.0.0.1:{port}"]
    finally:
        server.ask_to_end()
        server.exit_code()


def listens(port: int) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(f"http://127.0.0.1:{port}/health", timeout=5).status_code == 200
    return False


async def test_a_batch_may_no_more_than_the_key_that_made_it(new_stack: NewStack) -> None:
    stack = new_stack(slots=4)
    key_id, secret = new_key(stack, "--agent", "other", "--limit", "requests_per_day=1")
    models = {"own": "other", "foreign": "agent", "beyond": "other"}
    lines = [
        {"custom_id": name, "method": "POST", "url": PATH, "body": body(say("Ok.")) | {"model": model}}
        for name, model in models.items()
    ]
    async with sdk(stack, secret) as client:
        content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        file = await client.files.create(file=("in.jsonl", content), purpose="batch")
        batch = await client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        async with asyncio.timeout(50):
            while batch.status != "completed":
                await asyncio.sleep(0.2)
                batch = await client.batches.retrieve(batch.id)
        assert batch.error_file_id is not None
        failed = (await client.files.content(batch.error_file_id)).text.splitlines()
    codes = {line["custom_id"]: line["response"]["body"]["error"]["code"] for line in map(json.loads, failed)}
    assert codes.pop("foreign") == "model_not_found"
    assert list(codes.values()) == ["insufficient_quota"]  # of the two lines the first to come has passed
    assert usage(stack)[key_id]["completed"] == 1
