"""Each page: no serious finding of axe, nothing wider than a phone, and all of it by keyboard."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from scripted_model import call, fail, say, script, text, think, use_tool
from tests.browser.conftest import ADMIN, Visit, vendored
from tests.browser.lines import a_batch
from tests.support.stack import Stack

pytestmark = pytest.mark.asyncio(loop_scope="session")

AXE = vendored("axe.min.js")
PAGES = ("", "/playground", "/runs", "/workers", "/agents", "/sessions", "/batches", "/dead", "/keys")
SIZES = ((360, 740), (1440, 900))
SHOTS = os.environ.get("DASHBOARD_SHOTS")
"""A directory for pictures of all pages, to be looked at."""
RUN_AXE = "axe.run(document, { resultTypes: ['violations'] })"


async def ask(admin: httpx.AsyncClient, prompt: object) -> dict[str, Any]:
    body = {"model": "agent", "messages": [{"role": "user", "content": f"Please. {prompt}"}]}
    return dict((await admin.post("/v1/chat/completions", json=body)).json())


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def paths(admin: httpx.AsyncClient, board: Stack) -> list[str]:
    """All pages, with something on each."""
    broken = {"mcpServers": {"shop": {"command": "not-there-at-all"}}}
    (board.root / "agents/other/.mcp.json").write_text(json.dumps(broken))
    steps = (call(think("Hm."), use_tool("Bash", {"command": "echo hello"})), call(text("# Done\n\n`x`")))
    done = await ask(admin, script(*steps))
    await ask(admin, script(fail(400)))
    batch = await a_batch(admin)
    for _ in range(200):
        if (await admin.get(f"/v1/batches/{batch}")).json()["status"] == "completed":
            break
        await asyncio.sleep(0.1)
    session = done["backline"]["session_id"]
    return [*PAGES, f"/sessions/{session}", f"/batches/{batch}", f"/runs/{done['backline']['run_id']}"]


async def violations(page: Page) -> list[str]:
    await page.evaluate(AXE)
    found = (await page.evaluate(RUN_AXE))["violations"]
    return [
        f"{each['id']}: {node['html'][:200]}: {node.get('failureSummary', '')[:200]}"
        for each in found
        if each["impact"] in {"serious", "critical"}
        for node in each["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_no_serious_finding_and_nothing_too_wide(visit: Visit, paths: list[str], scheme: Any) -> None:
    page = visit.page
    await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    for path in paths:
        await visit.open(path)
        for width, height in SIZES:
            await page.set_viewport_size({"width": width, "height": height})
            is_wide = await page.evaluate("document.documentElement.scrollWidth > innerWidth")
            assert not is_wide, f"{path} is wider than {width}"
            if SHOTS:
                await page.wait_for_timeout(1200)
                name = path.strip("/").split("/")[0] + ("-one" if path.count("/") > 1 else "")
                await page.screenshot(
                    path=Path(SHOTS) / f"{name or 'overview'}-{scheme}-{width}.png", full_page=True
                )
        assert await violations(page) == [], path


async def test_the_log_in_has_no_serious_finding(stranger: Visit) -> None:
    page = await stranger.open("/login")
    assert await violations(page) == []


async def test_all_of_it_by_keyboard(stranger: Visit) -> None:
    page = await stranger.open("/playground")
    await expect(page.get_by_label("API key")).to_be_focused()
    await page.keyboard.type(ADMIN)
    await page.keyboard.press("Enter")
    await page.get_by_role("heading", name="Playground").wait_for()
    await tab_to(page, "prompt")
    await page.keyboard.type(f"By keys. {say('I hear you.')}")
    await page.keyboard.press("Enter")
    await expect(page.locator(".answer")).to_have_text("I hear you.")
    await page.keyboard.press("Home")
    await tab_to(page, "theme")
    before = await page.evaluate("getComputedStyle(document.body).color")
    await page.keyboard.press("Enter")
    assert await page.evaluate("getComputedStyle(document.body).color") != before
    assert stranger.errors == []


async def tab_to(page: Page, element: str) -> None:
    for _ in range(60):
        if await page.evaluate("document.activeElement.id") == element:
            return
        await page.keyboard.press("Tab")
    raise AssertionError(f"{element} is not reached by Tab")


async def test_the_overview_is_live(visit: Visit, admin: httpx.AsyncClient) -> None:
    page = await visit.open("")
    ended = page.locator("[data-hint=errors]")
    await expect(page.locator("#link")).to_have_text("live")
    before = await ended.inner_text()
    await ask(admin, say("One more."))
    await expect(ended).not_to_have_text(before)
    await page.get_by_role("button", name="24 h").click()
    await expect(page.locator(".uplot")).to_have_count(4)


async def test_what_is_opened_stays_open_while_the_page_is_live(
    visit: Visit, admin: httpx.AsyncClient
) -> None:
    await ask(admin, say("So that its tools are known."))
    page = await visit.open("/agents")
    tools = page.locator("#tools-agent")
    await tools.locator("summary").click()
    await expect(tools.get_by_text("Bash", exact=True)).to_be_visible()
    await ask(admin, script(fail(400)))
    errors = page.locator("#agent-agent .plain li")
    run = (await admin.get("/v1/runs", params={"state": "failed", "limit": 1})).json()["data"][0]["id"]
    await expect(errors.first.get_by_role("link")).to_have_attribute("href", f"/dashboard/runs/{run}")
    await expect(tools).to_have_attribute("open", "")


async def test_a_table_is_live(visit: Visit, admin: httpx.AsyncClient) -> None:
    page = await visit.open("/runs")
    run = (await ask(admin, say("Look.")))["backline"]["run_id"]
    await expect(page.get_by_text(run)).to_be_visible()
