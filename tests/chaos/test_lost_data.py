"""Valkey comes back without its data: loud, and nobody waits."""

from __future__ import annotations

import asyncio

from scripted_model import script, stall, text, tokens
from tests.conftest import NewStack
from tests.support.asking import PATH, ask, body, first_text, open_stream, text_of
from tests.support.waiting import eventually

_ANSWER_S = 30


async def test_everybody_hears_of_lost_data(new_stack: NewStack, marker: str) -> None:
    stack = new_stack(slots=3)
    held = script(text("one "), stall(60))
    async with stack.http() as http, stack.sdk() as sdk:
        assert (await http.get("/ready")).json()["data_lost_at"] is None
        async with open_stream(http, marker, script(tokens(400, pace_ms=50))) as (_, lines):
            await first_text(lines)
            whole = asyncio.create_task(http.post(PATH, json=body(marker, held)))
            background = (
                await http.post(
                    "/v1/responses",
                    json={"model": "agent", "input": f"{marker} {held}", "background": True},
                )
            ).json()
            await eventually(lambda: len(stack.cli_processes()) >= 3, 20, "three runs are under way")
            waiting = asyncio.create_task(http.post(PATH, json=body(marker, script(text("never")))))
            await eventually(lambda: stack.waiting("agent") == 4, 10, "a fourth waits")
            stack.redis.kill()
            stack.start_redis()
            async with asyncio.timeout(_ANSWER_S):
                assert '"run_lost"' in "".join([line async for line in lines])
                for task in (whole, waiting):
                    answer = await task
                    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "run_lost")
                    assert answer.headers["x-should-retry"] == "false"
                assert (await http.get(f"/v1/responses/{background['id']}")).status_code == 404
        await eventually(lambda: not stack.cli_processes(), 15, "their CLIs are gone")
        await asyncio.to_thread(stack.wait_ready)
        assert (await http.get("/ready")).json()["data_lost_at"] > 0
        assert text_of(await ask(sdk, marker, script(text("on we go")))) == "on we go"


async def test_readiness_says_what_was_lost_while_no_worker_is_there(new_stack: NewStack) -> None:
    stack = new_stack()
    async with stack.http() as http:
        assert (await http.get("/ready")).status_code == 200
        worker = stack.workers.pop()
        worker.ask_to_end()
        assert await asyncio.to_thread(worker.exit_code) == 0
        stack.redis.kill()
        stack.start_redis()

        async def said() -> str:
            return str((await http.get("/ready")).json()["reason"])

        async with asyncio.timeout(10):
            while "lost its data" not in await said():
                await asyncio.sleep(0.1)
