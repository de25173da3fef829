"""A run's own page: its text as it comes, its tools, its end; and the filters of the table."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from playwright.async_api import expect

from scripted_model import call, say, script, text, use_tool
from tests.browser.conftest import READER, Visit
from tests.support.stack import Stack

pytestmark = pytest.mark.asyncio(loop_scope="session")

WORDS = [f"word{n}" for n in range(40)]


async def begin(admin: httpx.AsyncClient, prompt: object) -> str:
    """Begin a run that goes on by itself."""
    body = {"model": "agent", "stream": True, "messages": [{"role": "user", "content": f"Please. {prompt}"}]}
    headers = {"x-backline-on-disconnect": "continue"}
    async with admin.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
        return str(answer.headers["x-backline-run-id"])


async def test_a_run_is_watched_to_its_end(visit: Visit, admin: httpx.AsyncClient) -> None:
    steps = (call(use_tool("Bash", {"command": "echo hello"})), call(text(" ".join(WORDS), pace_ms=60)))
    run = await begin(admin, script(*steps))
    page = await visit.open(f"/runs/{run}")
    said = page.locator(".attempt .text")
    await expect(said).to_contain_text("word2")
    assert WORDS[-1] not in await said.inner_text()
    await expect(page.locator("#story[data-over]")).to_be_visible()
    assert (await said.inner_text()).split() == WORDS
    await expect(page.locator("details.tool")).to_contain_text("Bash")
    await expect(page.locator(".title .state")).to_have_text("completed")


async def test_a_run_is_cancelled(visit: Visit, admin: httpx.AsyncClient) -> None:
    run = await begin(admin, say(" ".join(WORDS * 20), pace_ms=50))
    page = await visit.open(f"/runs/{run}")
    page.on("dialog", lambda dialog: dialog.accept())
    await page.get_by_role("button", name="Cancel").click()
    await expect(page.locator(".attempt").last).to_contain_text("cancelled")
    assert (await admin.get(f"/v1/runs/{run}")).json()["state"] == "cancelled"


async def test_the_filter_stands_in_the_address(visit: Visit, admin: httpx.AsyncClient) -> None:
    run = await begin(admin, say("Short."))
    while (await admin.get(f"/v1/runs/{run}")).json()["state"] != "completed":  # noqa: ASYNC110 - over HTTP
        await asyncio.sleep(0.05)
    page = await visit.open("/runs")
    await expect(page.locator(f"#{run}")).to_be_visible()
    await page.get_by_label("State").select_option("failed")
    await page.wait_for_url("**state=failed**")
    await expect(page.locator(f"#{run}")).to_have_count(0)


async def test_another_tenants_run_is_not_seen(
    stranger: Visit, admin: httpx.AsyncClient, board: Stack
) -> None:
    run = await begin(admin, say("A secret."))
    await stranger.log_in(READER)
    page = await stranger.open(f"/runs/{run}")
    await expect(page.get_by_text("There is no run with the id")).to_be_visible()
    page = await stranger.open("/runs")
    await expect(page.get_by_text("No runs here.")).to_be_visible()
